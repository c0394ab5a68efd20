"""The reference's densities: against exact arithmetic, integrals, other libraries, and by hand."""

from __future__ import annotations

import itertools
import math
import tracemalloc
from decimal import Decimal

import families
import numpy as np
import pytest
from checks import assert_same_bits
from exact_density import (
    WORKED,
    assert_exact,
    error_bound,
    exact,
    exact_quadratic,
    some_covariance,
    two_sets,
)

from fastgen import numpy_reference as reference
from fastgen.numpy_reference import distances

# --- exact arithmetic -----------------------------------------------------------------------------


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
