"""Bad input: one clear sentence that names function, argument, condition and value."""

from __future__ import annotations

import re
from decimal import Decimal

import numpy as np
import pytest

import fastgen
from fastgen import pairwise, plan

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


@pytest.mark.parametrize(
    ("function", "call", "bounds"),
    [
        ("knn_radii", lambda k: fastgen.knn_radii(X, k), "[1, n-1] = [1, 5]"),
        ("nearest", lambda k: fastgen.nearest(X, k=k), "[1, n-1] = [1, 5]"),
        ("nearest", lambda k: fastgen.nearest(X, Y, k), "[1, m] = [1, 5]"),
        *(
            (
                name,
                lambda k, name=name: getattr(fastgen, name)(real=X, fake=Y, k=k),
                "[1, min(n, m)-1] = [1, 4]",
            )
            for name in METRICS
        ),
    ],
)
def test_unusable_k(function, call, bounds):
    start = f"{function}: expected `k`"
    for k in (0, -1, 6, [1, 6], np.array([3, 0]), 2**70):
        value = next(entry for entry in np.ravel(np.array(k, dtype=object)) if not 1 <= entry <= 5)
        with fails(ValueError, f"{start} in {bounds}, got {value}"):
            call(k)
    words = "to be an int or a sequence of ints"
    for k, got in (
        (5.0, "float 5.0"),
        (True, "bool True"),
        (np.bool_(True), "bool np.True_"),
        ("5", "str '5'"),
        (None, "NoneType None"),
        ([1, 2.0], "float 2.0"),
        ([1, False], "bool False"),
        (np.array([1.0]), "float64 np.float64(1.0)"),
        ({1, 2}, "set {1, 2}"),
        (Decimal(1), "Decimal Decimal('1')"),
    ):
        with fails(TypeError, f"{start} {words}, got {got}"):
            call(k)
    for k in ([], (), np.array([], dtype=int)):
        with fails(ValueError, f"{start} {words}, got an empty sequence"):
            call(k)


@pytest.mark.parametrize("function", METRICS)
def test_unusable_ties(function):
    for ties in ("close", "", None, True, 1, ["closed"]):
        with fails(
            ValueError, f'{function}: expected `ties` to be "closed" or "open", got {ties!r}'
        ):
            getattr(fastgen, function)(real=X, fake=Y, k=1, ties=ties)


def calls_with_options():
    yield "knn_radii", lambda **options: fastgen.knn_radii(X, 1, **options)
    yield "nearest", lambda **options: fastgen.nearest(X, **options)
    for name in METRICS:
        yield name, lambda name=name, **o: getattr(fastgen, name)(real=X, fake=Y, k=1, **o)


@pytest.mark.parametrize(("function", "call"), list(calls_with_options()))
def test_unusable_options(function, call, monkeypatch):
    # As in a build without a CUDA compiler, whatever this one has.
    monkeypatch.setenv("FASTGEN_CUDA_MODULE", "fastgen._nothing")
    devices = 'to be "cpu", "cuda", "cuda:0", "cuda:all" or None'
    memory = '`memory` to be a positive number of bytes or a text such as "4GB"'
    for options, error, text in (
        ({"threads": 0}, ValueError, "`threads` of at least 1, got 0"),
        ({"threads": -2}, ValueError, "`threads` of at least 1, got -2"),
        ({"threads": 1.0}, TypeError, "`threads` to be an int, got float 1.0"),
        ({"threads": True}, TypeError, "`threads` to be an int, got bool True"),
        ({"device": "tpu"}, ValueError, f"`device` {devices}, got 'tpu'"),
        ({"device": 0}, ValueError, f"`device` {devices}, got 0"),
        (
            {"device": "cuda"},
            fastgen.BackendUnavailableError,
            "`device` \"cpu\" or None, got 'cuda'; this build has no GPU backend",
        ),
        (
            {"device": "cuda:1"},
            fastgen.BackendUnavailableError,
            "`device` \"cpu\" or None, got 'cuda:1'; this build has no GPU backend",
        ),
        ({"progress": "yes"}, TypeError, "`progress` to be a bool or a callable, got str 'yes'"),
        ({"progress": 1}, TypeError, "`progress` to be a bool or a callable, got int 1"),
        ({"memory": "lots"}, ValueError, f"{memory}, got 'lots'"),
        ({"memory": "-1GB"}, ValueError, f"{memory}, got '-1GB'"),
        ({"memory": 0}, ValueError, f"{memory}, got 0"),
        ({"memory": "0MB"}, ValueError, f"{memory}, got '0MB'"),
        ({"memory": 1e9}, TypeError, f"{memory}, got float 1000000000.0"),
        ({"memory": True}, TypeError, f"{memory}, got bool True"),
    ):
        with fails(error, f"{function}: expected {text}"):
            call(**options)
    call(threads=np.int64(2), device="cpu", progress=lambda fraction: None, memory="1GB")


def test_a_budget_that_is_too_small_says_what_is_enough():
    x = RNG.standard_normal((1000, 100)).astype(np.float32)
    needed = plan.bytes_needed([x.shape], 3, threads=fastgen.info().threads)
    text = f"knn_radii: expected `memory` of at least {needed} bytes for this input, got 1000; "
    with fails(ValueError, text) as caught:
        fastgen.knn_radii(x, memory=1000)
    enough = re.search(r'memory="(.*)" is enough', str(caught.value))[1]
    fastgen.knn_radii(x, memory=enough)


def test_unusable_metrics():
    known = "fid, kid, mmd, cmmd, prdc, precision_recall, kde, is"
    start = f"evaluate: expected `metrics` to be a sequence of {known}, got"
    for metrics, error, got in (
        (["prdc", "fido"], ValueError, "'fido'"),
        ([], ValueError, "an empty sequence"),
        ("prdc", TypeError, "str 'prdc'"),
        ({"prdc"}, TypeError, "set {'prdc'}"),
        ([None], ValueError, "None"),
    ):
        with fails(error, f"{start} {got}"):
            fastgen.evaluate(real=X, fake=Y, k=1, metrics=metrics)


def test_unusable_bandwidth_of_a_report():
    start = "evaluate: expected `bandwidth`"
    for bandwidth, error, text in (
        ("wide", ValueError, 'to be a number, "cv", "scott" or "silverman", got \'wide\''),
        (0, ValueError, "above 0, got 0.0"),
        (np.inf, ValueError, "to be finite, got inf"),
        ([1.0], TypeError, "to be one number, got [1.0]"),
        (None, TypeError, "to be one number, got None"),
        (True, TypeError, "to be a number or an array of numbers, got bool True"),
    ):
        with fails(error, f"{start} {text}"):
            fastgen.evaluate(real=X, fake=Y, metrics=["kde"], bandwidth=bandwidth)
        fastgen.evaluate(real=X, fake=Y, metrics=["kid"], bandwidth=bandwidth)
    with fails(ValueError, "evaluate: expected `fake` with at least 2 rows, got 1"):
        fastgen.evaluate(real=X, fake=Y[:1], metrics=["kde"])
    text = "evaluate: expected `fake` that differ, or another `bandwidth`, got equal rows"
    with fails(ValueError, text):
        fastgen.evaluate(real=X, fake=np.ones((3, 4)), metrics=["kde"])


def test_unusable_environment(monkeypatch):
    available = ", ".join(fastgen.info().instruction_sets)
    monkeypatch.setenv("FASTGEN_ISA", "mmx")
    with fails(ValueError, f"prdc: expected `FASTGEN_ISA` to be one of {available}, got 'mmx'"):
        fastgen.prdc(real=X, fake=Y, k=1)
    with fails(ValueError, f"info: expected `FASTGEN_ISA` to be one of {available}, got 'mmx'"):
        fastgen.info()
    monkeypatch.delenv("FASTGEN_ISA")
    for value in ("0", "-1", "two", "1.5", "²"):
        monkeypatch.setenv("FASTGEN_NUM_THREADS", value)
        text = "knn_radii: expected `FASTGEN_NUM_THREADS` to be a positive integer, got "
        with fails(ValueError, f"{text}{value!r}"):
            fastgen.knn_radii(X, 1)
        fastgen.knn_radii(X, 1, threads=1)


def test_unusable_arguments_of_primitives():
    available = ", ".join(fastgen.info().instruction_sets)
    with fails(ValueError, f"sq_knn: expected `isa` to be one of {available}, got 'mmx'"):
        pairwise.sq_knn(X, isa="mmx")
    with fails(
        ValueError, "sq_knn: expected `path` to be one of auto, int8, float32, scan, tree, g"
    ):
        pairwise.sq_knn(X, path="magic")
    with fails(ValueError, "sq_knn: expected `k` in [1, m] = [1, 5], got 6"):
        pairwise.sq_knn(X, Y, 6)
    with fails(
        ValueError, "ball_counts: expected `y` with d = 4 columns like `x`, got shape (5, 3)"
    ):
        pairwise.ball_counts(X, Y[:, 1:])
    with fails(
        ValueError, "ball_counts: expected `sq_radii_x` of shape (r, 6) or (6,), got shape ("
    ):
        pairwise.ball_counts(X, Y, np.ones(5))
    with fails(
        ValueError, "ball_counts: expected `sq_radii_y` of shape (r, 5) or (5,), got shape ("
    ):
        pairwise.ball_counts(X, Y, sq_radii_y=np.ones((2, 2, 5)))
    with fails(ValueError, "sq_realism: expected `sq_radii_x` of shape (6,), got "):
        pairwise.sq_realism(X, Y, np.ones((2, 6)))


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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        (1, 1),
        (np.int32(12), 12),
        ("7", 7),
        ("7B", 7),
        ("1k", 1000),
        ("1KiB", 1024),
        ("4GB", 4 * 10**9),
        (" 512 MiB ", 512 * 2**20),
        ("1.5gib", 3 * 2**29),
        ("2T", 2 * 10**12),
    ],
)
def test_memory_is_read(text, expected):
    assert plan.parse_memory("prdc", text) == expected


@pytest.mark.parametrize("text", ["", "GB", "4XB", "4iB", "4 G B", "1e9", "0x10", "4GB4"])
def test_memory_is_not_guessed(text):
    with fails(ValueError, "prdc: expected `memory` to be a positive number of bytes"):
        plan.parse_memory("prdc", text)
