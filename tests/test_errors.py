"""Bad rows: one clear sentence that names function, argument, condition and value."""

from __future__ import annotations

import re

import numpy as np
import pytest

import fastgen

RNG = np.random.default_rng(0)
X = RNG.standard_normal((6, 4)).astype(np.float32)
Y = RNG.standard_normal((5, 4)).astype(np.float32)


class Frame:
    """Stands for a data frame: convertible, but no array."""

    def __array__(self, dtype=None, copy=None):
        return X


class Sparse:
    nnz = 3

    def toarray(self):
        return X


def with_value(value, row, column, dtype="float64"):
    x = RNG.standard_normal((6, 4)).astype(dtype)
    x[row, column] = value
    return x


ARRAYS = [
    (X[0], ValueError, "of shape (n, d), got shape (4,); a single feature is {}.reshape(-1, 1)"),
    (X[np.newaxis], ValueError, "of shape (n, d), got shape (1, 6, 4)"),
    (np.float32(1), ValueError, "of shape (n, d), got shape ()"),
    (X[:0], ValueError, "with at least one row and one column, got shape (0, 4)"),
    (X[:, :0], ValueError, "with at least one row and one column, got shape (6, 0)"),
    (
        np.broadcast_to(X[:1], (2**31, 4)),
        ValueError,
        "with fewer than 2^31 rows, got shape (2147483648, 4)",
    ),
    (
        X.tolist(),
        TypeError,
        "to be an array of shape (n, d) or the path of one, got list; pass np.",
    ),
    (
        Frame(),
        TypeError,
        f"to be an array of shape (n, d) or the path of one, got {__name__}.Frame",
    ),
    (
        None,
        TypeError,
        "to be an array of shape (n, d) or the path of one, got NoneType; pass np.as",
    ),
    (
        7,
        TypeError,
        "to be an array of shape (n, d) or the path of one, got int; pass np.asarray({})",
    ),
    (
        Sparse(),
        TypeError,
        f"to be a dense array, got the sparse {__name__}.Sparse; convert it with",
    ),
    (
        np.ma.masked_invalid(X),
        TypeError,
        "without a mask, got a masked array; fill or drop the masked entries first",
    ),
    (
        X > 0,
        TypeError,
        "of dtype float16, float32, float64 or integer, got bool; convert it with {}.astype(",
    ),
    (
        X.astype(complex),
        TypeError,
        "of dtype float16, float32, float64 or integer, got complex128; pass real and imaginary",
    ),
    (
        X.astype(object),
        TypeError,
        "of dtype float16, float32, float64 or integer, got object; convert it with {}.astype(",
    ),
    (X.astype(str), TypeError, "of dtype float16, float32, float64 or integer, got <U"),
    (
        X.astype("datetime64[s]"),
        TypeError,
        "of dtype float16, float32, float64 or integer, got datetime64[s]",
    ),
    (with_value(np.nan, 3, 1), ValueError, "to be finite, got nan in row 3, column 1"),
    (with_value(np.inf, 5, 3, "f4"), ValueError, "to be finite, got inf in row 5, column 3"),
    (with_value(-np.inf, 0, 0, "f2"), ValueError, "to be finite, got -inf in row 0, column 0"),
    (
        with_value(2.0**501, 2, 1),
        ValueError,
        "within 2^500 in magnitude, got 6.546781215792284e+150 in row 2, column 1; multiply all",
    ),
    (
        with_value(-np.nextafter(2.0**500, np.inf), 2, 1),
        ValueError,
        "within 2^500 in magnitude, got -3.2733906078961426e+150 in row 2, column 1; multiply all",
    ),
    ("nowhere.npy", FileNotFoundError, "to be an existing file, got 'nowhere.npy'"),
]
if np.finfo(np.longdouble).bits > 64:
    ARRAYS.append(
        (
            X.astype(np.longdouble),
            TypeError,
            "of dtype float16, float32, float64 or integer, got float128; convert it with",
        )
    )

CALLS = {
    "knn_radii": {"x": lambda bad: fastgen.knn_radii(bad, k=1)},
    "nearest": {
        "x": lambda bad: fastgen.nearest(bad, Y),
        "y": lambda bad: fastgen.nearest(X, bad),
    },
    "prdc": {
        "real": lambda bad: fastgen.prdc(real=bad, fake=Y, k=1),
        "fake": lambda bad: fastgen.prdc(real=X, fake=bad, k=1),
    },
    "precision_recall": {
        "real": lambda bad: fastgen.precision_recall(real=bad, fake=Y, k=1),
        "fake": lambda bad: fastgen.precision_recall(real=X, fake=bad, k=1),
    },
    "membership": {
        "real": lambda bad: fastgen.membership(real=bad, fake=Y, k=1),
        "fake": lambda bad: fastgen.membership(real=X, fake=bad, k=1),
    },
    "evaluate": {
        "real": lambda bad: fastgen.evaluate(real=bad, fake=Y, k=1),
        "fake": lambda bad: fastgen.evaluate(real=X, fake=bad, k=1),
    },
}
ARGUMENTS = [(function, name) for function, names in CALLS.items() for name in names]
METRICS = ("prdc", "precision_recall", "membership", "evaluate")


def fails(error, text):
    return pytest.raises(error, match="^" + re.escape(text))


def refuses_unusable_arrays(call, function, argument, may_be_none):
    for bad, error, text in ARRAYS:
        if bad is None and may_be_none:
            continue
        start = f"{function}: expected `{argument}` "
        with fails(error, start + text.replace("{}", argument)) as caught:
            call(bad)
        assert type(caught.value) is error


@pytest.mark.parametrize(("function", "argument"), ARGUMENTS)
def test_unusable_arrays(function, argument):
    alone = (function, argument) == ("nearest", "y")  # x against itself
    refuses_unusable_arrays(CALLS[function][argument], function, argument, may_be_none=alone)


def test_first_bad_row_wins_whatever_is_wrong_with_it():
    x = with_value(np.nan, 4, 0)
    x[2, 3] = -1e200
    with fails(
        ValueError, "knn_radii: expected `x` within 2^500 in magnitude, got -1e+200 in row 2"
    ):
        fastgen.knn_radii(x)
    x[2, 1] = np.inf
    with fails(ValueError, "knn_radii: expected `x` to be finite, got inf in row 2, column 1"):
        fastgen.knn_radii(x)
    x[1, 2] = np.nan
    with fails(ValueError, "knn_radii: expected `x` to be finite, got nan in row 1, column 2"):
        fastgen.knn_radii(x)


def test_the_limit_itself_is_accepted():
    x = np.array([[2.0**500], [-(2.0**500)], [0.0]])
    assert fastgen.knn_radii(x, k=1).tolist() == [2.0**500] * 3


@pytest.mark.parametrize("function", METRICS)
def test_sets_that_do_not_fit_together(function):
    call = getattr(fastgen, function)
    with fails(
        ValueError, f"{function}: expected `fake` with d = 4 columns like `real`, got shape "
    ):
        call(real=X, fake=Y[:, :3])
    for size in ("real", "fake"):
        sets = {"real": X, "fake": Y, size: X[:1]}
        with fails(
            ValueError, f"{function}: expected `{size}` with at least 2 rows, got 1; a single"
        ):
            call(**sets, k=1)
    with pytest.raises(TypeError, match="positional"):
        call(X, Y)


def test_sets_that_do_not_fit_together_nearest():
    with fails(ValueError, "nearest: expected `y` with d = 4 columns like `x`, got shape (5, 3)"):
        fastgen.nearest(X, Y[:, :3])
    with fails(
        ValueError, "nearest: expected `x` with at least 2 rows, got 1; a single row has no"
    ):
        fastgen.nearest(X[:1])
    with fails(
        ValueError, "knn_radii: expected `x` with at least 2 rows, got 1; a single row has no"
    ):
        fastgen.knn_radii(X[:1])
    assert fastgen.nearest(X[:1], Y[:1]).indices.tolist() == [[0]]


def test_nothing_happens_before_the_input_is_known_to_be_good(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("the engine was started")

    for engine in ("Prepared", "Knn", "Balls", "Realism"):
        monkeypatch.setattr(f"fastgen.session.core.{engine}", refuse)
    told = []
    for options in ({"k": 9}, {"k": 1, "ties": "half"}, {"k": 1, "memory": 5}):
        with pytest.raises(ValueError, match=r"^prdc: expected"):
            fastgen.prdc(real=X, fake=with_value(np.nan, 2, 0), progress=told.append, **options)
    with pytest.raises(ValueError, match=r"^prdc: expected `fake` to be finite"):
        fastgen.prdc(real=X, fake=with_value(np.nan, 2, 0), k=1, progress=told.append)
    assert told == []
