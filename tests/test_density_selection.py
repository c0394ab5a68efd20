"""The bandwidth by cross-validation, and the log-likelihood of held-out rows."""

from __future__ import annotations

import math

import families
import numpy as np
import pytest
from checks import assert_same_bits
from exact_density import some_covariance, two_sets

import fastgen
from fastgen import numpy_reference as reference

pytestmark = pytest.mark.filterwarnings("ignore::fastgen.DensityWarning")

DTYPES = ("float16", "float32", "float64")
ERROR = {"float16": 1e-5, "float32": 1e-5, "float64": 1e-10}


def rows(n: int, d: int, dtype: str = "float64"):
    return families.gaussian(families.seeded("selection", n, d), n, d, dtype, 2)[0]


def assert_same_selection(found, expected, dtype: str) -> None:
    np.testing.assert_allclose(found.candidates, expected.candidates, rtol=1e-13)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=2.0**-42, atol=ERROR[dtype])
    assert found.bandwidth == found.candidates[np.argmax(found.scores)]
    best, second = np.sort(expected.scores)[[-1, -2]]
    assert best - second > 4 * ERROR[dtype]  # so that the choice is no matter of rounding
    assert found.bandwidth == pytest.approx(expected.bandwidth, rel=1e-13)


# --- choosing a bandwidth -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [1, 2, 8, 16, 17, 100])
@pytest.mark.parametrize("folds", [None, 2, 15])
def test_scores_are_those_of_the_reference(d, folds, dtype):
    x = rows(60, d, dtype)
    wide = x.astype(np.float64)
    for candidates in (None, [0.2, 5.0, 0.9]):
        for seed in (0, 7):
            found = fastgen.select_bandwidth(x, candidates, folds, seed)
            expected = reference.select_bandwidth(wide, candidates, folds, seed)
            assert_same_selection(found, expected, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [1, 3, 20])
def test_leave_one_out_scores_by_brute_force(d, dtype):
    x = rows(25, d, dtype)
    widths = np.array([0.3, 0.8, 2.0])
    scores = np.zeros(3)
    for i, row in enumerate(x.astype(np.float64)):
        sq = np.square(np.delete(x.astype(np.float64), i, axis=0) - row).sum(axis=1)
        for j, h in enumerate(widths):
            kernel = math.fsum(np.exp(-sq / (2 * h * h)))
            scores[j] += (math.log(kernel / 24) - d / 2 * math.log(2 * math.pi * h * h)) / 25
    found = fastgen.select_bandwidth(x, widths)
    np.testing.assert_allclose(found.scores, scores, rtol=1e-12, atol=ERROR[dtype])
    alone = fastgen.log_density(x, x, widths, leave_one_out=True)
    np.testing.assert_allclose(found.scores, alone.mean(axis=0), rtol=1e-14)


@pytest.mark.parametrize("folds", [2, 3, 7, 23])
@pytest.mark.parametrize("seed", [0, 5])
def test_folds_are_a_literal_loop(folds, seed):
    x, widths = rows(23, 2), [0.1, 0.5, 1.0]
    found = fastgen.select_bandwidth(x, widths, folds, seed)
    order = np.random.default_rng(seed).permutation(23)
    scores = np.zeros(3)
    for position in range(23):
        others = [order[p] for p in range(23) if p % folds != position % folds]
        row = x[order[position]][np.newaxis]
        scores += fastgen.log_density(row, x[others], widths)[0] / 23
    np.testing.assert_allclose(found.scores, scores, rtol=1e-12)
    assert found.candidates.tolist() == widths
    if folds == 23:
        alone = fastgen.select_bandwidth(x, widths).scores
        np.testing.assert_allclose(found.scores, alone, rtol=1e-12)


def test_seeds():
    x = rows(50, 2)
    first = fastgen.select_bandwidth(x, None, 5)
    assert_same_bits(fastgen.select_bandwidth(x, None, 5, 0), first)
    assert_same_bits(fastgen.select_bandwidth(x, None, 5, None), first)
    assert np.any(fastgen.select_bandwidth(x, None, 5, 1).scores != first.scores)
    # Leaving one out draws nothing.
    assert_same_bits(fastgen.select_bandwidth(x, seed=9), fastgen.select_bandwidth(x))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_default_candidates(dtype):
    scales = np.array([1.0, 3.0], dtype=dtype)
    x = rows(300, 2, dtype) * scales
    found = fastgen.select_bandwidth(x)
    centre = 300 ** (-1 / 6) * math.sqrt(np.trace(np.cov(x.astype(np.float64).T)) / 2)
    expected = centre * np.sqrt(2.0) ** np.arange(-16, 9)
    np.testing.assert_allclose(found.candidates, expected, rtol=1e-13)
    assert found.candidates[0] < found.bandwidth < found.candidates[-1]
    # Their spread is that of the rows, wherever they lie.
    moved = fastgen.select_bandwidth((x + 1e3).astype("float64"))
    np.testing.assert_allclose(moved.candidates, found.candidates, rtol=1e-6)


@pytest.mark.parametrize("c", [2.0**-40, 0.3, 1e30, 1e-30])
@pytest.mark.parametrize("d", [1, 5, 20])
def test_units_scale_the_choice(c, d):
    x = rows(80, d)
    best, scaled = fastgen.select_bandwidth(x), fastgen.select_bandwidth(c * x)
    np.testing.assert_allclose(scaled.candidates, c * best.candidates, rtol=1e-13)
    np.testing.assert_allclose(scaled.scores, best.scores - d * math.log(c), rtol=1e-10)
    assert scaled.bandwidth == pytest.approx(c * best.bandwidth, rel=1e-13)


def test_the_first_of_equal_scores_wins():
    x = rows(10, 1)
    found = fastgen.select_bandwidth(x, [0.5, 0.5])
    assert found.scores[0] == found.scores[1]
    # So small that no score is a float64: the first wins, though it is the larger.
    found = fastgen.select_bandwidth(x * 1e150, [2e-10, 1e-10])
    assert found.scores.tolist() == [-math.inf, -math.inf]
    assert found.bandwidth == 2e-10
    found = fastgen.select_bandwidth(x * 1e150, [1e-10, 2e-10])
    assert found.bandwidth == 1e-10


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("d", [1, 20])
def test_rows_that_all_have_a_copy_want_the_smallest_bandwidth(d, dtype):
    x = np.repeat(rows(20, d, dtype), 2, axis=0)
    found = fastgen.select_bandwidth(x)
    assert found.bandwidth == found.candidates[0]
    equal = np.zeros((5, d), dtype=dtype)
    found = fastgen.select_bandwidth(equal, [1.0, 0.5, 2.0])
    assert found.bandwidth == 0.5
    expected = -d * np.log([1.0, 0.5, 2.0]) - d / 2 * math.log(2 * math.pi)
    np.testing.assert_allclose(found.scores, expected, rtol=1e-14)


def test_the_choice_finds_a_narrow_mixture():
    rng = families.seeded("narrow")
    x = rng.integers(0, 4, (400, 1)) * 10.0 + 0.01 * rng.standard_normal((400, 1))
    for dtype in ("float32", "float64"):
        for folds in (None, 10):
            best = fastgen.select_bandwidth(x.astype(dtype), 2.0 ** np.arange(-12, 6), folds)
            assert 0.001 < best.bandwidth < 0.02


def test_two_rows():
    x = np.array([[0.0], [1.0]])
    expected = -0.5 - 0.5 * math.log(2 * math.pi)
    for folds in (None, 2):
        found = fastgen.select_bandwidth(x, [1.0], folds)
        assert found.bandwidth == 1.0
        assert found.scores[0] == pytest.approx(expected, rel=1e-10)


def test_what_a_selection_says():
    found = fastgen.select_bandwidth(rows(30, 2), [0.5, 1.0])
    told = found.to_dict()
    assert list(told) == ["bandwidth", "candidates", "scores"]
    assert type(found.bandwidth) is float
    assert found.candidates.dtype == found.scores.dtype == np.float64
    candidates = np.array([0.5, 1.0])
    fastgen.select_bandwidth(rows(30, 2), candidates).candidates[0] = 7.0
    assert candidates[0] == 0.5  # a copy


# --- log-likelihood -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [1, 4, 30])
def test_heldout_log_likelihood_is_that_of_the_reference(d, dtype):
    points, samples = (x.astype(dtype) for x in two_sets("heldout", n=25, m=80, d=d))
    wide = points.astype(np.float64), samples.astype(np.float64)
    weights = families.seeded("weights").uniform(0.0, 3.0, 80)
    for h in (None, "scott", "silverman", 0.8):
        for covariance in (None, "sample", some_covariance(d)):
            for given in (None, weights):
                how = {"covariance": covariance, "weights": given}
                found = fastgen.heldout_log_likelihood(points, samples, h, **how)
                expected = reference.heldout_log_likelihood(*wide, h, **how)
                for name, value in vars(expected).items():
                    close = pytest.approx(value, rel=1e-10, abs=2 * ERROR[dtype])
                    assert getattr(found, name) == close, (name, h, how)


def test_heldout_log_likelihood_by_hand():
    points, samples = two_sets("heldout", n=25, m=30, d=4)
    values = fastgen.log_density(points, samples, 0.8)
    found = fastgen.heldout_log_likelihood(points, samples, 0.8)
    assert found.mean == pytest.approx(values.mean(), rel=1e-14)
    variance = ((values - values.mean()) ** 2).sum() / 24
    assert found.standard_error == pytest.approx(math.sqrt(variance / 25), rel=1e-13)
    assert found.bits_per_dim == pytest.approx(-values.mean() / 4 / math.log(2), rel=1e-14)
    assert list(found.to_dict()) == ["mean", "standard_error", "bits_per_dim"]


@pytest.mark.parametrize("d", [2, 30])
def test_an_array_of_bandwidths_gives_a_list(d):
    points, samples = two_sets("heldout", n=25, m=30, d=d)
    widths = [0.1, 0.8, 0.3, 0.8]
    several = fastgen.heldout_log_likelihood(points, samples, widths)
    assert isinstance(several, list)
    assert len(several) == 4
    assert several[1] == several[3]
    for h, found in zip(widths, several, strict=True):
        one = fastgen.heldout_log_likelihood(points, samples, h)
        assert found.mean == pytest.approx(one.mean, rel=1e-10)
        assert found.standard_error == pytest.approx(one.standard_error, rel=1e-9)
    assert len(fastgen.heldout_log_likelihood(points, samples, np.array([0.8]))) == 1
    (alone,) = fastgen.heldout_log_likelihood(points, samples, (0.8,))
    assert alone == fastgen.heldout_log_likelihood(points, samples, 0.8)


def test_standard_error_that_does_not_exist():
    found = fastgen.heldout_log_likelihood(np.array([[0.0]]), np.array([[0.0]]), 1.0)
    assert found.mean == pytest.approx(-0.5 * math.log(2 * math.pi), rel=1e-15)
    assert math.isnan(found.standard_error)
    found = fastgen.heldout_log_likelihood(np.array([[0.0], [1e150]]), np.array([[0.0]]), 1e-10)
    assert (found.mean, found.bits_per_dim) == (-math.inf, math.inf)
    assert math.isnan(found.standard_error)


def test_the_standard_error_covers_the_choice_of_points():
    # Of 400 draws of points, 95% have the mean of all within 1.96 standard errors: 380 +- 5 sigma.
    pool, samples = two_sets("coverage", n=40_000, m=50, d=1)
    values = fastgen.log_density(pool, samples, 0.5)
    inside = 0
    for part in np.split(pool, 400):
        found = fastgen.heldout_log_likelihood(part, samples, 0.5)
        inside += abs(found.mean - values.mean()) <= 1.96 * found.standard_error
    assert 358 <= inside <= 399
