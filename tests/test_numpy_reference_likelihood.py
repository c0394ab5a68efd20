"""The reference's choice of a bandwidth and log-likelihood, and what its densities refuse."""

from __future__ import annotations

import math
import re

import families
import numpy as np
import pytest
from exact_density import some_covariance, two_sets

from fastgen import numpy_reference as reference

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
