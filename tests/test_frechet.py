"""The Frechet distance of two normal distributions: closed forms, known factors, 60 digits."""

from __future__ import annotations

import math

import frechet_cases
import numpy as np
import pytest
from checks import assert_same_bits
from families import seeded
from frechet_cases import CONDITIONS, KINDS, WAYS, distance, from_roots, graded_roots, rotation
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgen import frechet_distance
from fastgen.numpy_reference.frechet import frechet_distance as reference

METHODS = ("auto", "eigh", "newton_schulz", "eigvals")
DIMENSIONS = (1, 2, 3, 5, 16, 64)


def trace(*covariances):
    return math.fsum(float(s.trace()) for s in covariances)


# --- closed forms ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_one_feature(method):
    mean, s = np.array([[1.0], [3.5]]), np.array([[[4.0]], [[9.0]]])
    found = frechet_distance(mean[0], s[0], mean[1], s[1], method)
    assert found.mean_term == 6.25
    assert found.covariance_term == pytest.approx(1.0, abs=1e-14)
    assert found.value == found.mean_term + found.covariance_term
    assert found.method == ("eigh" if method == "auto" else method)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("spread", [1.0, 1e4, 1e16, 1e100])
def test_diagonal(way, spread):
    a, b = np.geomspace(1, 1 / spread, 20), np.geomspace(1 / spread, 1, 20)
    a[3] = b[7] = 0.0
    found = distance(np.diag(a), np.diag(b), way)
    expected = math.fsum((np.sqrt(a) - np.sqrt(b)) ** 2)
    tolerance = 1e-14 * math.fsum([*a, *b])
    assert abs(found.value - expected) <= min(tolerance, found.error_bound)


@pytest.mark.parametrize("way", [*WAYS, "eigvals"])
def test_commuting(way):
    rng = seeded("frechet", "commuting")
    q = rotation(rng, 30)
    a, b = rng.uniform(0.5, 2.0, 30), rng.uniform(0.1, 5.0, 30)
    found = distance(q * a @ q.T, q * b @ q.T, way)
    expected = math.fsum((np.sqrt(a) - np.sqrt(b)) ** 2)
    assert abs(found.value - expected) <= 1e-14 * math.fsum([*a, *b])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("d", [2, 7, 40])
def test_rank_one(way, d):
    # With a single column each, the factors are vectors u and v, and the fidelity is |u' v|.
    u, v = seeded("frechet", "rank one", d).standard_normal((2, d))
    found = distance(np.outer(u, u), np.outer(v, v), way)
    expected = u @ u + v @ v - 2 * abs(u @ v)
    assert abs(found.value - expected) <= min(1e-13 * (u @ u + v @ v), found.error_bound)


@pytest.mark.parametrize("way", WAYS)
def test_zero_covariances(way):
    s = np.diag([4.0, 1.0, 0.0])
    for first, second, expected in ((0 * s, s, 5.0), (s, 0 * s, 5.0), (0 * s, 0 * s, 0.0)):
        found = distance(first, second, way)
        assert found.value == expected
        assert found.error_bound <= 1e-13


@pytest.mark.parametrize("method", METHODS)
def test_a_shift_alone(method):
    s = np.cov(seeded("frechet", "shift").standard_normal((4, 30)))
    found = frechet_distance(np.zeros(4), s, np.array([1, 2, 2, 4]), s, method)
    assert found.mean_term == 25.0
    assert found.covariance_term <= 1e-14 * trace(s)
    assert found.value == found.mean_term + found.covariance_term


def test_a_small_distance_of_means_keeps_its_digits():
    # 1e9 standard deviations from 0, and a distance of 2^-20 that is exact there.
    mean = np.full(3, 2.0**30)
    found = frechet_distance(mean, np.eye(3), mean + 2.0**-20, np.eye(3))
    assert found.mean_term == 3 * 2.0**-40


# --- accuracy -------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", DIMENSIONS)
@pytest.mark.parametrize(
    ("condition", "tolerance"), [(1.0, 1e-14), (1e4, 1e-12), (1e8, 1e-11), (1e12, 1e-9)]
)
@pytest.mark.parametrize("kind", KINDS)
def test_ill_conditioned_covariances(d, condition, tolerance, kind):
    rng = seeded("frechet", "condition", d, str(condition), kind)
    for _ in range(1 if d == 64 else 3):
        roots = graded_roots(rng, d, condition, kind)
        expected, traces = from_roots(*roots)
        s_1, s_2 = (root @ root.T for root in roots)
        for way in WAYS:
            found = distance(s_1, s_2, way)
            assert found.value >= 0
            assert abs(found.value - expected) <= min(tolerance * traces, found.error_bound), way


@pytest.mark.parametrize("d", [2, 3, 5, 16, 64])
@pytest.mark.parametrize("kind", KINDS)
def test_a_condition_number_beyond_float64(d, kind):
    # The smallest eigenvalue is half an epsilon of the largest. Its root, 1e-8, counts where it
    # meets an eigenvalue of 1 in the other covariance: then it is lost where the factor is cut, and
    # at small d the rounding of the covariance has lost it before.
    rng = seeded("frechet", "beyond", d, kind)
    for _ in range(1 if d == 64 else 3):
        roots = graded_roots(rng, d, 1e16, kind)
        expected, traces = from_roots(*roots)
        s_1, s_2 = (root @ root.T for root in roots)
        for way in WAYS:
            found = distance(s_1, s_2, way)
            meets = kind in ("reversed", "identity")
            tolerance = 1e-7 if meets else 1e-9
            assert abs(found.value - expected) <= min(tolerance * traces, found.error_bound), way


@pytest.mark.parametrize("d", [1, 2, 3, 5, 16, 64])
def test_singular_covariances(d):
    rng = seeded("frechet", "singular", d)
    for name, *roots in frechet_cases.singular_roots(rng, d):
        expected, traces = from_roots(*roots)
        s_1, s_2 = (root @ root.T for root in roots)
        for way in WAYS:
            found = distance(s_1, s_2, way)
            where = f"rank {name}, {way}"
            assert found.value >= 0, where
            assert abs(found.value - expected) <= min(1e-9 * traces, found.error_bound), where


@pytest.mark.parametrize(("d", "bits"), [(4, 46), (16, 44), (64, 42)])
def test_covariances_that_are_not_rounded(d, bits):
    rng = seeded("frechet", "exact", d)
    for _ in range(10 if d < 64 else 3):
        roots = frechet_cases.exact_roots(rng, d, bits)
        expected, traces = from_roots(*roots)
        s_1, s_2 = (root @ root.T for root in roots)
        for way in WAYS:
            found = distance(s_1, s_2, way)
            assert abs(found.value - expected) <= min(1e-9 * traces, found.error_bound), way


@pytest.mark.parametrize("kind", [*KINDS, "singular"])
@pytest.mark.parametrize(("method", "d"), [("eigh", 512), ("newton_schulz", 256)])
def test_many_features(kind, method, d):
    rng = seeded("frechet", "many", kind)
    if kind == "singular":
        roots = rng.standard_normal((d, d // 2)), rng.standard_normal((d, d // 3))
    else:
        roots = graded_roots(rng, d, 1e12, kind)
    expected, traces = from_roots(*roots)
    found = distance(*(root @ root.T for root in roots), method)
    assert abs(found.value - expected) <= min(1e-8 * traces, found.error_bound)


@pytest.mark.parametrize("way", WAYS)
def test_scales_of_features_do_not_matter(way):
    rng = seeded("frechet", "scales")
    scales = np.geomspace(1e-9, 1e9, 12)[:, np.newaxis]
    roots = [root * scales for root in rng.standard_normal((2, 12, 12))]
    expected, traces = from_roots(*roots)
    found = distance(*(root @ root.T for root in roots), way)
    assert abs(found.value - expected) <= min(1e-9 * traces, found.error_bound)
    assert found.error_bound <= 4e-6 * traces


# --- the bound ------------------------------------------------------------------------------------


@pytest.mark.parametrize("condition", [*CONDITIONS, 1e14, 1e15, 1e17])
def test_the_bound_bounds(condition):
    compared = 0
    for d in (1, 2, 3, 4, 6):
        rng = seeded("frechet", "bound", d, str(condition))
        for kind in KINDS:
            for _ in range(4 if d < 4 else 1):
                s_1, s_2 = (r @ r.T for r in graded_roots(rng, d, condition, kind))
                exact = frechet_cases.exactly(s_1, s_2)
                if exact is None:  # rounding has made it indefinite
                    continue
                compared += 1
                for way in WAYS:
                    found = distance(s_1, s_2, way)
                    where = f"{way}, d = {d}, {kind}"
                    assert abs(found.value - exact) <= found.error_bound, where
    assert compared >= 30


def test_the_bound_bounds_the_error_of_singular_covariances():
    # Factors of integers: their products are exact, and the covariances singular to the last bit.
    rng = seeded("frechet", "singular bound")
    for d, ranks in ((2, (1, 1)), (3, (1, 2)), (4, (2, 4)), (6, (3, 5)), (6, (6, 1))):
        s_1, s_2 = (r @ r.T for r in (rng.integers(-9, 10, (d, k)) * 1.0 for k in ranks))
        exact = frechet_cases.exactly(s_1, s_2)
        for way in WAYS:
            found = distance(s_1, s_2, way)
            assert abs(found.value - exact) <= min(found.error_bound, 1e-9 * trace(s_1, s_2))


@pytest.mark.parametrize("d", [1, 16, 64])
def test_the_bound_is_small_where_covariances_are_well_conditioned(d):
    rng = seeded("frechet", "small bound", d)
    s_1, s_2 = (np.atleast_2d(np.cov(rng.standard_normal((d, 6 * d + 4)))) for _ in range(2))
    assert distance(s_1, s_2, "eigh").error_bound <= 1e-11 * trace(s_1, s_2)
    for way in WAYS:
        assert distance(s_1, s_2, way).error_bound <= 1e-9 * trace(s_1, s_2)
    assert math.isnan(distance(s_1, s_2, "eigvals").error_bound)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("condition", CONDITIONS)
def test_the_bound_is_never_large(way, condition):
    rng = seeded("frechet", "large bound", str(condition))
    for d in (2, 5, 40):
        for kind in KINDS:
            s_1, s_2 = (root @ root.T for root in graded_roots(rng, d, condition, kind))
            assert distance(s_1, s_2, way).error_bound <= 4e-6 * trace(s_1, s_2), (d, kind)


# --- what has to hold whatever the numbers are ----------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("d", "rank"), [(1, 1), (6, 6), (30, 30), (30, 1), (30, 4), (30, 29)])
def test_equal_distributions_are_at_distance_zero(way, d, rank):
    root = seeded("frechet", "equal", d, rank).standard_normal((d, rank))
    s = root @ root.T
    found = distance(s, s, way)
    assert 0 <= found.value <= min(1e-10 * trace(s), found.error_bound)
    for condition in CONDITIONS:
        root, _ = graded_roots(seeded("frechet", "equal", d), d, condition, "identity")
        s = root @ root.T
        found = distance(s, s, way)
        tolerance = 1e-13 if way == "eigh" else 1e-9
        assert 0 <= found.value <= min(tolerance * trace(s), found.error_bound)


def pairs():
    """Yield pairs of covariances of all kinds, some with the same variances."""
    rng = seeded("frechet", "pairs")
    for d in (1, 2, 9, 40):
        for kind in KINDS:
            yield [root @ root.T for root in graded_roots(rng, d, 1e6, kind)]
        for _, *roots in frechet_cases.singular_roots(rng, d):
            yield [root @ root.T for root in roots]
        correlations = [np.corrcoef(rng.standard_normal((d, d + 5))) for _ in range(2)]
        yield [np.atleast_2d(s) for s in correlations]


def test_symmetric_in_its_arguments_to_the_bit():
    for s_1, s_2 in pairs():
        assert_same_bits(distance(s_2, s_1), distance(s_1, s_2))


def test_symmetric_to_the_bit_where_variances_agree():
    rng = seeded("frechet", "same variances")
    for _ in range(20):
        # Rank-one covariances of signs, and a common part: the variances are the same to the bit.
        signs = rng.choice([-1.0, 1.0], (2, 3, 9))
        s_1, s_2 = (np.einsum("ki,kj->ij", one, one) + np.diag(np.arange(9.0)) for one in signs)
        assert np.array_equal(s_1.diagonal(), s_2.diagonal())
        assert_same_bits(distance(s_2, s_1), distance(s_1, s_2))


@pytest.mark.parametrize("way", ["newton_schulz", "newton_schulz on torch", "eigvals"])
def test_symmetric_in_its_arguments(way):
    tolerance = 1e-7 if way == "eigvals" else 1e-10
    for s_1, s_2 in pairs():
        one, other = distance(s_1, s_2, way), distance(s_2, s_1, way)
        assert abs(one.value - other.value) <= tolerance * trace(s_1, s_2)


def test_powers_of_two_scale_the_distance_to_the_bit():
    for s_1, s_2 in pairs():
        expected = distance(s_1, s_2)
        for power in (-200, -7, 1, 200):
            c = 4.0**power
            found = distance(c * s_1, c * s_2)
            assert (found.value, found.error_bound) == (
                c * expected.value,
                c * expected.error_bound,
            )


@pytest.mark.parametrize("way", WAYS)
def test_a_feature_next_to_nothing_counts_for_nothing(way):
    s_1, s_2 = np.array([[2.0, 1.0], [1.0, 2.0]]), np.array([[1.0, -0.5], [-0.5, 3.0]])
    units = np.diag([1.0, 2.0**-100])
    found = distance(units @ s_1 @ units, units @ s_2 @ units, way)
    assert abs(found.value - (math.sqrt(2) - 1) ** 2) <= 1e-14
    assert found.error_bound <= 4e-6


@pytest.mark.parametrize("way", WAYS)
def test_rotations_change_nothing(way):
    rng = seeded("frechet", "rotations")
    q = rotation(rng, 12)
    for rank in (12, 7):
        roots = rng.standard_normal((2, 12, rank))
        one = distance(*(r @ r.T for r in roots), way)
        other = distance(*((q @ r) @ (q @ r).T for r in roots), way)
        assert abs(one.value - other.value) <= 1e-12 * (roots**2).sum()


@pytest.mark.parametrize("way", WAYS)
def test_translations_change_nothing(way):
    rng = seeded("frechet", "translations")
    means = rng.integers(-9, 10, (2, 5))
    s_1, s_2 = (r @ r.T for r in rng.standard_normal((2, 5, 5)))
    method = way.partition(" on ")[0]
    one = frechet_distance(means[0], s_1, means[1], s_2, method)
    other = frechet_distance(means[0] + 2**40, s_1, means[1] + 2**40, s_2, method)
    assert_same_bits(other, one)


@pytest.mark.parametrize("way", [*WAYS, "eigvals"])
def test_covariances_computed_in_float32(way):
    # Singular ones: rounding has made them indefinite, and one entry is off symmetry.
    x = seeded("frechet", "float32").standard_normal((10, 30)).astype("float32")
    s = (x.T @ x) / np.float32(9)
    s[0, 1] += np.float32(1e-7)
    assert np.linalg.eigvalsh(s.astype("f8"))[0] < -1e-8
    found = distance(s, 4 * s, way)
    assert found.value == pytest.approx(s.astype("f8").trace(), rel=1e-5)


@st.composite
def covariance(draw, d):
    rank = draw(st.integers(0, d))
    numbers = st.integers(-9, 9) | st.floats(-1, 1, allow_subnormal=False)
    root = np.array(
        draw(st.lists(numbers, min_size=d * rank, max_size=d * rank)), dtype=np.float64
    ).reshape(d, rank)
    root[np.abs(root) < 1e-30] = 0  # a variance below 1e-150 is refused
    exponents = draw(st.lists(st.integers(-9, 9), min_size=d, max_size=d))
    root *= 10.0 ** np.array(exponents)[:, np.newaxis]
    return root @ root.T


@given(st.integers(1, 5).flatmap(lambda d: st.tuples(covariance(d), covariance(d))))
@settings(max_examples=150)
def test_small_covariances_agree_with_the_reference(both):
    s_1, s_2 = both
    zeros = np.zeros(len(s_1))
    expected = reference(zeros, s_1, zeros, s_2)
    traces = trace(s_1, s_2)
    for method in ("eigh", "newton_schulz"):
        found = distance(s_1, s_2, method)
        assert 0 <= found.value <= traces * (1 + 1e-9)
        allowed = found.error_bound + expected.error_bound
        assert math.isfinite(allowed)
        assert abs(found.value - expected.value) <= allowed


# --- methods --------------------------------------------------------------------------------------


def test_auto_is_eigh_on_a_cpu():
    for s_1, s_2 in pairs():
        assert_same_bits(distance(s_1, s_2, "auto"), distance(s_1, s_2, "eigh"))


@pytest.mark.parametrize("d", [1, 3, 17, 40])
def test_eigvals_is_the_formula_of_others(d):
    rng = seeded("frechet", "peers", d)
    for rows in (2 * d + 2, max(2, d // 2)):  # singular, too
        s_1, s_2 = (np.atleast_2d(np.cov(rng.standard_normal((d, rows)))) for _ in range(2))
        values = np.linalg.eigvals(s_1 @ s_2).astype(np.complex128)
        expected = trace(s_1, s_2) - 2 * np.sqrt(values).sum().real
        found = distance(s_1, s_2, "eigvals")
        assert abs(found.value - max(expected, 0)) <= 1e-7 * trace(s_1, s_2)
        assert found.value >= 0
        assert abs(found.value - distance(s_1, s_2).value) <= 1e-6 * trace(s_1, s_2)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32", "bfloat16"])
@pytest.mark.parametrize("method", METHODS)
def test_torch_tensors(dtype, method):
    torch = pytest.importorskip("torch")
    s_1, s_2 = np.array([[4.0, 2.0], [2.0, 5.0]]), np.array([[9.0, -1.0], [-1.0, 1.0]])
    means = np.array([[1.0, 2.0], [4.0, 6.0]])
    arguments = means[0], s_1, means[1], s_2
    expected = frechet_distance(*arguments, method)
    tensors = [torch.tensor(a).to(getattr(torch, dtype)) for a in arguments]
    found = frechet_distance(*tensors, method)
    assert found.value == pytest.approx(expected.value, rel=1e-13)
    assert isinstance(found.value, float)
    assert found.mean_term == 25.0
    assert found.method == expected.method


def test_the_arguments_stay_as_they_are():
    rng = seeded("frechet", "untouched")
    root_1, root_2 = rng.standard_normal((2, 6, 6))
    arguments = rng.standard_normal(6), root_1 @ root_1.T, rng.standard_normal(6), root_2 @ root_2.T
    copies = [a.copy() for a in arguments]
    for a in arguments:
        a.flags.writeable = False
    for method in METHODS:
        frechet_distance(*arguments, method)
    assert_same_bits(list(arguments), copies)
    for order in ("C", "F"):
        found = frechet_distance(*(np.asarray(a, order=order) for a in arguments))
        assert_same_bits(found, frechet_distance(*copies))
