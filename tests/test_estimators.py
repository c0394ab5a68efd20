"""From sums of a kernel to MMD^2, its variance and a p-value: the arithmetic alone, no engine."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from fastgen import draws
from fastgen.estimators import (
    KernelSums,
    biased,
    permutation_p_value,
    standard_error,
    unbiased,
    variance,
)


def sums_of(xx, xy, yy, x_shift=None, y_shift=None, labels=None):
    """Sum stacks of kernel matrices (S, a, a), (S, a, b), (S, b, b), less shifts of their rows."""
    hx = np.zeros(xx.shape[:2]) if x_shift is None else x_shift
    hy = np.zeros(yy.shape[:2]) if y_shift is None else y_shift
    xx = xx - hx[:, :, np.newaxis] - hx[:, np.newaxis]
    xy = xy - hx[:, :, np.newaxis] - hy[:, np.newaxis]
    yy = yy - hy[:, :, np.newaxis] - hy[:, np.newaxis]
    forms = None
    if labels is not None:
        pooled = np.block([[xx[0], xy[0]], [xy[0].T, yy[0]]])
        forms = np.array([w @ pooled @ w for w in labels.T.astype(np.float64)])
    return KernelSums(
        xx=xx.sum(axis=2),
        xy=xy.sum(axis=2),
        yx=xy.sum(axis=1),
        yy=yy.sum(axis=2),
        xx_diagonal=np.diagonal(xx, axis1=1, axis2=2),
        yy_diagonal=np.diagonal(yy, axis1=1, axis2=2),
        xx_squares=(xx**2).sum(axis=(1, 2)),
        xy_squares=(xy**2).sum(axis=(1, 2)),
        yy_squares=(yy**2).sum(axis=(1, 2)),
        x_shift=hx,
        y_shift=hy,
        forms=forms,
    )


def blocks(rng, n, m, count=1):
    """Any symmetric matrices will do: nothing here needs a kernel to be positive definite."""
    pooled = rng.normal(size=(count, n + m, n + m))
    pooled = pooled + pooled.transpose(0, 2, 1)
    return pooled[:, :n, :n], pooled[:, :n, n:], pooled[:, n:, n:]


def gaussian_blocks(x, y):
    """Stacks of Gaussian kernel matrices of stacks of samples."""

    def matrix(a, b):
        return np.exp(-0.5 * ((a[:, :, np.newaxis] - b[:, np.newaxis]) ** 2).sum(axis=-1))

    return matrix(x, x), matrix(x, y), matrix(y, y)


def core(xx, xy, yy, x, y):
    """The function of two rows of x and two of y whose mean over all choices is the estimate."""
    return xx[x[0], x[1]] + yy[y[0], y[1]] - xy[x[0], y[1]] - xy[x[1], y[0]]


# --- the two estimates ----------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "m"), [(2, 2), (4, 5), (3, 2)])
def test_unbiased_is_the_mean_over_all_choices_of_two_and_two(n, m):
    matrices = [one[0] for one in blocks(np.random.default_rng(1), n, m)]
    choices = itertools.product(
        itertools.permutations(range(n), 2), itertools.permutations(range(m), 2)
    )
    expected = np.mean([core(*matrices, x, y) for x, y in choices])
    found = unbiased(sums_of(*(one[np.newaxis] for one in matrices)))
    assert found == [pytest.approx(expected, rel=1e-12)]


@pytest.mark.parametrize(("n", "m"), [(1, 1), (4, 5), (3, 2)])
def test_biased_is_the_means_of_the_blocks(n, m):
    xx, xy, yy = blocks(np.random.default_rng(2), n, m)
    expected = xx.mean() + yy.mean() - 2 * xy.mean()
    assert biased(sums_of(xx, xy, yy)) == [pytest.approx(expected, rel=1e-12)]


def test_biased_of_equal_sets_is_exactly_zero():
    rng = np.random.default_rng(3)
    for n in (1, 2, 7, 100, 1001):
        # Numbers that no order of addition sums exactly.
        rows = np.exp(rng.normal(scale=5, size=(3, n)))
        any_squares, none = np.ones(3), np.zeros((3, n))
        sums = KernelSums(rows, rows, rows, rows, none, none, *[any_squares] * 3, none, none)
        assert np.array_equal(biased(sums), np.zeros(3))


# --- the variance ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "m"), [(4, 5), (5, 4), (4, 4)])
def test_variance_is_that_of_brute_force_over_all_choices(n, m):
    """U^2 less the mean of all products of cores without a common row: E U^2 - (E U)^2."""
    stacks = blocks(np.random.default_rng(4), n, m)
    matrices = [one[0] for one in stacks]
    products = [
        core(*matrices, x[:2], y[:2]) * core(*matrices, x[2:], y[2:])
        for x in itertools.permutations(range(n), 4)
        for y in itertools.permutations(range(m), 4)
    ]
    sums = sums_of(*stacks)
    assert variance(sums) == [pytest.approx(unbiased(sums)[0] ** 2 - np.mean(products), rel=1e-10)]


@pytest.mark.parametrize("mean", [0.0, 0.7])
def test_variance_is_unbiased(mean):
    rng = np.random.default_rng(5)
    n, m, count = 6, 5, 60_000
    x, y = rng.normal(size=(count, n, 2)), rng.normal(loc=mean, size=(count, m, 2))
    sums = sums_of(*gaussian_blocks(x, y))
    values, variances = unbiased(sums), variance(sums)
    assert variances.shape == (count,)
    spread = values.var(ddof=1)
    # Either side has its own sampling error.
    of_spread = np.sqrt(((values - values.mean()) ** 2).var() / count)
    of_mean = variances.std() / np.sqrt(count)
    assert abs(variances.mean() - spread) < 4 * np.hypot(of_spread, of_mean)
    assert 4 * np.hypot(of_spread, of_mean) < 0.1 * spread


def test_subsets_do_not_mix():
    stacks = blocks(np.random.default_rng(6), 6, 5, count=4)
    together = sums_of(*stacks)
    for subset in range(4):
        alone = sums_of(*(one[subset : subset + 1] for one in stacks))
        for function in (unbiased, biased, variance, standard_error):
            assert function(alone)[0] == function(together)[subset]


@pytest.mark.parametrize(("n", "m"), [(3, 9), (9, 3), (1, 1)])
def test_variance_of_few_rows_is_nan(n, m):
    sums = sums_of(*blocks(np.random.default_rng(7), n, m, count=2))
    assert np.isnan(variance(sums)).all()
    assert np.isnan(standard_error(sums)).all()
    assert variance(sums).shape == (2,)


def test_standard_error_clamps_the_two_orders_one_by_one():
    rng = np.random.default_rng(8)
    x, y = rng.normal(size=(2, 500, 5, 1))
    sums = sums_of(*gaussian_blocks(x, y))
    squares, variances = standard_error(sums) ** 2, variance(sums)
    assert (variances < 0).any()
    assert np.all(squares >= variances * (1 - 1e-12))
    alike = np.isclose(squares, variances)
    assert alike.any()
    assert not alike.all()


def test_standard_error_covers_close_distributions():
    # Where a total clamped at 0 would be 0 for a third of the samples.
    rng = np.random.default_rng(9)
    n, count = 40, 2000
    x, y = rng.normal(size=(2, count, n, 2))
    sums = sums_of(*gaussian_blocks(x, y))
    assert (variance(sums) < 0).mean() > 0.2
    error = standard_error(sums)
    assert (error > 0).all()
    assert (np.abs(unbiased(sums)) < 1.96 * error).mean() > 0.95
    assert (error**2).mean() < 2.5 * unbiased(sums).var()


# --- what must not matter -------------------------------------------------------------------------


def test_nothing_depends_on_the_shift_of_rows():
    rng = np.random.default_rng(9)
    n, m = 9, 7
    stacks = blocks(rng, n, m)
    labels = draws.relabellings(n, m, 30, seed=0)
    plain = sums_of(*stacks, labels=labels)
    shifted = sums_of(*stacks, rng.normal(size=(1, n)), rng.normal(size=(1, m)), labels=labels)
    for function in (unbiased, biased, variance):
        assert np.allclose(function(shifted), function(plain), rtol=1e-10, atol=1e-12)
    for estimator in ("unbiased", "biased"):
        assert permutation_p_value(shifted, labels, estimator) == permutation_p_value(
            plain, labels, estimator
        )


@pytest.mark.parametrize("constant", [1.0, -1e3])
def test_nothing_depends_on_a_constant(constant):
    stacks = blocks(np.random.default_rng(10), 9, 7)
    plain, moved = sums_of(*stacks), sums_of(*(one + constant for one in stacks))
    for function in (unbiased, biased, variance):
        assert np.allclose(function(moved), function(plain), rtol=1e-7, atol=1e-10)


def test_exchanging_the_sets_changes_nothing():
    xx, xy, yy = blocks(np.random.default_rng(11), 9, 7)
    there, back = sums_of(xx, xy, yy), sums_of(yy, xy.transpose(0, 2, 1), xx)
    for function in (unbiased, biased, variance):
        assert np.allclose(function(there), function(back), rtol=1e-12)


def test_values_that_are_all_alike_keep_their_digits():
    """A spread of 1e-6 around -1, as a Gaussian kernel of far rows has it less 1."""
    rng = np.random.default_rng(12)
    small = blocks(rng, 12, 10)
    sums = sums_of(*(1e-6 * one - 1.0 for one in small))
    expected = sums_of(*small)
    assert np.allclose(unbiased(sums), 1e-6 * unbiased(expected), rtol=1e-8)
    assert np.allclose(variance(sums), 1e-12 * variance(expected), rtol=1e-3)


# --- the p-value ----------------------------------------------------------------------------------


def p_value_by_brute_force(stacks, labels, estimator):
    xx, xy, yy = (one[0] for one in stacks)
    pooled = np.block([[xx, xy], [xy.T, yy]])
    values = []
    for w in labels.T:
        x, y = np.flatnonzero(w > 0), np.flatnonzero(w < 0)
        split = (pooled[np.ix_(x, x)], pooled[np.ix_(x, y)], pooled[np.ix_(y, y)])
        function = unbiased if estimator == "unbiased" else biased
        values.append(function(sums_of(*(one[np.newaxis] for one in split)))[0])
    return (1 + sum(value >= values[0] for value in values[1:])) / len(values)


@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
@pytest.mark.parametrize(("n", "m"), [(6, 6), (9, 4), (3, 8)])
def test_p_value_is_that_of_every_split_on_its_own(n, m, estimator):
    rng = np.random.default_rng(13)
    for seed in range(5):
        stacks = blocks(rng, n, m)
        labels = draws.relabellings(n, m, 50, seed)
        found = permutation_p_value(sums_of(*stacks, labels=labels), labels, estimator)
        assert found == p_value_by_brute_force(stacks, labels, estimator)


@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
def test_a_relabelling_that_is_the_true_one_ties_with_it(estimator):
    rng = np.random.default_rng(14)
    for n in (5, 300):
        stacks = blocks(rng, n, n)
        # Far apart, so that no other split comes near.
        stacks = stacks[0] + 50.0, stacks[1], stacks[2] + 50.0
        labels = draws.relabellings(n, n, 40, seed=0)
        labels[:, 7] = labels[:, 0]
        labels[:, 23] = -labels[:, 0]  # the same split, with the names exchanged
        labels[:, 40] = labels[:, 0]
        differ = (np.abs(labels.T @ labels[:, 0].astype(np.int64)) < 2 * n).sum()
        found = permutation_p_value(sums_of(*stacks, labels=labels), labels, estimator)
        assert found == (41 - differ) / 41


def test_p_value_without_any_difference_is_one():
    labels = draws.relabellings(5, 4, 20, seed=0)
    same = np.zeros((1, 5, 5)), np.zeros((1, 5, 4)), np.zeros((1, 4, 4))
    assert permutation_p_value(sums_of(*same, labels=labels), labels) == 1.0


def test_p_value_is_uniform_when_the_distributions_are_equal():
    rng = np.random.default_rng(15)
    trials, outcomes = 1000, 10
    counts = np.zeros(outcomes)
    for trial in range(trials):
        x, y = rng.normal(size=(1, 9, 2)), rng.normal(size=(1, 7, 2))
        labels = draws.relabellings(9, 7, outcomes - 1, seed=trial)
        found = permutation_p_value(sums_of(*gaussian_blocks(x, y), labels=labels), labels)
        counts[round(found * outcomes) - 1] += 1
    expected = trials / outcomes
    chi_squared = ((counts - expected) ** 2 / expected).sum()
    assert chi_squared < 27.9  # 0.999 quantile for 9 degrees of freedom


def test_p_value_is_small_when_they_are_not():
    rng = np.random.default_rng(16)
    x, y = rng.normal(size=(1, 40, 2)), rng.normal(loc=2.0, size=(1, 30, 2))
    labels = draws.relabellings(40, 30, 199, seed=0)
    assert permutation_p_value(sums_of(*gaussian_blocks(x, y), labels=labels), labels) == 1 / 200


# --- the draws ------------------------------------------------------------------------------------


def test_relabellings_keep_the_sizes_and_put_the_truth_first():
    labels = draws.relabellings(30, 12, 100, seed=5)
    assert labels.shape == (42, 101)
    assert labels.dtype == np.int8
    assert np.array_equal(labels[:, 0], [1] * 30 + [-1] * 12)
    assert np.all((labels == 1).sum(axis=0) == 30)
    assert np.all((labels == -1).sum(axis=0) == 12)
    assert len(np.unique(labels, axis=1).T) == 101
    assert np.array_equal(labels, draws.relabellings(30, 12, 100, seed=5))
    assert not np.array_equal(labels, draws.relabellings(30, 12, 100, seed=6))


def test_subsets_are_drawn_real_first_without_replacement():
    real, fake = draws.subsets(20, 15, count=3, size=8, seed=4)
    rng = np.random.default_rng(4)
    for of_real, of_fake in zip(real, fake, strict=True):
        assert np.array_equal(of_real, rng.choice(20, 8, replace=False))
        assert np.array_equal(of_fake, rng.choice(15, 8, replace=False))
    assert real.dtype == fake.dtype == np.int64
