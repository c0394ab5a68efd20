"""MMD, KID and CMMD as a caller sees them: options, draws, sharing, and what they refuse."""

from __future__ import annotations

import importlib
import itertools

import families
import numpy as np
import pytest

import fastgen
from fastgen import (
    Energy,
    Gaussian,
    Laplacian,
    Polynomial,
    RationalQuadratic,
    draws,
    numpy_reference,
    sums,
)

KERNELS = {
    "polynomial": Polynomial(),
    "linear": Polynomial(1, 0.3, 0.0),
    "gaussian": Gaussian(2.0),
    "median": Gaussian("median"),
    "rational quadratic": RationalQuadratic(0.5, "median"),
    "laplacian": Laplacian(3.0),
    "energy": Energy(),
    "sum": Gaussian(1.0) + Gaussian("median") + Laplacian(2.0),
}


@pytest.fixture
def x():
    return families.relu(families.seeded("kernel metrics"), 40, 12, "float64")[0]


@pytest.fixture
def y():
    return families.relu(families.seeded("kernel metrics"), 40, 12, "float64")[1] + 0.2


def close(expected):
    return pytest.approx(expected, rel=1e-9, abs=1e-12)


def assert_close(found, expected):
    assert found.value == close(expected.value)
    assert found.standard_error == close(expected.standard_error)
    assert (found.p_value, found.n, found.m) == (expected.p_value, expected.n, expected.m)


# --- mmd ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
@pytest.mark.parametrize("name", KERNELS)
def test_mmd_is_that_of_the_reference(x, y, name, estimator):
    arguments = (x, y, KERNELS[name], estimator, 60)
    assert_close(fastgen.mmd(*arguments), numpy_reference.mmd(*arguments))


def test_a_list_of_kernels_gives_a_list_from_one_pass(x, y, monkeypatch):
    expected = [fastgen.mmd(x, y, kernel, permutations=20) for kernel in KERNELS.values()]
    passes = count_calls(monkeypatch, "kernel_sums")
    medians = count_calls(monkeypatch, "median_distance")
    found = fastgen.mmd(x, y, list(KERNELS.values()), permutations=20)
    assert isinstance(found, list)
    for one, alone in zip(found, expected, strict=True):
        assert_close(one, alone)
    assert (len(passes), len(medians)) == (1, 1)
    assert [type(one) for one in fastgen.mmd(x, y, (Energy(),))] == [fastgen.MMD]


def test_nobody_looks_for_a_median_that_nobody_needs(x, y, monkeypatch):
    medians = count_calls(monkeypatch, "median_distance")
    fastgen.mmd(x, y, [Gaussian(1.0), Polynomial(), Energy()])
    assert medians == []


def test_mmd_draws_from_its_seed(x, y):
    def p_value(seed):
        return fastgen.mmd(x, y, permutations=99, seed=seed).p_value

    assert p_value(None) == p_value(0) == p_value(np.int64(0))
    assert len({p_value(seed) for seed in range(8)}) > 1
    far = fastgen.mmd(x, y + 5.0, Energy(), permutations=99)
    assert far.p_value == 0.01
    assert fastgen.mmd(x, y, permutations=0).p_value is None


def test_mmd_of_small_samples(x, y):
    assert np.isnan(fastgen.mmd(x[:3], y).standard_error)
    assert fastgen.mmd(x[:4], y[:4]).standard_error >= 0
    one = fastgen.mmd(x[:1], y[:1], Energy(), "biased")
    assert one.value == pytest.approx(2 * np.linalg.norm(x[0] - y[0]))
    assert fastgen.mmd(x[:2], y[:2], Energy(), permutations=5).n == 2


@pytest.mark.parametrize("name", KERNELS)
def test_biased_mmd_of_a_set_with_itself_is_zero(x, name):
    assert fastgen.mmd(x, x, KERNELS[name], "biased").value == 0.0
    assert fastgen.mmd(x, x.copy(), KERNELS[name], "biased").value == 0.0


# --- kid ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"degree": 2, "gamma": 0.4, "coef0": 0.0},
        {"subsets": 7, "subset_size": 11},
        {"subsets": 3, "subset_size": 2, "seed": 5, "degree": 1},
        {"subset_indices": ([[0, 1, 2], [3, 4, 5]], [[9, 8], [7, 6]])},
    ],
)
def test_kid_is_that_of_the_reference(x, y, options):
    found = fastgen.kid(real=x, fake=y, **options)
    expected = numpy_reference.kid(real=x, fake=y, **options)
    assert (found.mean, found.std) == (close(expected.mean), close(expected.std))


def test_kid_of_the_full_sample_is_the_default_mmd(x, y):
    found, expected = fastgen.kid(real=x, fake=y), fastgen.mmd(x, y)
    assert (found.mean, found.std) == (expected.value, expected.standard_error)


def test_kid_of_subsets_is_mean_and_spread_of_their_values(x, y, monkeypatch):
    passes = count_calls(monkeypatch, "kernel_sums")
    found = fastgen.kid(real=x, fake=y, subsets=6, subset_size=9, seed=3)
    assert len(passes) == 1
    real, fake = draws.subsets(len(x), len(y), 6, 9, seed=3)
    values = [fastgen.mmd(x[i], y[j]).value for i, j in zip(real, fake, strict=True)]
    assert found.mean == close(np.mean(values))
    assert found.std == close(np.std(values))
    assert found == fastgen.kid(real=x, fake=y, subset_indices=(real, fake))
    narrow = real.astype(np.uint8), fake.astype(np.int32)
    assert found == fastgen.kid(real=x, fake=y, subset_indices=narrow)
    assert found != fastgen.kid(real=x, fake=y, subsets=6, subset_size=9, seed=4)
    defaults = [fastgen.kid(real=x, fake=y, subsets=6, subset_size=9, seed=s) for s in (0, None)]
    assert defaults[0] == defaults[1] == fastgen.kid(real=x, fake=y, subsets=6, subset_size=9)


def test_kid_of_the_whole_set_as_its_only_subset(x, y):
    whole = np.arange(len(x))[np.newaxis], np.arange(len(y))[np.newaxis]
    found = fastgen.kid(real=x, fake=y, subset_indices=whole)
    assert found.mean == close(fastgen.kid(real=x, fake=y).mean)
    assert found.std == 0.0


# --- cmmd -----------------------------------------------------------------------------------------


def test_cmmd_is_that_of_the_reference(x, y):
    assert_close(fastgen.cmmd(real=x, fake=y), numpy_reference.cmmd(real=x, fake=y))


def test_cmmd_looks_at_directions_only(x, y):
    lengths = np.exp2(np.arange(len(x)) % 7 - 3)[:, np.newaxis]
    found = fastgen.cmmd(real=x * lengths, fake=y)
    assert found.value == close(fastgen.cmmd(real=x, fake=y).value)
    assert fastgen.cmmd(real=x, fake=x * 0.25).value == pytest.approx(0.0, abs=1e-10)
    assert fastgen.cmmd(real=x, fake=x).value == 0.0


# --- all three ------------------------------------------------------------------------------------


def test_paths_and_other_arrays_will_do(x, y, tmp_path):
    np.savez(tmp_path / "both.npz", x=x, y=y)
    paths = f"{tmp_path / 'both.npz'}:x", f"{tmp_path / 'both.npz'}:y"
    assert fastgen.mmd(*paths) == fastgen.mmd(x, y)
    assert fastgen.kid(real=paths[0], fake=y) == fastgen.kid(real=x, fake=y)
    assert fastgen.cmmd(real=x, fake=memoryview(y)) == fastgen.cmmd(real=x, fake=y)


def count_calls(monkeypatch, name):
    """Record how often a metric calls a function of `sums`."""
    calls = []
    compute = getattr(sums, name)

    def counted(*arguments, **options):
        calls.append(arguments)
        return compute(*arguments, **options)

    for metric in ("mmd", "kid"):
        module = importlib.import_module(f"fastgen.metrics.{metric}")
        if hasattr(module, name):
            monkeypatch.setattr(module, name, counted)
    return calls


X, Y = np.random.default_rng(0).normal(size=(2, 6, 3))
ZERO = np.where(np.arange(6)[:, np.newaxis] == 4, 0.0, Y)
SAME = np.ones((6, 3))
PAIR = ([[0, 1]], [[2, 3]])


def kid(**options):
    return fastgen.kid(real=X, fake=Y, **options)


BAD_VALUES = {
    "estimator": (
        lambda: fastgen.mmd(X, Y, estimator="both"),
        'mmd: expected `estimator` to be "unbiased" or "biased", got \'both\'',
    ),
    "permutations": (
        lambda: fastgen.mmd(X, Y, permutations=-1),
        "mmd: expected `permutations` of at least 0, got -1",
    ),
    "mmd seed": (lambda: fastgen.mmd(X, Y, seed=-1), "mmd: expected `seed` to be an int of at "),
    "no kernel": (lambda: fastgen.mmd(X, Y, []), "mmd: expected `kernel` "),
    "one row": (lambda: fastgen.mmd(X[:1], Y), "mmd: expected `x` "),
    "one row of y": (lambda: fastgen.mmd(X, Y[:1]), "mmd: expected `y` "),
    "no row": (lambda: fastgen.mmd(X[:0], Y, estimator="biased"), "mmd: expected `x` "),
    "features": (lambda: fastgen.mmd(X, Y[:, :2]), "mmd: expected `y` with d = 3 columns"),
    "not finite": (lambda: fastgen.mmd(X, Y * np.inf), "mmd: expected `y` to be finite"),
    "median 0": (lambda: fastgen.mmd(SAME, SAME, Gaussian("median")), "mmd: expected "),
    "degree": (lambda: kid(degree=0), "kid: expected `degree` in [1, 32], got 0"),
    "gamma": (
        lambda: kid(gamma=0.0),
        "kid: expected `gamma` to be a positive, finite number or None, got 0.0",
    ),
    "coef0": (lambda: kid(coef0=-1.0), "kid: expected `coef0` to be a finite number of at least 0"),
    "subsets": (lambda: kid(subsets=0), "kid: expected `subsets` of at least 1, got 0"),
    "subset_size": (
        lambda: kid(subsets=2),
        "in [2, min(n, m)] = [2, 6], got 1000; without `subsets` the full sample is used",
    ),
    "subset_size 1": (
        lambda: kid(subsets=2, subset_size=1),
        "kid: expected `subset_size` in [2, min(n, m)] = [2, 6], got 1",
    ),
    "kid seed": (lambda: kid(subsets=2, subset_size=2, seed=-1), "kid: expected `seed` "),
    "both": (
        lambda: kid(subsets=2, subset_size=2, subset_indices=PAIR),
        "kid: expected `subset_indices` to be None where `subsets` is given, got both",
    ),
    "index": (
        lambda: kid(subset_indices=([[0, 6]], [[0, 1]])),
        "kid: expected `subset_indices` in [0, 5] for real, got 6",
    ),
    "negative index": (
        lambda: kid(subset_indices=([[0, 1]], [[-1, 1]])),
        "kid: expected `subset_indices` in [0, 5] for fake, got -1",
    ),
    "one dimension": (lambda: kid(subset_indices=([0, 1], [0, 1])), "shape (2,) for real"),
    "one row in a subset": (lambda: kid(subset_indices=([[0]], [[0, 1]])), "shape (1, 1) for real"),
    "no subset": (
        lambda: kid(subset_indices=(np.zeros((0, 2), int), np.zeros((0, 2), int))),
        "shape (0, 2) for real",
    ),
    "subsets differ": (
        lambda: kid(subset_indices=([[0, 1]], [[0, 1], [2, 3]])),
        "got shapes (1, 2) and (2, 2)",
    ),
    "one fake row": (lambda: fastgen.kid(real=X, fake=Y[:1]), "kid: expected `fake` "),
    "zero row": (lambda: fastgen.cmmd(real=X, fake=ZERO), "cmmd: expected `fake` "),
    "zero real row": (lambda: fastgen.cmmd(real=ZERO, fake=X), "cmmd: expected `real` "),
}
BAD_TYPES = {
    "kernel": (
        lambda: fastgen.mmd(X, Y, "rbf"),
        "mmd: expected `kernel` to be a kernel or a sequence of kernels, got str 'rbf'",
    ),
    "permutations": (lambda: fastgen.mmd(X, Y, permutations=1.5), "mmd: expected `permutations` "),
    "mmd seed": (lambda: fastgen.mmd(X, Y, seed="0"), "mmd: expected `seed` "),
    "list": (lambda: fastgen.mmd(X.tolist(), Y), "pass np.asarray(x)"),
    "bool": (lambda: fastgen.cmmd(real=X, fake=Y > 0), "cmmd: expected `fake` of dtype"),
    "degree": (lambda: kid(degree=3.0), "kid: expected `degree` to be an int, got float 3.0"),
    "gamma": (lambda: kid(gamma="auto"), "kid: expected `gamma` "),
    "subsets": (lambda: kid(subsets=2.0), "kid: expected `subsets` to be an int or None"),
    "subset_size": (lambda: kid(subsets=2, subset_size=2.0), "kid: expected `subset_size` "),
    "kid seed": (lambda: kid(subsets=2, subset_size=2, seed=0.5), "kid: expected `seed` "),
    "no pair": (
        lambda: kid(subset_indices=np.zeros((2, 3, 4), int)),
        "kid: expected `subset_indices` to be a pair of integer arrays of shape (S, a) and (S, b)",
    ),
    "float indices": (
        lambda: kid(subset_indices=([[0.0, 1.0]], [[0, 1]])),
        "got dtype float64 for real",
    ),
}


@pytest.mark.parametrize(
    ("error", "case"),
    [*itertools.product([ValueError], BAD_VALUES), *itertools.product([TypeError], BAD_TYPES)],
)
def test_errors_are_one_sentence(error, case):
    call, text = (BAD_VALUES if error is ValueError else BAD_TYPES)[case]
    with pytest.raises(error, match=r"^\w+: expected `\w+` ") as caught:
        call()
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)
