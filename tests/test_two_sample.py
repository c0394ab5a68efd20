"""What MMD says about two samples: its standard error, and the p-value of its permutations.

The seeds are fixed, so a test that passes goes on passing. Limits are at least four standard
deviations of what is estimated from the draws, or quantiles of 0.999 and more.
"""

from __future__ import annotations

import itertools
import math

import families
import numpy as np
import pytest
from checks import Array

import fastgen
from fastgen import Energy, Gaussian, Laplacian, Polynomial, RationalQuadratic, draws
from fastgen import numpy_reference as reference

DRAWS = 200  # for p-values
MANY = 800  # for variances, known to 10 % or so from 200
ALONE = {"threads": 1}  # so few rows are not worth two
KERNELS = [Polynomial(), Gaussian(3.0), Energy(), Gaussian(1.0) + Laplacian(2.0)]
NAMES = ["polynomial", "gaussian", "energy", "sum"]


def samples(trial: int, n: int, m: int, shift: float, d: int = 5, dtype: str = "float32"):
    rng = families.seeded("two samples", trial, n, m)
    x, y = rng.standard_normal((n, d)), rng.standard_normal((m, d)) + shift
    return x.astype(dtype), y.astype(dtype)


# --- the standard error ---------------------------------------------------------------------------


def relative_spread(values: Array, errors: Array) -> tuple[float, float]:
    """Return mean squared standard error over the variance, and the deviation of that ratio."""
    variance = values.var(ddof=1)
    of_variance = math.sqrt((np.square(values - values.mean()).var()) / len(values)) / variance
    of_mean = np.square(errors).std() / math.sqrt(len(errors)) / np.square(errors).mean()
    return float(np.square(errors).mean() / variance), math.hypot(of_variance, float(of_mean))


@pytest.mark.parametrize(("n", "m"), [(60, 35), (12, 90)])
@pytest.mark.parametrize("shift", [1.0, 0.3, 0.0])
def test_standard_error_is_the_spread_over_fresh_draws(shift, n, m):
    found = [fastgen.mmd(*samples(t, n, m, shift), KERNELS, **ALONE) for t in range(MANY)]
    for place, name in enumerate(NAMES):
        values = np.array([one[place].value for one in found])
        errors = np.array([one[place].standard_error for one in found])
        ratio, deviation = relative_spread(values, errors)
        assert deviation < 0.1, name
        # Far apart nothing is clamped. Parts that are 0 in truth are clamped one by one, which may
        # double the mean square.
        most = {1.0: 1.0, 0.3: 1.3, 0.0: 2.0}[shift]
        assert 1 - 4 * deviation < ratio < most * (1 + 4 * deviation), f"{name}: {ratio}"
        assert np.all(errors > 0)
        if shift == 0.0:  # the estimate is not biased, and its interval holds the truth
            assert abs(values.mean()) < 4 * values.std() / math.sqrt(MANY)
            assert np.mean(np.abs(values) < 1.96 * errors) > 0.9


def test_standard_error_of_kid_is_the_spread_over_fresh_draws():
    for shift, most in ((1.0, 1.0), (0.0, 2.0)):
        found = [
            fastgen.kid(real=x, fake=y, **ALONE)
            for x, y in (samples(t, 60, 45, shift, d=8) for t in range(MANY))
        ]
        ratio, deviation = relative_spread(
            np.array([one.mean for one in found]), np.array([one.std for one in found])
        )
        assert deviation < 0.1
        assert 1 - 4 * deviation < ratio < most * (1 + 4 * deviation)


def test_spread_of_kid_over_subsets_is_that_of_samples_of_their_size():
    x, y = samples(0, 3000, 2600, 0.5, d=8)
    subsets = fastgen.kid(real=x, fake=y, subsets=DRAWS, subset_size=50)
    few = [samples(t, 50, 50, 0.5, d=8) for t in range(DRAWS)]
    spread = np.std([fastgen.kid(real=a, fake=b, **ALONE).mean for a, b in few])
    assert subsets.std == pytest.approx(spread, rel=0.3)  # each is known to 7 % or so
    whole = fastgen.kid(real=x, fake=y)
    assert abs(subsets.mean - whole.mean) < 4 * subsets.std / math.sqrt(DRAWS)
    assert whole.std < 0.3 * subsets.std


def test_standard_error_falls_with_the_size_of_the_samples():
    errors = [fastgen.mmd(*samples(1, n, n, 1.0)).standard_error for n in (100, 400, 1600)]
    assert errors[0] == pytest.approx(2 * errors[1], rel=0.3)
    assert errors[1] == pytest.approx(2 * errors[2], rel=0.3)


# --- p-values that are the reference's ------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize(("n", "m", "count"), [(40, 31, 99), (33, 33, 99), (7, 90, 60), (2, 2, 30)])
def test_p_value_is_that_of_the_reference(n, m, count, dtype):
    x, y = samples(0, n, m, 0.2, dtype=dtype)
    for turn, kernel in enumerate([*KERNELS, RationalQuadratic(0.5, "median")]):
        estimator = ("unbiased", "biased")[turn % 2]
        arguments = (x, y, kernel, estimator, count, 3 + turn)
        found, expected = fastgen.mmd(*arguments).p_value, reference.mmd(*arguments).p_value
        assert found == expected, f"{kernel} {estimator}"


@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
@pytest.mark.parametrize(("n", "m"), [(3, 3), (2, 4), (5, 2), (4, 4), (1, 4)])
def test_p_value_of_few_rows_counts_every_split(n, m, estimator):
    if n == 1 and estimator == "unbiased":
        return
    x, y = samples(5, n, m, 0.7, d=2, dtype="float64")
    pooled = np.concatenate([x, y])
    for kernel in KERNELS:
        # All splits, by the rows that play x; a split and its mirror image have one value.
        value = {}
        for chosen in itertools.combinations(range(n + m), n):
            rest = [i for i in range(n + m) if i not in chosen]
            arguments = (pooled[list(chosen)], pooled[rest], kernel, estimator)
            value[chosen] = reference.mmd(*arguments).value
        true_value = value[tuple(range(n))]
        scale = max(map(abs, value.values()))
        far = {chosen: v >= true_value - 1e-12 * scale for chosen, v in value.items()}
        assert sum(abs(v - true_value) < 1e-9 * scale for v in value.values()) == 1 + (n == m)

        count = 1500
        found = fastgen.mmd(x, y, kernel, estimator, permutations=count, seed=11).p_value
        labels = draws.relabellings(n, m, count, 11)[:, 1:]
        at_least = sum(far[tuple(np.flatnonzero(w > 0))] for w in labels.T)
        assert found == (1 + at_least) / (1 + count)
        exact = sum(far.values()) / len(far)
        assert abs(found - exact) < 4 * math.sqrt(exact * (1 - exact) / count) + 1 / count


# --- p-values as a test ---------------------------------------------------------------------------


def assert_uniform(found: Array, count: int, name: str) -> None:
    """Compare with the uniform distribution on 1/count, ..., 1."""
    shares = np.array([np.mean(found <= k / count + 1e-9) for k in range(1, count + 1)])
    distance = np.abs(shares - np.arange(1, count + 1) / count).max()
    assert distance < 1.95 / math.sqrt(len(found)), f"{name}: Kolmogorov-Smirnov {distance}"
    counts = np.bincount(np.minimum((found * 10 - 1e-9).astype(int), 9), minlength=10)
    chi_squared = np.sum(np.square(counts - len(found) / 10)) / (len(found) / 10)
    assert chi_squared < 27.9, f"{name}: {counts}"  # 0.999 quantile for 9 degrees of freedom


@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
@pytest.mark.parametrize(("n", "m", "dtype"), [(20, 14, "float32"), (16, 16, "float16")])
def test_p_value_is_uniform_under_the_null(n, m, dtype, estimator):
    kernels = [*KERNELS, Gaussian("median")]
    found = np.array(
        [
            [
                one.p_value
                for one in fastgen.mmd(
                    # One seed for all: then the rows alone decide.
                    *samples(t, n, m, 0.0, dtype=dtype),
                    kernels,
                    estimator,
                    permutations=99,
                    seed=7,
                    **ALONE,
                )
            ]
            for t in range(DRAWS)
        ]
    )
    for place, kernel in enumerate(kernels):
        assert_uniform(found[:, place], 100, f"{kernel}")


def test_p_value_is_uniform_over_seeds_too():
    found = [
        fastgen.mmd(*samples(t, 30, 12, 0.0), Energy(), permutations=99, seed=t, **ALONE).p_value
        for t in range(DRAWS)
    ]
    assert_uniform(np.array(found), 100, "energy")


def test_p_value_is_small_under_an_alternative():
    for shift, power in ((0.6, 0.5), (1.2, 0.98)):
        sets = [samples(t, 40, 30, shift) for t in range(40)]
        results = [fastgen.mmd(x, y, KERNELS, permutations=99, **ALONE) for x, y in sets]
        found = np.array([[one.p_value for one in of_sets] for of_sets in results])
        for place, name in enumerate(NAMES):
            assert np.mean(found[:, place] <= 0.05) >= power, name
    # A difference in spread alone, which no mean shows.
    x, y = samples(1, 80, 80, 0.0)
    assert fastgen.mmd(x, 2 * y, Energy(), permutations=199).p_value == 1 / 200
    assert fastgen.mmd(x, 2 * y, Polynomial(1, 1.0, 0.0), permutations=199).p_value > 0.01


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_p_value_is_one_where_no_split_is_closer(dtype):
    # The same rows on both sides, in another order: every relabelling is at least as far apart.
    for n in (4, 16, 64, 200):
        x = np.tile([[0.0], [1.0]], (n // 2, 1)).astype(dtype)
        y = np.sort(x, axis=0)
        for kernel in (*KERNELS, Gaussian(0.3), Laplacian(0.3), Laplacian(1.0)):
            found = fastgen.mmd(x, y, kernel, permutations=199).p_value
            assert found == 1.0, f"{kernel} {n}"


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_p_value_of_one_row_repeated_is_one(dtype):
    row = samples(0, 1, 1, 0.0, d=7, dtype=dtype)[0]
    for n, m in ((20, 20), (50, 13)):
        x, y = np.repeat(row, n, axis=0), np.repeat(row, m, axis=0)
        for estimator in ("unbiased", "biased"):
            for one in fastgen.mmd(x, y, KERNELS, estimator, permutations=39):
                assert (one.value, one.p_value) == (pytest.approx(0.0, abs=1e-28), 1.0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("n", "m"), [(4, 4), (12, 9)])
def test_p_value_is_valid_where_values_tie(n, m, dtype):
    # Of 0 and 1: many relabellings have the same value in truth, whatever rounding makes of it.
    kernels = [Polynomial(), Gaussian(1.0), Energy(), Laplacian(0.3)]
    trials = 600
    found = np.empty((trials, len(kernels)))
    for t in range(trials):
        rng = families.seeded("ties", t)
        x, y = (rng.integers(0, 2, (rows, 1)).astype(dtype) for rows in (n, m))
        for place, one in enumerate(fastgen.mmd(x, y, kernels, permutations=39, seed=t, **ALONE)):
            found[t, place] = one.p_value
    for level in (0.05, 0.1, 0.25):
        limit = level + 4 * math.sqrt(level * (1 - level) / trials)
        for place, kernel in enumerate(kernels):
            assert np.mean(found[:, place] <= level) <= limit, f"{kernel} {level}"
