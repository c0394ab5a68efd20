"""The reference's densities: against exact arithmetic, integrals, other libraries, and by hand."""

from __future__ import annotations

import itertools
import math
import re
import tracemalloc
from decimal import Decimal, localcontext

import families
import numpy as np
import pytest
from checks import assert_same_bits

from fastgen import numpy_reference as reference
from fastgen.numpy_reference import distances

WORKED = np.array([[-2.1], [-1.3], [-0.4], [1.9], [5.1], [6.2]])
TWO_PI = 2 * Decimal("3.14159265358979323846264338327950288419716939937510582")


def two_sets(*key: int | str, n: int, m: int, d: int):
    rng = families.seeded("density", *key)
    return 1.2 * rng.standard_normal((n, d)) - 0.3, rng.standard_normal((m, d))


def some_covariance(d: int):
    rng = families.seeded("covariance", d)
    root = np.tril(0.3 * rng.standard_normal((d, d)), -1) + np.diag(rng.uniform(0.5, 2.0, d))
    return root @ root.T


# --- exact arithmetic -----------------------------------------------------------------------------


def exact_quadratic(t, covariance):
    """Return t' S^-1 t and det S by elimination on the bordered matrix, in Decimal."""
    a = [[Decimal(float(v)) for v in row] for row in covariance]
    t, det, quadratic = list(t), Decimal(1), Decimal(0)
    for i, pivot in enumerate(a):
        det *= pivot[i]
        quadratic += t[i] * t[i] / pivot[i]
        for j in range(i + 1, len(a)):
            factor = a[j][i] / pivot[i]
            a[j] = [u - factor * v for u, v in zip(a[j], pivot, strict=True)]
            t[j] -= factor * t[i]
    return quadratic, det


def exact(point, samples, h, covariance=None, weights=None):
    """Return (log-density, exponent of the nearest sample) from numbers of 50 digits."""
    with localcontext() as context:
        context.prec = 50
        h, d = Decimal(float(h)), len(point)
        weights = [Decimal(1)] * len(samples) if weights is None else [*map(Decimal, weights)]
        log_det, exponents = Decimal(0), []
        for sample in samples:
            t = [Decimal(float(a)) - Decimal(float(b)) for a, b in zip(point, sample, strict=True)]
            if covariance is None:
                quadratic = sum(v * v for v in t)
            else:
                quadratic, det = exact_quadratic(t, covariance)
                log_det = det.ln()
            exponents.append(quadratic / (2 * h * h))
        nearest = min(e for w, e in zip(weights, exponents, strict=True) if w)
        terms = [w * (nearest - e).exp() for w, e in zip(weights, exponents, strict=True)]
        log_p = (sum(terms) / sum(weights)).ln() - nearest
        return log_p - d * h.ln() - (d * TWO_PI.ln() + log_det) / 2, nearest


def error_bound(nearest, n: int, d: int, h: float) -> float:
    """Return what the module's first lines say of its error."""
    scale = (d / 32 + 8) * (float(nearest) + math.log(n))
    return 2.0**-52 * (scale + 2 * d * (abs(math.log(h)) + 1) + 20)


def assert_exact(point, samples, h, found):
    true, nearest = exact(point, samples, h)
    error = abs(Decimal(float(found)) - true)
    assert error <= error_bound(nearest, len(samples), len(point), h)


def test_the_worked_example():
    # The textbook figure of six bumps with variance 2.25, to 16 digits.
    (found,) = reference.log_density([[-0.5]], WORKED, 1.5)
    assert found == pytest.approx(-2.119071537833929, abs=2e-15)
    assert math.exp(found) == pytest.approx(0.1201431250894291, abs=2e-16)
    by_hand = sum(math.exp(-((-0.5 - y) ** 2) / 4.5) for y in WORKED[:, 0])
    assert math.exp(found) == pytest.approx(by_hand / (6 * 1.5 * math.sqrt(2 * math.pi)), rel=1e-15)


@pytest.mark.parametrize("d", [1, 2, 3, 17, 65])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_error_stays_within_what_is_stated(d, dtype):
    points, samples = (a.astype(dtype) for a in two_sets("exact", dtype, n=4, m=30, d=d))
    widths = [1e-6, 0.03, 0.5, 1.0, 7.0, 1e6]
    found = reference.log_density(points, samples, widths)
    assert found.shape == (4, 6)
    assert found.dtype == np.float64
    for (i, point), (j, h) in itertools.product(enumerate(points), enumerate(widths)):
        assert_exact(point, samples, h, found[i, j])


@pytest.mark.parametrize("far", [10.0, 1e4, 1e8, 1e100])
def test_far_points(far):
    _, samples = two_sets("far", n=1, m=20, d=3)
    points = np.array([[far, -far, far / 3], [0.0, 0.0, far]])
    for h in (0.01, 1.0):
        found = reference.log_density(points, samples, h)
        assert np.isfinite(found).all()
        for point, value in zip(points, found, strict=True):
            assert_exact(point, samples, h, value)


def test_minus_infinity_is_what_no_float64_can_hold():
    # |x|^2 / 2 h^2 = 1.28e308 still is one, 2e308 no longer.
    h = 1e-4
    found = reference.log_density([[1.6e150], [2e150]], [[0.0]], h)
    assert found.tolist() == [-math.inf, -math.inf]
    assert reference.log_density([[1.6e150]], [[0.0]], 1e-3)[0] == pytest.approx(-1.28e306)
    widths = [1e-4, 1.0]
    found = reference.log_density([[2e150]], [[0.0], [1.0]], widths)[0]
    assert found[0] == -math.inf
    assert found[1] == pytest.approx(-2e300)


def test_bandwidths_whose_squares_are_no_float64():
    widths = np.array([1e-200, 1e200])
    found = reference.log_density([[1.0]], [[0.0], [1.0]], widths)[0]
    peaks = -np.log(widths) - 0.5 * math.log(2 * math.pi)
    np.testing.assert_allclose(found, peaks - [math.log(2), 0.0], rtol=1e-15)


def test_one_sample_is_one_bump():
    for d in (1, 5, 784):
        point, sample = two_sets("one", n=3, m=1, d=d)
        found = reference.log_density(point, sample, 0.7)
        for row, value in zip(point, found, strict=True):
            square = math.fsum(((row - sample[0]) / 0.7) ** 2)
            expected = -square / 2 - d * math.log(0.7) - d / 2 * math.log(2 * math.pi)
            assert value == pytest.approx(expected, rel=1e-14)


def test_high_dimension():
    # Where a tree that adds up bounds may be wrong by hundreds of nats.
    points, samples = two_sets("high", n=2, m=120, d=784)
    for h in (0.9, len(samples) ** (-1 / 788)):
        for point, value in zip(points, reference.log_density(points, samples, h), strict=True):
            assert_exact(point, samples, h, value)
            sq = (point**2).sum() + (samples**2).sum(axis=1) - 2 * samples @ point
            lowest = sq.min() / (2 * h * h)
            log_sum = math.log(math.fsum(np.exp(lowest - sq / (2 * h * h)))) - lowest
            log_sum -= math.log(120) + 784 * math.log(h) + 392 * math.log(2 * math.pi)
            assert value == pytest.approx(log_sum, abs=1e-9)


@pytest.mark.parametrize("d", [1, 2, 6])
def test_covariance_in_exact_arithmetic(d):
    points, samples = two_sets("covariance", n=4, m=12, d=d)
    covariance = some_covariance(d)
    spread = np.sqrt(covariance.diagonal())
    condition = np.linalg.cond(covariance / np.outer(spread, spread))
    for h in (0.05, 1.3):
        found = reference.log_density(points, samples, h, covariance=covariance)
        for point, value in zip(points, found, strict=True):
            true, nearest = exact(point, samples, h, covariance)
            own = max(
                exact_quadratic(map(Decimal, row - samples.mean(axis=0)), covariance)[0]
                for row in (point, *samples)
            )
            exponents = d + float(nearest) + float(own) / (2 * h * h)
            bound = error_bound(nearest, 12, d, h) + 2.0**-52 * d * condition * exponents
            assert abs(Decimal(float(value)) - true) <= bound


# --- integrals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("h", [0.02, 0.7, "scott", "silverman"])
@pytest.mark.parametrize("weighted", [False, True])
def test_density_integrates_to_one_on_a_line(h, weighted):
    weights = [3.0, 0.0, 1.0, 5.0, 0.1, 2.0] if weighted else None
    # Equal steps of half a bandwidth leave 1e-16 of a Gaussian's integral.
    x = np.arange(-20.0, 25.0, 0.01 if h == 0.02 else 0.1)
    log_p = reference.log_density(x[:, np.newaxis], WORKED, h, weights=weights)
    assert np.exp(log_p).sum() * (x[1] - x[0]) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("covariance", [None, "sample", [[2.0, -0.9], [-0.9, 0.5]]], ids=str)
def test_density_integrates_to_one_on_a_plane(covariance):
    _, samples = two_sets("plane", n=1, m=7, d=2)
    x = np.arange(-14.0, 14.0, 0.12)
    points = np.stack(np.meshgrid(x, x), axis=-1).reshape(-1, 2)
    log_p = reference.log_density(points, samples, [0.6, 1.1], covariance=covariance)
    np.testing.assert_allclose(np.exp(log_p).sum(axis=0) * 0.12**2, 1.0, atol=1e-12)


# --- other libraries ------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 2, 5])
@pytest.mark.parametrize("weighted", [False, True])
def test_sample_covariance_is_scipy(d, weighted):
    stats = pytest.importorskip("scipy.stats")
    points, samples = two_sets("scipy", n=20, m=60, d=d)
    weights = families.seeded("weights").uniform(0.0, 3.0, 60) if weighted else None
    for h in ("scott", "silverman", 0.4, None):
        expected = stats.gaussian_kde(samples.T, h, weights).logpdf(points.T)
        found = reference.log_density(points, samples, h, covariance="sample", weights=weights)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("d", [1, 3, 16, 64])
def test_identity_is_scikit_learn(d):
    neighbors = pytest.importorskip("sklearn.neighbors")
    points, samples = two_sets("sklearn", n=15, m=80, d=d)
    weights = families.seeded("weights").uniform(0.1, 3.0, 80)
    for h in ("scott", "silverman", 0.6, 2.0):
        model = neighbors.KernelDensity(bandwidth=h, rtol=0, atol=0).fit(samples)
        found = reference.log_density(points, samples, h)
        np.testing.assert_allclose(found, model.score_samples(points), rtol=1e-11, atol=1e-11)
        if not isinstance(h, str):  # its factors do not look at weights
            model.fit(samples, sample_weight=weights)
            found = reference.log_density(points, samples, h, weights=weights)
            np.testing.assert_allclose(found, model.score_samples(points), rtol=1e-11, atol=1e-11)


# --- bandwidths, weights, leaving out -------------------------------------------------------------


def test_several_bandwidths_are_single_ones():
    points, samples = two_sets("several", n=9, m=11, d=4)
    widths = [2.0, 0.1, 2.0, 1e-6]
    found = reference.log_density(points, samples, widths)
    assert found.shape == (9, 4)
    for j, h in enumerate(widths):
        assert_same_bits(
            np.ascontiguousarray(found[:, j]), reference.log_density(points, samples, h)
        )
    assert reference.log_density(points, samples, [0.5]).shape == (9, 1)
    assert reference.log_density(points, samples, np.float32(0.5)).shape == (9,)


def test_the_rules_of_scott_and_silverman():
    points, samples = two_sets("rules", n=5, m=32, d=6)
    weights = np.arange(32.0)
    size = weights.sum() ** 2 / (weights**2).sum()
    for given, e in (
        (None, 32),
        (weights, size),
        (weights * 1e-300, size),
        (weights * 1e300, size),
    ):
        for rule, h in (("scott", e**-0.1), ("silverman", (2 * e) ** -0.1)):
            expected = reference.log_density(points, samples, h, weights=given)
            found = reference.log_density(points, samples, rule, weights=given)
            np.testing.assert_allclose(found, expected, rtol=1e-13)
    assert_same_bits(
        reference.log_density(points, samples), reference.log_density(points, samples, "scott")
    )


@pytest.mark.parametrize("covariance", [None, "matrix"])
def test_weights_are_repetitions(covariance):
    points, samples = two_sets("repeat", n=8, m=10, d=3)
    covariance = None if covariance is None else some_covariance(3)
    counts = np.array([1, 4, 0, 2, 7, 1, 0, 3, 1, 5])
    expected = reference.log_density(
        points, np.repeat(samples, counts, axis=0), 0.4, covariance=covariance
    )
    for weights in (counts, counts * 0.3, counts.astype("float32")):
        found = reference.log_density(points, samples, 0.4, covariance=covariance, weights=weights)
        np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-14)


def test_a_sample_without_weight_is_no_nearest_one():
    samples = np.array([[0.0], [1000.0]])
    found = reference.log_density([[0.0]], samples, 1.0, weights=[0.0, 1.0])
    assert_same_bits(found, reference.log_density([[0.0]], samples[1:], 1.0))
    found = reference.log_density([[0.0]], samples, 1.0, weights=[1e-200, 1.0])
    assert found[0] == pytest.approx(-200 * math.log(10) - 0.5 * math.log(2 * math.pi), rel=1e-14)


@pytest.mark.parametrize("weighted", [False, True])
def test_leaving_one_out_is_dropping_the_row(weighted):
    x = families.DATA_FAMILIES["half_equal"](families.seeded("drop"), 15, 2, "float32")[0]
    weights = np.array([1e-20, 0, 0, 2, 1, 1, 3, 4, 1, 1, 1e9, 2, 0.5, 1, 1]) if weighted else None
    for covariance in (None, some_covariance(2)):
        widths = [0.01, 0.8, 30.0]
        found = reference.log_density(
            None, x, widths, covariance=covariance, weights=weights, leave_one_out=True
        )
        for i in range(len(x)):
            rest = None if weights is None else np.delete(weights, i)
            expected = reference.log_density(
                x[i : i + 1], np.delete(x, i, axis=0), widths, covariance=covariance, weights=rest
            )
            np.testing.assert_allclose(found[i], expected[0], rtol=1e-11, atol=1e-11)


def test_leaving_one_out_keeps_the_rules_of_all_samples():
    x, _ = two_sets("rule", n=12, m=1, d=2)
    expected = reference.log_density(
        None, x, 12 ** (-1 / 6), covariance=np.cov(x.T), leave_one_out=True
    )
    found = reference.log_density(x, x, "scott", covariance="sample", leave_one_out=True)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_one_row_nearly_all_the_weight_left_out():
    x = np.array([[0.0], [1.0], [2.0]])
    found = reference.log_density(x, x, 1.0, weights=[1e30, 1.0, 3.0], leave_one_out=True)
    expected = math.log((math.exp(-0.5) + 3 * math.exp(-2)) / 4) - 0.5 * math.log(2 * math.pi)
    assert found[0] == pytest.approx(expected, rel=1e-14)


# --- invariances ----------------------------------------------------------------------------------


def grid_sets(n: int, m: int, d: int):
    """Return two sets of multiples of 1/256, so that moving them rounds nothing."""
    points, samples = two_sets("grid", n=n, m=m, d=d)
    return np.round(256 * points) / 256, np.round(256 * samples) / 256


def test_translation_changes_nothing():
    points, samples = grid_sets(7, 20, 3)
    moved = np.array([2.0**20, -3.0, 2.0**30])
    assert_same_bits(
        reference.log_density(points + moved, samples + moved, [0.3, 2.0]),
        reference.log_density(points, samples, [0.3, 2.0]),
    )
    for covariance in (some_covariance(3), "sample"):
        np.testing.assert_allclose(
            reference.log_density(points + moved, samples + moved, 0.3, covariance=covariance),
            reference.log_density(points, samples, 0.3, covariance=covariance),
            rtol=1e-11,
        )


@pytest.mark.parametrize("c", [2.0**-40, 0.3, 8.0, 1e30])
def test_scaling_subtracts_the_logarithm_of_the_scale(c):
    points, samples = two_sets("scale", n=7, m=20, d=5)
    widths = np.array([0.2, 3.0])
    expected = reference.log_density(points, samples, widths) - 5 * math.log(c)
    found = reference.log_density(c * points, c * samples, c * widths)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-11)
    best = reference.select_bandwidth(samples)
    scaled = reference.select_bandwidth(c * samples)
    np.testing.assert_allclose(scaled.candidates, c * best.candidates, rtol=1e-13)
    np.testing.assert_allclose(scaled.scores, best.scores - 5 * math.log(c), rtol=1e-10)


def test_covariance_of_a_linear_map():
    points, samples = two_sets("map", n=7, m=20, d=3)
    a = np.array([[1.0, 0.5, 0.0], [0.0, 2.0, -1.0], [0.3, 0.0, 1e-3]])
    expected = reference.log_density(points, samples, "scott", covariance="sample")
    found = reference.log_density(points @ a.T, samples @ a.T, "scott", covariance="sample")
    log_det = math.log(abs(np.linalg.det(a)))
    np.testing.assert_allclose(found, expected - log_det, rtol=1e-9)
    found = reference.log_density(points, samples, 0.5, covariance=4 * np.eye(3))
    np.testing.assert_allclose(found, reference.log_density(points, samples, 1.0), rtol=1e-13)
    scales = np.array([1e-60, 1.0, 1e70])  # the condition number that counts is still 1
    found = reference.log_density(
        points * scales, samples * scales, 1.0, covariance=np.diag(scales**2)
    )
    expected = reference.log_density(points, samples, 1.0) - 10 * math.log(10)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_order_of_rows_and_size_of_blocks(monkeypatch):
    points, samples = two_sets("order", n=30, m=40, d=3)
    found = reference.log_density(points, samples, [0.2, 1.0])
    assert_same_bits(reference.log_density(points[::-1], samples, [0.2, 1.0]), found[::-1].copy())
    backwards = reference.log_density(points, samples[::-1], [0.2, 1.0])
    np.testing.assert_allclose(backwards, found, rtol=1e-14)
    out = reference.log_density(None, samples, 0.3, leave_one_out=True)
    monkeypatch.setattr(distances, "_BLOCK_PAIRS", 100)
    assert_same_bits(reference.log_density(points, samples, [0.2, 1.0]), found)
    assert_same_bits(reference.log_density(None, samples, 0.3, leave_one_out=True), out)


def test_memory_does_not_grow_with_pairs(monkeypatch):
    monkeypatch.setattr(distances, "_BLOCK_PAIRS", 1 << 14)
    x, _ = two_sets("memory", n=2000, m=1, d=2)
    tracemalloc.start()
    try:
        reference.log_density(x, x, [0.1, 1.0], covariance="sample", leave_one_out=False)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4e6  # one value for every pair would be 32 MB


# --- choosing a bandwidth -------------------------------------------------------------------------


@pytest.mark.parametrize("folds", [2, 3, 7, 23])
@pytest.mark.parametrize("seed", [0, 5])
def test_folds_are_a_literal_loop(folds, seed):
    x, _ = two_sets("folds", n=23, m=1, d=2)
    widths = [0.1, 0.5, 1.0]
    found = reference.select_bandwidth(x, widths, folds, seed)
    order = np.random.default_rng(seed).permutation(23)
    scores = np.zeros(3)
    for position in range(23):
        others = [order[p] for p in range(23) if p % folds != position % folds]
        row = x[order[position]][np.newaxis]
        scores += reference.log_density(row, x[others], widths)[0] / 23
    np.testing.assert_allclose(found.scores, scores, rtol=1e-12)
    assert found.bandwidth == widths[int(np.argmax(scores))]
    assert found.candidates.tolist() == widths
    if folds == 23:
        alone = reference.select_bandwidth(x, widths).scores
        np.testing.assert_allclose(alone, scores, rtol=1e-12)


def test_leave_one_out_scores():
    x, _ = two_sets("loo", n=40, m=1, d=3)
    found = reference.select_bandwidth(x, [0.3, 0.6])
    expected = reference.log_density(x, x, [0.3, 0.6], leave_one_out=True).mean(axis=0)
    np.testing.assert_allclose(found.scores, expected, rtol=1e-14)


def test_default_candidates():
    x, _ = two_sets("grid", n=300, m=1, d=2)
    found = reference.select_bandwidth(x * [1.0, 3.0])
    centre = 300 ** (-1 / 6) * math.sqrt(np.trace(np.cov((x * [1.0, 3.0]).T)) / 2)
    assert len(found.candidates) == len(found.scores) == 25
    assert found.candidates[16] == pytest.approx(centre, rel=1e-13)
    np.testing.assert_allclose(found.candidates[1:] / found.candidates[:-1], math.sqrt(2))
    assert found.bandwidth == found.candidates[np.argmax(found.scores)]
    assert found.candidates[0] < found.bandwidth < found.candidates[-1]


def test_the_first_of_equal_scores_wins():
    x, _ = two_sets("tie", n=10, m=1, d=1)
    assert np.argmax(reference.select_bandwidth(x, [0.5, 0.5]).scores) == 0
    # So small that no score is a float64.
    found = reference.select_bandwidth(x * 1e150, [2e-10, 1e-10])
    assert found.scores.tolist() == [-math.inf, -math.inf]
    assert found.bandwidth == 2e-10
    # Equal rows would have any bandwidth as small as it gets.
    found = reference.select_bandwidth(np.zeros((5, 1)), [1.0, 0.5, 2.0])
    assert found.bandwidth == 0.5


def test_the_choice_finds_a_narrow_mixture():
    rng = families.seeded("narrow")
    x = rng.integers(0, 4, (400, 1)) * 10.0 + 0.01 * rng.standard_normal((400, 1))
    for folds in (None, 10):
        assert (
            0.001 < reference.select_bandwidth(x, 2.0 ** np.arange(-12, 6), folds).bandwidth < 0.02
        )


# --- log-likelihood -------------------------------------------------------------------------------


def test_heldout_log_likelihood_by_hand():
    points, samples = two_sets("heldout", n=25, m=30, d=4)
    values = reference.log_density(points, samples, 0.8)
    found = reference.heldout_log_likelihood(points, samples, 0.8)
    assert found.mean == pytest.approx(values.mean(), rel=1e-14)
    variance = ((values - values.mean()) ** 2).sum() / 24
    assert found.standard_error == pytest.approx(math.sqrt(variance / 25), rel=1e-13)
    assert found.bits_per_dim == pytest.approx(-values.mean() / 4 / math.log(2), rel=1e-14)
    several = reference.heldout_log_likelihood(points, samples, [0.1, 0.8])
    assert several[1] == found
    assert reference.heldout_log_likelihood(points, samples, "scott") == (
        reference.heldout_log_likelihood(points, samples, None)
    )


def test_standard_error_that_does_not_exist():
    found = reference.heldout_log_likelihood([[0.0]], [[0.0]], 1.0)
    assert found.mean == pytest.approx(-0.5 * math.log(2 * math.pi), rel=1e-15)
    assert math.isnan(found.standard_error)
    found = reference.heldout_log_likelihood([[0.0], [1e150]], [[0.0]], 1e-10)
    assert (found.mean, found.bits_per_dim) == (-math.inf, math.inf)
    assert math.isnan(found.standard_error)


# --- what is refused ------------------------------------------------------------------------------

X, Y = two_sets("errors", n=4, m=5, d=2)


BAD_DENSITIES = [
    ({"bandwidth": 0.0}, "`bandwidth` above 0, got 0.0"),
    ({"bandwidth": [1.0, -2.0]}, "`bandwidth` above 0, got -2.0"),
    ({"bandwidth": math.nan}, "`bandwidth` to be finite"),
    ({"bandwidth": [math.inf]}, "`bandwidth` to be finite"),
    ({"bandwidth": []}, "`bandwidth` with at least one value, got none"),
    ({"bandwidth": [[1.0]]}, "`bandwidth` of shape (b,), got (1, 1)"),
    ({"bandwidth": "median"}, '`bandwidth` "scott", "silverman" or numbers, got \'median\''),
    ({"points": X[:, :1]}, "`points` with 2 columns as `samples`, got 1"),
    ({"points": X[:0]}, "`points` of shape (n, d)"),
    ({"points": None}, "`points` of shape (n, d)"),
    ({"samples": Y[:0]}, "`samples` of shape (n, d)"),
    ({"samples": Y[0]}, "`samples` of shape (n, d)"),
    ({"points": X * math.inf}, "`points` to be finite"),
    ({"samples": Y * math.nan}, "`samples` to be finite"),
    ({"weights": [1.0] * 4}, "`weights` of shape (5,), got (4,)"),
    ({"weights": [-1.0, 1, 1, 1, 1]}, "`weights` of at least 0 and not all 0, got -1.0 to 1.0"),
    ({"weights": [0.0] * 5}, "`weights` of at least 0 and not all 0, got 0.0 to 0.0"),
    ({"weights": [math.nan] * 5}, "`weights` to be finite"),
    ({"covariance": np.eye(3)}, "`covariance` of shape (2, 2), got (3, 3)"),
    ({"covariance": True}, "`covariance` of shape (2, 2), got ()"),
    ({"covariance": "own"}, "`covariance` \"sample\" or a matrix, got 'own'"),
    ({"covariance": [[1, 0.1], [0, 1]]}, "`covariance` to be symmetric"),
    ({"covariance": [[1, 0], [0, math.inf]]}, "`covariance` to be finite"),
    ({"covariance": -np.eye(2)}, "`covariance` to be positive definite"),
    ({"covariance": np.zeros((2, 2))}, "`covariance` to be positive definite"),
    ({"covariance": [[1, 2], [2, 4]]}, "`covariance` to be positive definite"),
    ({"covariance": [[1, 2], [2, 1]]}, "`covariance` to be positive definite"),
    (
        {"samples": Y @ [[1.0, 3.0], [0.0, 0.0]], "covariance": "sample"},
        "`covariance` to be positive definite in float64",
    ),
    (
        {"samples": Y[:2], "covariance": "sample"},
        '`samples` with more than 2 rows for `covariance="sample"`, got 2',
    ),
    ({"leave_one_out": True}, "`points` to be `samples` or None with `leave_one_out`"),
    (
        {"points": Y.copy(), "leave_one_out": True},
        "`points` to be `samples` or None with `leave_one_out`",
    ),
    (
        {"points": None, "samples": Y[:1], "leave_one_out": True},
        "`samples` with at least 2 rows with `leave_one_out`, got 1",
    ),
    (
        {"points": None, "weights": [0, 0, 3, 0, 0], "leave_one_out": True},
        "`weights` with at least 2 above 0 with `leave_one_out`, got 1",
    ),
]
BAD_SELECTIONS = [
    ({"samples": Y[:1]}, "`samples` with at least 2 rows, got 1"),
    ({"samples": Y[0]}, "`samples` of shape (n, d)"),
    ({"samples": Y * math.nan}, "`samples` to be finite"),
    ({"samples": np.ones((3, 2))}, "`samples` that differ, or `candidates`"),
    ({"candidates": []}, "`candidates` with at least one value, got none"),
    ({"candidates": 1.0}, "`candidates` of shape (c,), got ()"),
    ({"candidates": [1.0, 0.0]}, "`candidates` above 0, got 0.0"),
    ({"folds": 1}, "`folds` in [2, 5], got 1"),
    ({"folds": 6}, "`folds` in [2, 5], got 6"),
]


def assert_refused(function, arguments, text):
    expected = re.escape(f"{function.__name__}: expected {text}")
    with pytest.raises(ValueError, match=f"^{expected}"):
        function(**arguments)


@pytest.mark.parametrize(("changed", "text"), BAD_DENSITIES)
def test_errors_of_log_density(changed, text):
    good = {"points": X, "samples": Y, "bandwidth": 1.0}
    assert_refused(reference.log_density, good | changed, text)


@pytest.mark.parametrize(("changed", "text"), BAD_SELECTIONS)
def test_errors_of_select_bandwidth(changed, text):
    assert_refused(reference.select_bandwidth, {"samples": Y} | changed, text)


@pytest.mark.parametrize(("changed", "text"), BAD_DENSITIES[:14])
def test_errors_of_heldout_log_likelihood(changed, text):
    good = {"points": X, "samples": Y, "bandwidth": 1.0}
    assert_refused(reference.heldout_log_likelihood, good | changed, text)


def test_a_covariance_rounded_to_float32_is_symmetric_enough():
    covariance = some_covariance(3)
    rounded = covariance.copy()
    rounded[0, 1] *= 1 + 1e-7
    points, samples = two_sets("float32", n=3, m=5, d=3)
    np.testing.assert_allclose(
        reference.log_density(points, samples, covariance=rounded),
        reference.log_density(points, samples, covariance=covariance),
        rtol=1e-6,
    )
