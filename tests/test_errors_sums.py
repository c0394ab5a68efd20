"""Bad input to MMD, KID, CMMD and sums of kernels, where the rows or the budget are at fault.

Options that are wrong on their own are in test_kernel_metrics.py and test_kernel_classes.py.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
from test_errors import fails, refuses_unusable_arrays

import fastgen
from fastgen import Energy, Gaussian, Laplacian, Polynomial, RationalQuadratic, draws, pairwise

RNG = np.random.default_rng(1)
X = RNG.standard_normal((6, 4)).astype(np.float32)
Y = RNG.standard_normal((5, 4)).astype(np.float32)

CALLS = {
    "mmd": {"x": lambda bad: fastgen.mmd(bad, Y), "y": lambda bad: fastgen.mmd(X, bad)},
    "kid": {
        "real": lambda bad: fastgen.kid(real=bad, fake=Y),
        "fake": lambda bad: fastgen.kid(real=X, fake=bad, subsets=2, subset_size=2),
    },
    "cmmd": {
        "real": lambda bad: fastgen.cmmd(real=bad, fake=Y),
        "fake": lambda bad: fastgen.cmmd(real=X, fake=bad),
    },
    "evaluate": {
        "real": lambda bad: fastgen.evaluate(real=bad, fake=Y, metrics=["kid", "cmmd"]),
        "fake": lambda bad: fastgen.evaluate(real=X, fake=bad, metrics=["mmd"]),
    },
    "kernel_sums": {
        "x": lambda bad: pairwise.kernel_sums(bad, Y),
        "y": lambda bad: pairwise.kernel_sums(X, bad, Energy()),
    },
}
METRICS = {
    "mmd": fastgen.mmd,
    "kid": lambda x, y, **options: fastgen.kid(real=x, fake=y, **options),
    "cmmd": lambda x, y, **options: fastgen.cmmd(real=x, fake=y, **options),
    "kernel_sums": pairwise.kernel_sums,
}
WIDE = [Gaussian("median"), Laplacian("median"), RationalQuadratic(1.0, "median")]


# --- rows -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "argument"), [(function, name) for function in CALLS for name in CALLS[function]]
)
def test_unusable_arrays(function, argument):
    alone = (function, argument) == ("kernel_sums", "y")  # x against itself
    refuses_unusable_arrays(CALLS[function][argument], function, argument, may_be_none=alone)


@pytest.mark.parametrize("function", METRICS)
def test_sets_that_do_not_fit_together(function):
    names = ("real", "fake") if function in ("kid", "cmmd") else ("x", "y")
    text = f"{function}: expected `{names[1]}` with d = 4 columns like `{names[0]}`, got shape (5, "
    for width in (1, 3):
        with fails(ValueError, text):
            METRICS[function](X, Y[:, :width])


def test_too_few_rows():
    for call, names in (
        (fastgen.mmd, ("x", "y")),
        (lambda x, y: fastgen.kid(real=x, fake=y), ("real", "fake")),
        (lambda x, y: fastgen.kid(real=x, fake=y, subsets=1, subset_size=2), ("real", "fake")),
    ):
        for x, y, name in ((X[:1], Y, names[0]), (X, Y[:1], names[1]), (X[:1], Y[:1], names[0])):
            with pytest.raises(
                ValueError, match=f"^[a-z]+: expected `{name}` with at least 2 rows"
            ):
                call(x, y)
    assert fastgen.mmd(X[:1], Y[:1], estimator="biased").n == 1
    assert fastgen.cmmd(real=X[:1], fake=Y[:1]).m == 1
    assert pairwise.kernel_sums(X[:1], Y[:1]).shape == (1,)
    assert pairwise.kernel_sums(X[:1]).tolist() == [0.0]


@pytest.mark.parametrize("row", [0, 3, 4])
def test_zero_rows_have_no_direction(row):
    for dtype in ("float16", "float32", "float64", "int16"):
        bad = np.ones((5, 4), dtype=dtype)
        bad[row] = 0
        if dtype != "int16":
            bad[row, 2] = -0.0
        text = f"without zero rows, got zeros in row {row}; it has no direction"
        with fails(ValueError, f"cmmd: expected `real` {text}"):
            fastgen.cmmd(real=bad, fake=Y)
        with fails(ValueError, f"cmmd: expected `fake` {text}"):
            fastgen.cmmd(real=X, fake=bad)
        with fails(ValueError, f"evaluate: expected `fake` {text}"):
            fastgen.evaluate(real=X, fake=bad, metrics=["kid", "cmmd"])
    with fails(ValueError, "cmmd: expected `real` without zero rows"):
        fastgen.cmmd(real=np.zeros((3, 4)), fake=np.zeros((3, 4)))


@pytest.mark.parametrize(("dtype", "smallest"), [("float32", 1e-45), ("float64", 1e-307)])
def test_the_smallest_rows_are_no_zero_rows(dtype, smallest):
    # Down to norms whose inverse is a float64 number.
    real = np.array([[smallest, 0, 0, 0], [0, smallest, 0, 0]], dtype=dtype)
    fake = np.array([[1, 0, 0, 0], [0, 1, 0, 0]], dtype=dtype)
    assert fastgen.cmmd(real=real, fake=fake).value == 0.0


def test_rows_at_the_limit_have_a_direction():
    real = np.array([[2.0**500, 0], [0, -(2.0**500)]])
    assert fastgen.cmmd(real=real, fake=np.array([[1e-3, 0], [0, -1.0]])).value == 0.0


# --- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", ["mmd", "kid", "kernel_sums"])
def test_polynomials_that_leave_float64(function):
    text = (
        f"{function}: expected `kernel` with values in the range of float64, got one that may exc"
    )
    x, y = 1e100 * X.astype(np.float64), 1e100 * Y.astype(np.float64)
    options = {"degree": 32} if function == "kid" else {"kernel": Polynomial(32)}
    for a, b in ((x, y), (x, Y), (X, y)):
        with fails(ValueError, text) as caught:
            METRICS[function](a, b, **options)
        assert str(caught.value).endswith("; scale them, or lower gamma or degree")
    gamma = {"gamma": 1e-200} if function == "kid" else {"kernel": Polynomial(32, 1e-200)}
    result = METRICS[function](x, y, **(options | gamma))
    values = result if function == "kernel_sums" else list(result.to_dict().values())[:2]
    assert np.isfinite(values).all()


def test_other_kernels_do_not_leave_float64():
    x, y = 2.0**499 * np.sign(X.astype(np.float64)), np.zeros((5, 4))
    for kernel in (Gaussian(1.0), Laplacian(1e-3), RationalQuadratic(0.3, 2.0**-500)):
        found = fastgen.mmd(x, y, kernel, "biased", permutations=5)
        assert np.isfinite([found.value, found.standard_error]).all(), str(kernel)
        assert found.value > 0
    with fails(ValueError, "mmd: expected `kernel` with values in the range of float64"):
        fastgen.mmd(x, y, Energy())
    with fails(ValueError, "mmd: expected `kernel` with values in the range of float64"):
        fastgen.mmd(x, y, [Gaussian(1.0), Gaussian(1.0) + Energy()])


@pytest.mark.parametrize("kernel", WIDE, ids=["gaussian", "laplacian", "quadratic"])
def test_a_median_of_zero(kernel):
    text = "expected `kernel` with a positive median distance, got 0, since most rows are identical"
    same, most = np.ones((6, 4)), np.concatenate([np.ones((7, 4)), X[:1]])
    with fails(ValueError, f"mmd: {text}; give the bandwidth as a number"):
        fastgen.mmd(same, same, kernel)
    with fails(ValueError, f"mmd: {text}"):
        fastgen.mmd(most, same[:1], [Energy(), Polynomial() + kernel], "biased")
    with fails(ValueError, f"kernel_sums: {text}"):
        pairwise.kernel_sums(most, kernel=kernel)
    assert fastgen.mmd(most, X, kernel).n == 8


def test_one_kernel_for_sums_of_rows():
    with fails(TypeError, "kernel_sums: expected `kernel` to be one kernel, got ["):
        pairwise.kernel_sums(X, Y, [Energy()])
    with fails(TypeError, "kernel_sums: expected `kernel` to be a kernel or a sequence of kernels"):
        pairwise.kernel_sums(X, Y, "energy")


def test_subsets_larger_than_a_set():
    for size in (6, 1000):
        with fails(ValueError, "kid: expected `subset_size` in [2, min(n, m)] = [2, 5], got "):
            fastgen.kid(real=X, fake=Y, subsets=3, subset_size=size)
    assert np.isfinite(fastgen.kid(real=X, fake=Y, subsets=3, subset_size=5).mean)
    assert np.isfinite(fastgen.kid(real=X, fake=Y, subset_size=10**6).mean)  # of no subset


# --- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", METRICS)
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
            METRICS[function](X, Y, **options)
    METRICS[function](X, Y, threads=np.int64(2), device="cpu", progress=lambda done: None)


@pytest.mark.parametrize("function", METRICS)
def test_a_budget_that_is_too_small_says_what_is_enough(function):
    call = METRICS[function]
    rows = RNG.standard_normal((400, 30)).astype(np.float32)
    with pytest.raises(ValueError, match=rf"^{function}: expected `memory` of at least \d+ ") as no:
        call(rows, rows[:300], memory=1000)
    assert " bytes for this input, got 1000; " in str(no.value)
    enough = re.search(r'memory="(.*)" is enough$', str(no.value))[1]
    bits = call(rows, rows[:300], memory=enough)
    np.testing.assert_equal(bits, call(rows, rows[:300]))


def test_more_kernels_and_subsets_need_more_memory():
    def needed(call):
        with pytest.raises(ValueError, match="`memory` of at least") as caught:
            call()
        return int(re.search(r"at least (\d+) bytes", str(caught.value))[1])

    rows = RNG.standard_normal((3000, 8)).astype(np.float32)
    one = needed(lambda: fastgen.mmd(rows, rows, memory=1))
    assert needed(lambda: fastgen.mmd(rows, rows, [Energy()] * 50, memory=1)) > one
    assert needed(lambda: fastgen.mmd(rows, rows, permutations=50, memory=1)) > one
    assert needed(lambda: fastgen.kid(real=rows, fake=rows, subsets=100, memory=1)) > one


def test_draws_that_exceed_the_budget_are_not_made(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("drawn before the budget was looked at")

    monkeypatch.setattr(draws, "relabellings", refuse)
    monkeypatch.setattr(draws, "subsets", refuse)
    x = np.zeros((1000, 2)) + np.arange(1000)[:, np.newaxis]
    with fails(ValueError, "mmd: expected `memory` of at least "):  # labels of 2 GB
        fastgen.mmd(x, x, permutations=10**6, memory="1GB")
    with fails(ValueError, "kid: expected `memory` of at least "):  # indices of 16 GB
        fastgen.kid(real=x, fake=x, subsets=10**6, subset_size=1000, memory="1GB")


def test_nothing_happens_before_the_input_is_known_to_be_good(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("the engine was started")

    monkeypatch.setattr("fastgen.sums.core.KernelSums", refuse)
    bad, told = X.copy(), []
    bad[2, 1] = np.nan
    for call in (
        lambda: fastgen.mmd(X, bad, progress=told.append),
        lambda: fastgen.mmd(X, Y, permutations=-1, progress=told.append),
        lambda: fastgen.mmd(X, Y, seed=-1, progress=told.append),
        lambda: fastgen.mmd(X, Y, estimator="unbaised", progress=told.append),
        lambda: fastgen.mmd(X, Y, memory=5, progress=told.append),
        lambda: fastgen.kid(real=X, fake=Y, gamma=-0.5, progress=told.append),
        lambda: fastgen.kid(real=X, fake=Y, subsets=2, progress=told.append),
        lambda: fastgen.kid(real=bad, fake=Y, subsets=2, subset_size=2, progress=told.append),
        lambda: fastgen.cmmd(real=bad, fake=Y, progress=told.append),
        lambda: pairwise.kernel_sums(bad, Y, progress=told.append),
    ):
        with pytest.raises(ValueError, match=r"^(mmd|kid|cmmd|kernel_sums): expected"):
            call()
    assert told == []
