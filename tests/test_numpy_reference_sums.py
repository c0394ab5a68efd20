"""The reference's MMD, KID and CMMD: against loops over rows, other libraries, and by hand."""

from __future__ import annotations

import itertools
import math

import families
import numpy as np
import pytest
from slow_kernels import KERNELS, one_value, slow_matrix, two_sets

from fastgen import numpy_reference as reference
from fastgen.numpy_reference import Energy, Gaussian, Polynomial, discrepancy

# --- MMD ------------------------------------------------------------------------------------------


def slow_estimate(x, y, kernel, estimator) -> float:
    def mean(a, b, *, skip: bool) -> float:
        values = [
            one_value(r, s, kernel)
            for (i, r), (j, s) in itertools.product(enumerate(a), enumerate(b))
            if not (skip and i == j)
        ]
        return math.fsum(values) / len(values)

    skip = estimator == "unbiased"
    return mean(x, x, skip=skip) + mean(y, y, skip=skip) - 2 * mean(x, y, skip=False)


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
@pytest.mark.parametrize(("n", "m"), [(2, 2), (2, 7), (8, 5)])
def test_mmd_follows_the_definition(kernel, estimator, n, m):
    x, y = two_sets("mmd", n=n, m=m)
    found = reference.mmd(x, y, kernel, estimator)
    assert found.value == pytest.approx(slow_estimate(x, y, kernel, estimator), abs=1e-13)
    assert (found.n, found.m, found.p_value) == (n, m, None)
    assert math.isnan(found.standard_error) == (min(n, m) < 4)


def test_mmd_by_hand():
    x, y = np.array([[0.0], [1.0]]), np.array([[1.0], [3.0]])
    # (xy + 1)^3: off the diagonals 1 and 64; between the sets 1, 1, 8, 64; diagonals 1 8, 8 1000.
    assert reference.mmd(x, y).value == 1 + 64 - 37.0
    assert reference.mmd(x, y, estimator="biased").value == 11 / 4 + (128 + 1008) / 4 - 37
    # Distances 1 and 2, and 1, 3, 0, 2 between the sets.
    assert reference.mmd(x, y, Energy()).value == 2 * 1.5 - 1 - 2
    assert reference.mmd(x, y, Energy(), "biased").value == 2 * 1.5 - 0.5 - 1
    single = reference.mmd(x[:1], y[:1], Energy(), "biased")
    assert single.value == 2.0
    assert math.isnan(single.standard_error)


def test_a_list_of_kernels_gives_a_list():
    x, y = two_sets("list", n=7, m=6)
    found = reference.mmd(x, y, KERNELS[:5], permutations=9, seed=3)
    alone = [reference.mmd(x, y, kernel, permutations=9, seed=3) for kernel in KERNELS[:5]]
    assert found == alone


def test_mmd_with_energy_is_the_energy_distance():
    stats = pytest.importorskip("scipy.stats")
    x, y = two_sets("energy", n=40, m=31, d=1)
    # scipy's is the root of twice the squared area between the distribution functions.
    expected = stats.energy_distance(x[:, 0], y[:, 0]) ** 2
    assert reference.mmd(x, y, Energy(), "biased").value == pytest.approx(expected, rel=1e-12)


def test_mmd_of_a_degree_1_polynomial_is_the_distance_of_the_means():
    x, y = two_sets("linear", n=40, m=31)
    expected = float(np.sum((x.mean(axis=0) - y.mean(axis=0)) ** 2))
    found = reference.mmd(x, y, Polynomial(degree=1, gamma=1.0, coef0=5.0), "biased").value
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
@pytest.mark.parametrize("family", ["relu", "integers", "half_equal"])
def test_biased_mmd_of_a_set_and_its_copy_is_zero(kernel, family):
    x, _ = families.DATA_FAMILIES[family](families.seeded("equal"), 60, 17, "float32")
    for other in (x, x.copy(), x.astype("float64")):
        found = reference.mmd(x, other, kernel, "biased")
        assert found.value == pytest.approx(0.0, abs=1e-13 * reference.mmd(x, -x, kernel).value)
    backwards = reference.mmd(x, x[::-1], kernel, "biased").value
    assert backwards == pytest.approx(0.0, abs=1e-13 * reference.mmd(x, -x, kernel).value)
    if all(not isinstance(part, Polynomial) for part in kernel.parts()):
        assert (found.value, backwards) == (0.0, 0.0)


# --- the standard error ---------------------------------------------------------------------------


def slow_variance(k, k_y, c) -> tuple[float, float]:
    """Return the variance of A + B - 2C in its two orders, from loops over rows that all differ."""
    n, m = c.shape
    xs, ys = range(n), range(m)

    def mean(values) -> float:
        values = list(values)
        return math.fsum(values) / len(values)

    def within(k, c, xs, ys) -> tuple[float, float, float]:
        n, three = len(xs), list(itertools.permutations(xs, 3))
        squared = mean(k[i, j] * k[p, q] for i, j, p, q in itertools.permutations(xs, 4))
        one = mean(k[i, j] * k[i, p] for i, j, p in three) - squared
        both = mean(k[i, j] ** 2 for i, j in itertools.permutations(xs, 2)) - squared
        apart = mean(k[i, j] * c[p, y] for i, j, p in three for y in ys)
        joined = mean(k[i, j] * c[i, y] for i, j in itertools.permutations(xs, 2) for y in ys)
        pairs = n * (n - 1)
        return 4 * (n - 2) / pairs * one + 2 / pairs * both, 2 / n * (joined - apart), one

    var_a, cov_a, one_a = within(k, c, xs, ys)
    var_b, cov_b, one_b = within(k_y, c.T, ys, xs)
    xs2, ys2 = list(itertools.permutations(xs, 2)), list(itertools.permutations(ys, 2))
    squared = mean(c[i, y] * c[j, z] for i, j in xs2 for y, z in ys2)
    share_x = mean(c[i, y] * c[i, z] for i in xs for y, z in ys2) - squared
    share_y = mean(c[i, y] * c[j, y] for i, j in xs2 for y in ys) - squared
    var_c = (m - 1) * share_x + (n - 1) * share_y + mean((c * c).ravel()) - squared
    whole = var_a + var_b + 4 * var_c / (n * m) - 4 * cov_a - 4 * cov_b
    first_order = 4 * (one_a + share_x - n * cov_a) / n + 4 * (one_b + share_y - m * cov_b) / m
    return first_order, whole - first_order


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
@pytest.mark.parametrize(("n", "m"), [(4, 4), (4, 7), (6, 5)])
def test_standard_error_follows_the_definition(kernel, n, m):
    x, y = two_sets("error", n=n, m=m)
    matrices = (slow_matrix(a, b, kernel) for a, b in ((x, x), (y, y), (x, y)))
    expected = math.sqrt(sum(max(part, 0.0) for part in slow_variance(*matrices)))
    for estimator in ("unbiased", "biased"):
        found = reference.mmd(x, y, kernel, estimator).standard_error
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("kernel", [Polynomial(), Gaussian(1.0), Energy()], ids=str)
@pytest.mark.parametrize(("n", "m"), [(4, 4), (4, 5), (5, 4)])
@pytest.mark.parametrize("step", [1.0, 2.0])
def test_variance_is_unbiased_over_every_possible_sample(kernel, n, m, step):
    # x is 0 or 1 and y 0 or `step`, each half of the time: all samples are equally likely.
    points = np.array([[0.0], [1.0], [step]])
    table = reference.kernel_matrix(points, points, kernel)
    values, variances = [], []
    for x, y in itertools.product(
        itertools.product([0, 1], repeat=n), itertools.product([0, 2], repeat=m)
    ):
        xx, xy, yy = (table[np.ix_(a, b)] for a, b in ((x, x), (x, y), (y, y)))
        values.append(discrepancy._estimate(xx, xy, yy, unbiased=True))
        xx, yy = discrepancy._off_diagonal(xx), discrepancy._off_diagonal(yy)
        variances.append(sum(discrepancy._variance_parts(xx, xy, yy)))
    assert np.mean(variances) == pytest.approx(np.var(values), rel=1e-9)
    # And what it estimates: MMD^2 of the two distributions themselves.
    weights = np.array([0.5, 0.5, 0.0]) - np.array([0.5, 0.0, 0.5])
    assert np.mean(values) == pytest.approx(weights @ table @ weights, abs=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_standard_error_is_the_spread_over_fresh_draws(shift):
    rng = families.seeded("spread")
    found = [
        reference.mmd(rng.standard_normal((30, 4)), rng.standard_normal((40, 4)) + shift)
        for _ in range(300)
    ]
    spread = np.std([one.value for one in found], ddof=1)
    # Of the mean square; clamping one part makes it too large under the null, never too small.
    error = math.sqrt(np.mean([one.standard_error**2 for one in found]))
    assert 0.85 < error / spread < (1.2 if shift else 1.5)


def test_a_function_of_either_row_changes_nothing():
    # k(x, y) - h(x) - h(y): why the engine may sum small numbers instead of large ones.
    x, y = two_sets("centred", n=7, m=9)
    h_x, h_y = 3 * families.seeded("h").standard_normal(16)[:7], np.linspace(-4, 4, 9)
    k_x, k_y, c = (slow_matrix(a, b, Energy()) for a, b in ((x, x), (y, y), (x, y)))
    k_x_h, k_y_h = k_x - h_x[:, np.newaxis] - h_x, k_y - h_y[:, np.newaxis] - h_y
    c_h = c - h_x[:, np.newaxis] - h_y
    for unbiased in (True, False):
        plain = discrepancy._estimate(k_x, c, k_y, unbiased)
        assert discrepancy._estimate(k_x_h, c_h, k_y_h, unbiased) == pytest.approx(plain, rel=1e-12)
    plain = discrepancy._standard_error(k_x, c, k_y)
    assert discrepancy._standard_error(k_x_h, c_h, k_y_h) == pytest.approx(plain, rel=1e-10)


# --- permutations ---------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
@pytest.mark.parametrize("kernel", [Polynomial(), Energy(), Gaussian("median")], ids=str)
@pytest.mark.parametrize("seed", [None, 11])
def test_p_value_counts_relabelled_sets(estimator, kernel, seed):
    x, y = two_sets("labels", n=6, m=9)
    pooled = np.concatenate([x, y])
    if kernel == Gaussian("median"):  # of both sets, whatever the labels
        kernel = Gaussian(reference.median_distance(x, y, seed))
    rng = np.random.default_rng(0 if seed is None else seed)
    true_value = reference.mmd(x, y, kernel, estimator).value
    count = 0
    for _ in range(50):
        order = rng.permutation(15)
        value = reference.mmd(pooled[order[:6]], pooled[order[6:]], kernel, estimator).value
        count += value >= true_value - 1e-12
    found = reference.mmd(x, y, kernel, estimator, permutations=50, seed=seed)
    assert found.p_value == (1 + count) / 51
    assert 1 < count < 50
    assert found.value == true_value


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_a_relabelling_that_is_the_true_one_ties(kernel):
    # Of two rows against two, and of one against three: many relabellings change nothing, and
    # exchanging the sets does not either.
    rows, _ = two_sets("ties", n=4, m=1, d=40)
    for n in (1, 2):
        rng, same = np.random.default_rng(2), 0
        for _ in range(30):
            chosen = set(rng.permutation(4)[:n].tolist())
            same += chosen in (set(range(n)), set(range(n, 4)))
        far = np.concatenate([rows[:n], 10 + 3 * rows[n:]])
        found = reference.mmd(far[:n], far[n:], kernel, "biased", permutations=30, seed=2)
        assert same > 3
        assert found.p_value >= (1 + same) / 31


def test_p_values_of_far_and_of_equal_sets():
    x, y = two_sets("far", n=20, m=20)
    assert reference.mmd(x, y + 9, permutations=39, seed=1).p_value == 1 / 40
    assert reference.mmd(x, x, Energy(), "biased", permutations=39, seed=1).p_value == 1.0


# --- KID and CMMD ---------------------------------------------------------------------------------


def test_kid_of_the_full_sample_is_mmd():
    real, fake = two_sets("kid", n=12, m=9)
    found, expected = reference.kid(real=real, fake=fake), reference.mmd(real, fake)
    assert found == reference.KID(expected.value, expected.standard_error)
    found = reference.kid(real=real, fake=fake, degree=2, gamma=0.3, coef0=0.0)
    assert found.mean == reference.mmd(real, fake, Polynomial(2, 0.3, 0.0)).value


def test_kid_of_subsets_is_a_loop():
    real, fake = two_sets("subsets", n=40, m=30)
    rng = np.random.default_rng(4)
    values, rows = [], ([], [])
    for _ in range(6):
        i, j = rng.choice(40, 10, replace=False), rng.choice(30, 10, replace=False)
        x, y = real[i], fake[j]
        k_x, k_y, c = (slow_matrix(a, b, Polynomial()) for a, b in ((x, x), (y, y), (x, y)))
        inner = (k_x.sum() - np.trace(k_x) + k_y.sum() - np.trace(k_y)) / 90
        values.append(inner - 2 * c.sum() / 100)
        rows[0].append(i)
        rows[1].append(j)
    found = reference.kid(real=real, fake=fake, subsets=6, subset_size=10, seed=4)
    assert found.mean == pytest.approx(np.mean(values), rel=1e-12)
    assert found.std == pytest.approx(np.sqrt(np.mean((values - np.mean(values)) ** 2)), rel=1e-12)
    assert reference.kid(real=real, fake=fake, subset_indices=rows) == found
    smaller = reference.kid(
        real=real, fake=fake, subset_indices=(np.array(rows[0])[:1], np.array(rows[1])[:1, :4])
    )
    assert smaller.std == 0.0
    expected = reference.mmd(real[rows[0][0]], fake[rows[1][0][:4]])
    assert smaller.mean == expected.value


def test_cmmd_by_hand():
    # Unit vectors along the axes, whatever their length: squared distances 0 and 2.
    real, fake = np.array([[5.0, 0.0], [0.1, 0.0]]), np.array([[0.0, 1e-200], [3.0, 0.0]])
    near = math.expm1(-0.01)
    expected = 1000 * (0.0 + near / 2 - 2 * near / 2)
    found = reference.cmmd(real=real, fake=fake)
    assert found.value == pytest.approx(expected, rel=1e-14)
    assert (found.n, found.m, found.p_value) == (2, 2, None)


def test_cmmd_keeps_the_digits_of_a_small_difference():
    rng = families.seeded("cmmd")
    real = rng.standard_normal((40, 16))
    fake = real + 1e-6 * rng.standard_normal(real.shape)
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (real, fake)]
    # exp(-t) = 1 - t + t^2 / 2 - ...: the first term gives the distance of the means.
    first = np.sum((unit[0].mean(axis=0) - unit[1].mean(axis=0)) ** 2) / 100
    found = reference.cmmd(real=real, fake=fake)
    assert found.value == pytest.approx(1000 * first, rel=0.05)
    exact = reference.mmd(*unit, Gaussian(10.0), "biased")
    assert found.value == pytest.approx(1000 * exact.value, rel=1e-6)
    assert found.standard_error == pytest.approx(1000 * exact.standard_error, rel=1e-6)


# --- evaluate, and what is refused ----------------------------------------------------------------


def test_evaluate_knows_the_sums():
    real, fake = two_sets("evaluate", n=12, m=9)
    sets = {"real": real, "fake": fake}
    names = ["cmmd", "precision_recall", "mmd", "kid"]
    reports = reference.evaluate(**sets, metrics=names, k=[2, 3], ties="open")
    for report, k in zip(reports, (2, 3), strict=True):
        assert report == {
            "cmmd": reference.cmmd(**sets),
            "precision_recall": reference.precision_recall(**sets, k=k, ties="open"),
            "mmd": reference.mmd(real, fake),
            "kid": reference.kid(**sets),
        }
    few = {"real": real[:2], "fake": fake[:2]}
    assert list(reference.evaluate(**few, metrics=["kid"])) == ["kid"]  # k = 5 is not looked at
    with pytest.raises(ValueError, match=r"`k` in \[1, 1\], got 5"):
        reference.evaluate(**few)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda x: reference.mmd(x, x, estimator="both"), '"unbiased" or "biased", got'),
        (lambda x: reference.mmd(x[:1], x), "`x` with at least 2 rows, got 1"),
        (lambda x: reference.mmd(x, x[:, :1]), "`y` with 2 columns as `x`, got 1"),
        (lambda x: reference.mmd(x, x, permutations=-1), "`permutations` of at least 0"),
        (lambda x: reference.mmd(0 * x, 0 * x, Gaussian("median")), "median distance above 0"),
        (lambda x: reference.kernel_sums(x, x[0]), r"`y` of shape \(n, d\)"),
        (
            lambda x: reference.kernel_sums(x[:1], kernel=Gaussian("median")),
            "median distance above 0",
        ),
        (lambda x: reference.kid(real=x, fake=x[:1]), "`fake` with at least 2 rows, got 1"),
        (lambda x: reference.kid(real=x, fake=x, subsets=2), r"in \[2, 3\], got 1000"),
        (lambda x: reference.kid(real=x, fake=x, subsets=2, subset_size=1), "got 1"),
        (lambda x: reference.kid(real=x, fake=x, subsets=0, subset_size=2), "`subsets` of at"),
        (
            lambda x: reference.kid(real=x, fake=x, subsets=1, subset_indices=([[0]], [[0]])),
            "got both",
        ),
        (lambda x: reference.kid(real=x, fake=x, subset_indices=([[0, 3]], [[0, 1]])), r"\[0, 3\)"),
        (lambda x: reference.kid(real=x, fake=x, subset_indices=([0, 1], [0, 1])), r"\(S, a\)"),
        (lambda x: reference.kid(real=x, fake=x, subset_indices=([[0]], [[1]])), "at least 2"),
        (lambda x: reference.cmmd(real=x, fake=0 * x), "`fake` without zero rows, got one at 0"),
    ],
)
def test_bad_arguments_are_refused(call, text):
    with pytest.raises(ValueError, match=text):
        call(np.arange(6.0).reshape(3, 2) + 1)
