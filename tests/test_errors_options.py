"""Bad options and surroundings: the sentence that names function, option, condition and value."""

from __future__ import annotations

import re
from decimal import Decimal

import numpy as np
import pytest
from test_errors import METRICS, X, Y, fails

import fastgen
from fastgen import pairwise, plan


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
    x = np.random.default_rng(1).standard_normal((1000, 100)).astype(np.float32)
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
