"""Bad input to `frechet_distance`: what each message says, and what is let pass."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from checks import assert_same_bits
from families import seeded

from fastgen import fid, frechet_distance

METHODS = ("auto", "eigh", "newton_schulz", "eigvals")
CHOICE = '`method` "auto", "newton_schulz", "eigh" or "eigvals", got '
NUMBERS = "to be a number or an array of numbers, got"
DTYPES = "of dtype float16, float32, float64 or integer, got"
RANGE = "with variances of 0 or from 1e-150 to 1e+150, got"
POWER = "; multiply all features by one power of two"

EYE = np.eye(2)
ZEROS = np.zeros(2)
INDEFINITE = np.array([[1.0, 2.0], [2.0, 1.0]])
NO_VARIANCE = np.array([[0.0, 1.0], [1.0, 0.0]])
ASYMMETRIC = np.array([[1.0, 0.5], [0.25, 1.0]])
X = np.arange(12.0).reshape(6, 2) ** 2


def raises(function, text, error=ValueError):
    return pytest.raises(error, match=f"^{function}: expected {re.escape(text)}$")


def with_value(value, row, column):
    matrix = EYE.copy()
    matrix[row, column] = value
    return matrix


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (([[0.0]], EYE, ZEROS, EYE), "`mean_1` of shape (d,), d at least 1, got shape (1, 1)"),
        (([], EYE, [], EYE), "`mean_1` of shape (d,), d at least 1, got shape (0,)"),
        ((0.0, EYE, 0.0, EYE), "`mean_1` of shape (d,), d at least 1, got shape ()"),
        ((ZEROS, EYE, [0.0], EYE), "`mean_2` of shape (2,) as `mean_1`, got shape (1,)"),
        (([0, math.nan], EYE, ZEROS, EYE), "`mean_1` to be finite, got nan"),
        ((ZEROS, EYE, [0, -math.inf], EYE), "`mean_2` to be finite, got -inf"),
        (
            (ZEROS, np.ones((2, 3)), ZEROS, EYE),
            "`covariance_1` of shape (2, 2), got shape (2, 3)",
        ),
        ((ZEROS, EYE, ZEROS, np.eye(3)), "`covariance_2` of shape (2, 2), got shape (3, 3)"),
        (
            (ZEROS, EYE, ZEROS, ASYMMETRIC),
            "`covariance_2` to be symmetric, got 0.5 and 0.25 in rows 0 and 1",
        ),
        (
            (ZEROS, with_value(1e-3, 1, 0), ZEROS, EYE),
            "`covariance_1` to be symmetric, got 0.0 and 0.001 in rows 0 and 1",
        ),
        (
            # A variance of 0 leaves no room for covariances.
            (ZEROS, np.array([[0.0, 1e-9], [-1e-9, 1.0]]), ZEROS, EYE),
            "`covariance_1` to be symmetric, got 1e-09 and -1e-09 in rows 0 and 1",
        ),
    ],
)
def test_bad_distributions(arguments, text, method):
    with raises("frechet_distance", text):
        frechet_distance(*arguments, method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize(
    ("matrix", "least"),
    [
        (INDEFINITE, -1.0),
        (NO_VARIANCE, -1.0),
        (np.diag([1.0, -2.0]), -2.0),
        (np.diag([-2.0, -2.0]), -2.0),
        (np.diag([1.0, -1e-5]), -1e-5),
        (np.array([[1.0, 1.00001], [1.00001, 1.0]]), -1e-5),
        (-np.ones((2, 2)), -2.0),
    ],
)
def test_an_indefinite_covariance(matrix, least, method, library):
    if library == "torch":
        torch = pytest.importorskip("torch")
        matrix = torch.tensor(matrix)
        eye = torch.eye(2, dtype=torch.float64)
    else:
        eye = EYE
    for name, pair in (("covariance_1", (matrix, eye)), ("covariance_2", (eye, matrix))):
        text = f"`{name}` to be positive semi-definite, got the eigenvalue "
        text = f"^frechet_distance: expected {re.escape(text)}(.*)$"
        with pytest.raises(ValueError, match=text) as caught:
            frechet_distance(ZEROS, pair[0], ZEROS, pair[1], method)
        assert float(re.match(text, str(caught.value))[1]) == pytest.approx(least, rel=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_indefinite_in_one_direction_of_many(method):
    rng = seeded("frechet", "one direction")
    q = np.linalg.qr(rng.standard_normal((20, 20)))[0]
    values = np.linspace(1.0, 2.0, 20)
    values[7] = -1e-4
    s = q * values @ q.T
    s = 0.5 * s + 0.5 * s.T
    assert s.diagonal().min() > 0
    with pytest.raises(
        ValueError, match=r"`covariance_2` to be positive semi-definite, got .*-0\.0"
    ):
        frechet_distance(np.zeros(20), np.eye(20), np.zeros(20), s, method)


@pytest.mark.parametrize("method", METHODS)
def test_rounding_of_float32_is_let_pass(method):
    s = np.array([[1.0, 0.5], [0.5 + 5e-7, 1.0]])
    found = frechet_distance(ZEROS, s, ZEROS, EYE, method)
    expected = frechet_distance(ZEROS, 0.5 * (s + s.T), ZEROS, EYE, method)
    assert found.value == pytest.approx(expected.value, rel=1e-14)
    for s in (np.diag([1.0, -1e-7]), np.array([[1.0, 1 + 1e-7], [1 + 1e-7, 1.0]])):
        found = frechet_distance(ZEROS, s, ZEROS, EYE, method)
        least, largest = np.linalg.eigvalsh(s)
        expected = (math.sqrt(largest) - 1) ** 2 + 1 + least
        assert found.value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_covariance_that_is_not_finite(value, method):
    torch = pytest.importorskip("torch")
    for matrix in (with_value(value, 0, 0), with_value(value, 1, 0)):
        for s in (matrix, torch.tensor(matrix)):
            with pytest.raises(ValueError, match=rf"`covariance_2` to be finite, got {value}"):
                frechet_distance(ZEROS, EYE.astype("f4"), ZEROS, s, method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("matrix", "got"),
    [
        (np.diag([1.0, 1e-200]), "1e-200 of feature 1"),
        (np.diag([1e-310, 1.0]), "1e-310 of feature 0"),
        (np.diag([1.0, 1e300]), "1e+300 of feature 1"),
        (np.diag([1e308, 1e308]), "1e+308 of feature 0"),
    ],
)
def test_variances_out_of_range(matrix, got, method):
    with raises("frechet_distance", f"`covariance_1` {RANGE} {got}{POWER}"):
        frechet_distance(ZEROS, matrix, ZEROS, EYE, method)


@pytest.mark.parametrize("method", METHODS)
def test_variances_at_the_ends_of_the_range(method):
    for variance in (1e-150, 0.25e150):
        found = frechet_distance(
            [0], np.array([[variance]]), [0], np.array([[4 * variance]]), method
        )
        assert found.value == pytest.approx(variance, rel=1e-13)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("mean_1", "mean_2", "text"),
    [
        ([1e200], [0.0], "`mean_1` within 2^500 in magnitude, got 1e+200"),
        ([1.7e308], [-1.7e308], "`mean_1` within 2^500 in magnitude, got 1.7e+308"),
        ([0.0, 0.0], [1.0, -1e160], "`mean_2` within 2^500 in magnitude, got -1e+160"),
    ],
)
def test_means_whose_squares_leave_float64(mean_1, mean_2, text, method):
    s = np.eye(len(mean_1))
    with raises("frechet_distance", text):
        frechet_distance(mean_1, s, mean_2, s, method)


@pytest.mark.parametrize("method", METHODS)
def test_the_largest_means(method):
    mean = np.full(3, 2.0**500)
    found = frechet_distance(mean, np.eye(3), -mean, np.eye(3), method)
    assert found.value == found.mean_term == 12 * 2.0**1000


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("value", "got"),
    [
        (EYE * 1j, f"{DTYPES} complex128; pass real and imaginary parts as separate columns"),
        (EYE > 0, f"{DTYPES} bool; convert it with covariance_1.astype(np.float32)"),
        (np.array([["a", "b"], ["c", "d"]]), f"{DTYPES} <U1"),
        (EYE.astype(object), f"{DTYPES} object; convert it with covariance_1.astype(np.float64)"),
        (
            np.ma.masked_array(EYE),
            "without a mask, got a masked array; fill or drop the masked entries first",
        ),
    ],
)
def test_a_covariance_of_the_wrong_dtype(value, got, method):
    with raises("frechet_distance", f"`covariance_1` {got}", TypeError):
        frechet_distance(ZEROS, value, ZEROS, EYE, method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("value", "got"),
    [
        ("statistics.npz", "str 'statistics.npz'"),
        (None, "NoneType None"),
        ([[1.0, 2.0], [3.0]], "list [[1.0, 2.0], [3.0]]"),
        ([["1", "0"], ["0", "1"]], "list [['1', '0'], ['0', '1']]"),
    ],
)
def test_a_covariance_that_is_no_array(value, got, method):
    with raises("frechet_distance", f"`covariance_2` {NUMBERS} {got}", TypeError):
        frechet_distance(ZEROS, EYE, ZEROS, value, method)


@pytest.mark.parametrize("method", METHODS)
def test_nested_lists_and_vectors_in_place_of_covariances(method):
    one, other = [[1, 0], [0, 9]], [[4, 0], [0, 1]]
    found = frechet_distance([0, 0], one, [3, 4], other, method)
    assert found.value == pytest.approx(30.0, rel=1e-13)
    with raises("frechet_distance", "`covariance_1` of shape (2, 2), got shape (2,)"):
        frechet_distance(ZEROS, np.ones(2), ZEROS, EYE, method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("mean", "got"),
    [
        ([0, 1j], "list [0, 1j]"),
        ("ab", "str 'ab'"),
        (None, "NoneType None"),
        ([True, False], "list [True, False]"),
    ],
)
def test_a_mean_of_the_wrong_type(mean, got, method):
    with raises("frechet_distance", f"`mean_1` {NUMBERS} {got}", TypeError):
        frechet_distance(mean, EYE, ZEROS, EYE, method)


@pytest.mark.parametrize("method", ["sqrtm", "", None, 1, ["eigh"]])
def test_an_unknown_method(method):
    with raises("frechet_distance", f"{CHOICE}{method!r}"):
        frechet_distance(ZEROS, EYE, ZEROS, EYE, method)
    with raises("fid", f"{CHOICE}{method!r}"):
        fid(real=X, fake=X, method=method)


def test_torch_and_numpy_covariances():
    torch = pytest.importorskip("torch")
    tensor = torch.eye(2, dtype=torch.float64)
    text = "`covariance_2` of the library and on the device of `covariance_1`, "
    with raises("frechet_distance", f"{text}torch on cpu, got numpy on cpu", TypeError):
        frechet_distance(ZEROS, tensor, ZEROS, EYE, "newton_schulz")
    with raises("frechet_distance", f"{text}numpy on cpu, got torch on cpu", TypeError):
        frechet_distance(ZEROS, EYE, ZEROS, tensor, "newton_schulz")
    for pair in ((tensor, 4 * EYE), (EYE, 4 * tensor)):
        assert_same_bits(
            frechet_distance(ZEROS, pair[0], ZEROS, pair[1]),
            frechet_distance(ZEROS, EYE, ZEROS, 4 * EYE),
        )


@pytest.mark.parametrize("method", METHODS)
def test_torch_tensors_that_cannot_be_read(method):
    torch = pytest.importorskip("torch")
    eye = torch.eye(2)
    for tensor in (eye * 1j, eye.bool(), eye.to_sparse(), torch.eye(2, device="meta")):
        with pytest.raises(TypeError, match=r"^frechet_distance: expected `covariance_1` "):
            frechet_distance(ZEROS, tensor, ZEROS, eye, method)
