"""Bad input to densities: one clear sentence, before anything is computed."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from exact_density import two_sets
from test_errors import fails, refuses_unusable_arrays

import fastgen
from fastgen import pairwise

X, Y = two_sets("errors", n=4, m=5, d=2)
EYE = np.eye(2)
NUMBERS = "to be a number or an array of numbers, got"

CALLS = {
    "log_density": {
        "points": lambda bad: fastgen.log_density(bad, Y.repeat(2, axis=1)),
        "samples": lambda bad: fastgen.log_density(X.repeat(2, axis=1), bad),
    },
    "heldout_log_likelihood": {
        "points": lambda bad: fastgen.heldout_log_likelihood(bad, Y.repeat(2, axis=1)),
        "samples": lambda bad: fastgen.heldout_log_likelihood(X.repeat(2, axis=1), bad),
    },
    "select_bandwidth": {"samples": fastgen.select_bandwidth},
    "log_kernel_sums": {
        "x": lambda bad: pairwise.log_kernel_sums(bad, Y.repeat(2, axis=1)),
        "y": lambda bad: pairwise.log_kernel_sums(X.repeat(2, axis=1), bad),
    },
}
DENSITIES = {
    "log_density": lambda **how: fastgen.log_density(**({"points": X, "samples": Y} | how)),
    "heldout_log_likelihood": lambda **how: fastgen.heldout_log_likelihood(
        **({"points": X, "samples": Y} | how)
    ),
}
ALL = DENSITIES | {
    "select_bandwidth": lambda **how: fastgen.select_bandwidth(**({"samples": Y} | how)),
    "log_kernel_sums": lambda **how: pairwise.log_kernel_sums(**({"x": X, "y": Y} | how)),
}

pytestmark = pytest.mark.filterwarnings("ignore::fastgen.DensityWarning")


# --- rows -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "argument"), [(function, name) for function in CALLS for name in CALLS[function]]
)
def test_unusable_arrays(function, argument):
    alone = (function, argument) == ("log_kernel_sums", "y")  # x against itself
    refuses_unusable_arrays(CALLS[function][argument], function, argument, may_be_none=alone)


@pytest.mark.parametrize("width", [1, 3])
def test_sets_that_do_not_fit_together(width):
    other = np.ones((4, width))
    for function, call in DENSITIES.items():
        text = f"{function}: expected `points` with d = 2 columns like `samples`, got shape (4, "
        with fails(ValueError, f"{text}{width})"):
            call(points=other)
    text = f"log_kernel_sums: expected `y` with d = 2 columns like `x`, got shape (4, {width})"
    with fails(ValueError, text):
        pairwise.log_kernel_sums(X, other)


def test_leaving_one_out_takes_the_samples():
    text = "log_density: expected `points` to be `samples` or None with `leave_one_out`, got anoth"
    for bad in (X, Y.copy(), Y[:], Y[:3], "nowhere.npy"):
        with fails(ValueError, text):
            fastgen.log_density(bad, Y, 1.0, leave_one_out=True)
    expected = fastgen.log_density(None, Y, 1.0, leave_one_out=True)
    found = fastgen.log_density(Y, Y, 1.0, leave_one_out=True)
    assert found.tolist() == expected.tolist()


def test_too_few_rows():
    with fails(ValueError, "log_density: expected `samples` with at least 2 rows with `leave_one_"):
        fastgen.log_density(None, Y[:1], 1.0, leave_one_out=True)
    with fails(ValueError, "select_bandwidth: expected `samples` with at least 2 rows, got 1"):
        fastgen.select_bandwidth(Y[:1])
    with fails(ValueError, "log_kernel_sums: expected `x` with at least 2 rows without `y`, got 1"):
        pairwise.log_kernel_sums(Y[:1])
    text = 'log_density: expected `samples` with more than 2 rows for `covariance="sample"`, got 2'
    with fails(ValueError, text):
        fastgen.log_density(X, Y[:2], covariance="sample")
    with fails(ValueError, text):
        fastgen.log_density(X, Y, covariance="sample", weights=[1, 0, 0, 0, 1])
    assert fastgen.log_density(X[:1], Y[:1]).shape == (1,)


def test_whitened_rows_beyond_range():
    text = "log_density: expected `points` within 2^500 in magnitude, got "
    with fails(ValueError, text):
        fastgen.log_density(1e100 * X, Y, covariance=1e-200 * EYE)
    with fails(ValueError, "log_density: expected `samples` within 2^500 in magnitude, got "):
        fastgen.log_density(X, 1e100 * Y, covariance=1e-200 * EYE)


# --- bandwidths, weights, covariance --------------------------------------------------------------

BAD_BANDWIDTHS = [
    (0, ValueError, "above 0, got 0.0"),
    (0.0, ValueError, "above 0, got 0.0"),
    (-1.5, ValueError, "above 0, got -1.5"),
    ([1.0, -2.0, 0.0], ValueError, "above 0, got -2.0"),
    (math.nan, ValueError, "to be finite, got nan"),
    ([1.0, math.inf], ValueError, "to be finite, got inf"),
    ([], ValueError, "with at least one value, got none"),
    (np.empty((0,)), ValueError, "with at least one value, got none"),
    ([1e20, 2.0, 1e-20], ValueError, "within a factor of 1e+30 of each other, got 1e-20 to 1e+20"),
    (
        [5e-324, 1e308],
        ValueError,
        "within a factor of 1e+30 of each other, got 4.94066e-324 to 1e+3",
    ),
    ([[1.0]], ValueError, "to be a number or of shape (b,), got shape (1, 1)"),
    (True, TypeError, f"{NUMBERS} bool True"),
    (1j, TypeError, f"{NUMBERS} complex 1j"),
    ([1.0, [2.0]], TypeError, f"{NUMBERS} list [1.0, [2.0]]"),
    ([1.0, None], TypeError, f"{NUMBERS} list [1.0, None]"),
    (object, TypeError, f"{NUMBERS} type <class 'object'>"),
    (["scott"], TypeError, f"{NUMBERS} list ['scott']"),
]
BAD_WEIGHTS = [
    ([1.0] * 4, ValueError, "of shape (5,), got shape (4,)"),
    ([[1.0]] * 5, ValueError, "of shape (5,), got shape (5, 1)"),
    (1.0, ValueError, "of shape (5,), got shape ()"),
    ([], ValueError, "of shape (5,), got shape (0,)"),
    ([-1.0, 1, 1, 1, 1], ValueError, "of at least 0 and not all 0, got -1.0 to 1.0"),
    ([0.0] * 5, ValueError, "of at least 0 and not all 0, got 0.0 to 0.0"),
    ([-0.0] * 5, ValueError, "of at least 0 and not all 0, got -0.0 to -0.0"),
    ([1, 1, math.nan, 1, 1], ValueError, "to be finite, got nan"),
    ([1, 1, math.inf, 1, 1], ValueError, "to be finite, got inf"),
    ("equal", TypeError, f"{NUMBERS} str 'equal'"),
    ([True] * 5, TypeError, f"{NUMBERS} list [True, True, True, True, True]"),
]
DEFINITE = "to be positive definite in float64, got one that is not; drop features that follow fr"
BAD_COVARIANCES = [
    (np.eye(3), ValueError, "of shape (2, 2), got shape (3, 3)"),
    ([1.0, 1.0], ValueError, "of shape (2, 2), got shape (2,)"),
    (1.0, ValueError, "of shape (2, 2), got shape ()"),
    ("own", ValueError, "\"sample\" or a matrix, got 'own'"),
    (True, TypeError, f"{NUMBERS} bool True"),
    ([[1, 0.1], [0, 1]], ValueError, "to be symmetric, got 0.1 and 0.0 in rows 0 and 1"),
    ([[1, 0], [0, math.inf]], ValueError, "to be finite, got inf"),
    (-EYE, ValueError, DEFINITE),
    (np.zeros((2, 2)), ValueError, DEFINITE),
    ([[1, 2], [2, 4]], ValueError, DEFINITE),
    ([[1, 2], [2, 1]], ValueError, DEFINITE),
    ([[1, 1], [1, 1 + 2e-16]], ValueError, DEFINITE),
]


@pytest.mark.parametrize("function", ALL)
def test_unusable_bandwidths(function):
    name = "candidates" if function == "select_bandwidth" else "bandwidth"
    for bad, error, text in BAD_BANDWIDTHS:
        with fails(error, f"{function}: expected `{name}` {text}") as caught:
            ALL[function](**{name: bad})
        assert type(caught.value) is error


@pytest.mark.parametrize("function", DENSITIES)
def test_words_for_bandwidths(function):
    rules = '"scott", "silverman" or numbers'
    for bad in ("median", "Scott", ""):
        with fails(ValueError, f"{function}: expected `bandwidth` {rules}, got {bad!r}"):
            DENSITIES[function](bandwidth=bad)
    with fails(TypeError, f"log_kernel_sums: expected `bandwidth` {NUMBERS} str 'scott'"):
        pairwise.log_kernel_sums(X, Y, "scott")
    with fails(TypeError, f"select_bandwidth: expected `candidates` {NUMBERS} str 'scott'"):
        fastgen.select_bandwidth(Y, "scott")


@pytest.mark.parametrize("function", [*DENSITIES, "log_kernel_sums"])
def test_unusable_weights(function):
    for bad, error, text in BAD_WEIGHTS:
        with fails(error, f"{function}: expected `weights` {text}") as caught:
            ALL[function](weights=bad)
        assert type(caught.value) is error


def test_weights_of_which_one_is_left_out():
    text = "expected `weights` with at least 2 above 0 with `leave_one_out`, got 1"
    with fails(ValueError, f"log_density: {text}"):
        fastgen.log_density(None, Y, weights=[0, 0, 3, 0, 0], leave_one_out=True)
    with fails(ValueError, f"log_kernel_sums: {text}"):
        pairwise.log_kernel_sums(Y, weights=[0, 0, 3, 0, 0])
    with fails(ValueError, "log_density: expected `weights` of shape (5,), got shape (4,)"):
        fastgen.log_density(None, Y, weights=[1.0] * 4, leave_one_out=True)


@pytest.mark.parametrize("function", DENSITIES)
def test_unusable_covariances(function):
    for bad, error, text in BAD_COVARIANCES:
        with fails(error, f"{function}: expected `covariance` {text}") as caught:
            DENSITIES[function](covariance=bad)
        assert type(caught.value) is error


@pytest.mark.parametrize("function", DENSITIES)
def test_samples_without_a_covariance_of_their_own(function):
    line = Y @ np.array([[1.0, 3.0], [0.0, 0.0]])
    for samples in (line, np.ones((5, 2)), np.zeros((5, 2)), np.stack([Y[:, 0], 0 * Y[:, 0]], 1)):
        with fails(ValueError, f"{function}: expected `covariance` {DEFINITE}"):
            DENSITIES[function](samples=samples, covariance="sample")


# --- folds, candidates ----------------------------------------------------------------------------


def test_unusable_folds():
    for bad in (1, 0, -3, 6, 10**9):
        with fails(ValueError, f"select_bandwidth: expected `folds` in [2, n] = [2, 5], got {bad}"):
            fastgen.select_bandwidth(Y, folds=bad)
    for bad in (2.0, "2", [2], True):
        with fails(TypeError, "select_bandwidth: expected `folds` to be an int or None, got "):
            fastgen.select_bandwidth(Y, folds=bad)
    assert fastgen.select_bandwidth(Y, folds=np.int64(5)).scores.shape == (25,)


def test_unusable_candidates_and_seeds():
    with fails(ValueError, "select_bandwidth: expected `candidates` of shape (c,), got shape ()"):
        fastgen.select_bandwidth(Y, 1.0)
    text = "select_bandwidth: expected `samples` that differ, or `candidates`, got equal rows"
    for equal in (np.ones((3, 2)), np.zeros((3, 2)), np.full((3, 2), 1e-300)):
        with fails(ValueError, text):
            fastgen.select_bandwidth(equal)
    with fails(ValueError, "select_bandwidth: expected `seed` "):
        fastgen.select_bandwidth(Y, folds=2, seed=-1)
    with fails(TypeError, "select_bandwidth: expected `seed` "):
        fastgen.select_bandwidth(Y, folds=2, seed="1")


# --- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", ALL)
def test_unusable_options(function, monkeypatch):
    # As in a build without a CUDA compiler, whatever this one has.
    monkeypatch.setenv("FASTGEN_CUDA_MODULE", "fastgen._nothing")
    devices = 'to be "cpu", "cuda", "cuda:0", "cuda:all" or None'
    memory = '`memory` to be a positive number of bytes or a text such as "4GB"'
    for options, error, text in (
        ({"threads": 0}, ValueError, "`threads` of at least 1, got 0"),
        ({"threads": 1.0}, TypeError, "`threads` to be an int, got float 1.0"),
        ({"device": "tpu"}, ValueError, f"`device` {devices}, got 'tpu'"),
        (
            {"device": "cuda"},
            fastgen.BackendUnavailableError,
            "`device` \"cpu\" or None, got 'cuda'; this build has no GPU backend",
        ),
        ({"progress": "yes"}, TypeError, "`progress` to be a bool or a callable, got str 'yes'"),
        ({"memory": "lots"}, ValueError, f"{memory}, got 'lots'"),
        ({"memory": 0}, ValueError, f"{memory}, got 0"),
        ({"memory": 1e9}, TypeError, f"{memory}, got float 1000000000.0"),
    ):
        with fails(error, f"{function}: expected {text}"):
            ALL[function](**options)
    ALL[function](threads=np.int64(2), device="cpu", progress=lambda done: None)


def test_paths_that_do_not_serve_so_many_features():
    for d, path, known in (
        (9, "ordered", "auto, direct, tiles"),
        (16, "ordered", "auto, direct, tiles"),
        (17, "direct", "auto, tiles"),
        (100, "ordered", "auto, tiles"),
    ):
        text = f"log_kernel_sums: expected `path` to be one of {known} for d = {d}, got '{path}'"
        with fails(ValueError, text):
            pairwise.log_kernel_sums(np.ones((3, d)), path=path)
    for bad in ("tree", "int8", "fastest", ""):
        with fails(ValueError, "log_kernel_sums: expected `path` to be one of auto, "):
            pairwise.log_kernel_sums(X, Y, path=bad)


@pytest.mark.parametrize("function", ALL)
def test_a_budget_that_is_too_small_says_what_is_enough(function):
    with pytest.raises(ValueError, match=rf"^{function}: expected `memory` of at least \d+ ") as no:
        ALL[function](memory=1000)
    assert " bytes for this input, got 1000; " in str(no.value)
    enough = re.search(r'memory="(.*)" is enough$', str(no.value))[1]
    np.testing.assert_equal(ALL[function](memory=enough), ALL[function]())


def test_nothing_happens_before_the_input_is_known_to_be_good(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("the engine was started")

    monkeypatch.setattr("fastgen.densities.core.LogSums", refuse)
    bad, told = Y.copy(), []
    bad[2, 1] = np.nan
    how = {"progress": told.append}
    for call in (
        lambda: fastgen.log_density(X, bad, **how),
        lambda: fastgen.log_density(bad, Y, **how),
        lambda: fastgen.log_density(bad, bad, leave_one_out=True, **how),
        lambda: fastgen.log_density(X, bad, covariance="sample", **how),
        lambda: fastgen.log_density(X, Y, [1.0, 0.0], **how),
        lambda: fastgen.log_density(X, Y, memory=5, **how),
        lambda: fastgen.log_density(X, Y, covariance=-EYE, **how),
        lambda: fastgen.select_bandwidth(bad, **how),
        lambda: fastgen.select_bandwidth(bad, [1.0], 2, **how),
        lambda: fastgen.select_bandwidth(Y, folds=9, **how),
        lambda: fastgen.heldout_log_likelihood(X, bad, **how),
        lambda: pairwise.log_kernel_sums(X, bad, **how),
        lambda: pairwise.log_kernel_sums(bad, **how),
    ):
        with pytest.raises(ValueError, match=r"^[a-z_]+: expected `"):
            call()
    assert told == []
