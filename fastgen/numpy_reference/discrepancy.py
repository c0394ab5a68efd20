"""Maximum mean discrepancy from dense kernel matrices, and the metrics that are named after it.

With K the kernel matrix of the rows of x, L that of y, and C that of x with y, the unbiased
estimate of MMD^2 is ``A + B - 2 mean(C)``, A and B the means of K and L off their diagonals. The
biased estimate takes the means over all entries.

Error: sums are exact and rounded once, so a value is off by what its kernel values are
(:func:`kernel_matrix`; for a Gaussian, rational quadratic or Laplacian kernel it is the error of
``k - 1`` that counts) and by at most ``2^-50`` times the largest of the means.

Cost: n + m rows squared, in memory and in time; a permutation costs about 60 ns per entry.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from fastgen.numpy_reference.arguments import Floats, Integers, as_pair, as_seed
from fastgen.numpy_reference.kernels import (
    DEFAULT,
    Gaussian,
    Kernel,
    Polynomial,
    centred_matrix,
    with_numbers,
)
from fastgen.numpy_reference.results import KID, MMD


def mmd(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    kernel: object = DEFAULT,
    estimator: str = "unbiased",
    permutations: int = 0,
    seed: int | None = None,
) -> MMD | list[MMD]:
    """Return the squared maximum mean discrepancy.

    Parameters
    ----------
    x : array of shape (n, d)
        Rows; at least 2 for the unbiased estimate.
    y : array of shape (m, d)
        Rows, as `x`.
    kernel : kernel, sum of kernels or list of these, default Polynomial()
        A list gives a list, in the same order.
    estimator : {"unbiased", "biased"}, default "unbiased"
        Whether the pairs of a row with itself are left out.
    permutations : int, default 0
        Number of random relabellings for the p-value.
    seed : int, optional
        For the relabellings, and for the rows that the median bandwidth looks at. Default: 0.

    Returns
    -------
    MMD or list of MMD
        The standard error is that of the unbiased estimate. The p-value is ``(1 + c) / (1 + B)``
        where c of the B relabellings give at least the value of the true labels: a generator
        ``default_rng(seed)`` gives ``permutation(n + m)`` for each, whose first n entries are the
        rows of x.

    Raises
    ------
    ValueError
        If an argument is out of range, the inputs are no matrices, or their widths differ.
    TypeError
        If a kernel is not known.

    References
    ----------
    .. [1] Gretton et al., "A kernel two-sample test", JMLR 13, 2012.
    .. [2] Sutherland and Deka, "Unbiased estimators for the variance of MMD estimators", 2019,
       arXiv 1906.02104.

    Examples
    --------
    >>> from fastgen import numpy_reference
    >>> numpy_reference.mmd([[0.0], [1.0]], [[1.0], [2.0]], numpy_reference.Energy()).value
    0.0
    """
    if isinstance(kernel, (list, tuple)):
        return [_mmd("mmd", x, y, one, estimator, permutations, seed) for one in kernel]
    return _mmd("mmd", x, y, kernel, estimator, permutations, seed)


def kid(
    *,
    real: npt.ArrayLike,
    fake: npt.ArrayLike,
    degree: int = 3,
    gamma: float | None = None,
    coef0: float = 1.0,
    subsets: int | None = None,
    subset_size: int = 1000,
    seed: int | None = 0,
    subset_indices: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
) -> KID:
    """Return the kernel distance: the unbiased MMD^2 with a polynomial kernel.

    Parameters
    ----------
    real : array of shape (n, d)
        Features of the real set.
    fake : array of shape (m, d)
        Features of the generated set.
    degree, gamma, coef0 : int, float or None, float
        The kernel's, 3, None (1 / d) and 1 by default.
    subsets : int, optional
        Number of random subsets to average over. Default: the full sample.
    subset_size : int, default 1000
        Rows of each set in a subset, 2 to min(n, m).
    seed : int, default 0
        Of the generator that draws, for each subset, first the real rows and then the fake ones,
        each by ``choice(n, subset_size, replace=False)``.
    subset_indices : pair of arrays of shape (S, a) and (S, b), optional
        The real and the fake rows of S subsets, instead of random ones.

    Returns
    -------
    KID
        The full sample's estimate and its standard error; with subsets, mean and standard
        deviation (dividing by their number) of the subsets' estimates.

    Raises
    ------
    ValueError
        If an argument is out of range, the inputs are no matrices, or their widths differ.

    References
    ----------
    .. [1] Binkowski et al., "Demystifying MMD GANs", ICLR 2018.

    Examples
    --------
    >>> from fastgen import numpy_reference
    >>> numpy_reference.kid(real=[[0.0], [1.0]], fake=[[0.0], [1.0]]).mean
    -3.5
    """
    x, y = as_pair("kid", "real", real, "fake", fake, at_least=2)
    kernel = Polynomial(degree, gamma, coef0)
    if subset_indices is not None and subsets is not None:
        raise ValueError("kid: expected `subsets` or `subset_indices`, got both")
    if subset_indices is not None:
        chosen = _as_subsets(*subset_indices, len(x), len(y))
    elif subsets is not None:
        chosen = _draw_subsets(len(x), len(y), subsets, subset_size, seed)
    else:
        found = _mmd("kid", x, y, kernel, "unbiased", 0, 0)
        return KID(found.value, found.standard_error)
    values = [
        _mmd("kid", x[i], y[j], kernel, "unbiased", 0, 0).value
        for i, j in zip(*chosen, strict=True)
    ]
    return KID(float(np.mean(values)), float(np.std(values)))


def cmmd(*, real: npt.ArrayLike, fake: npt.ArrayLike) -> MMD:
    """Return CMMD: the biased MMD^2 of unit vectors with a Gaussian of bandwidth 10, times 1000.

    Parameters
    ----------
    real : array of shape (n, d)
        Features of the real set; no row is zero. Each is divided by its Euclidean norm.
    fake : array of shape (m, d)
        Features of the generated set, as `real`.

    Returns
    -------
    MMD
        Value and standard error times 1000.

    Raises
    ------
    ValueError
        If a row is zero, the inputs are no matrices, or their widths differ.

    References
    ----------
    .. [1] Jayasumana et al., "Rethinking FID: towards a better evaluation metric for image
       generation", CVPR 2024.

    Examples
    --------
    >>> from fastgen import numpy_reference
    >>> numpy_reference.cmmd(real=[[1.0, 0.0]], fake=[[2.0, 0.0]]).value
    0.0
    """
    x, y = as_pair("cmmd", "real", real, "fake", fake)
    x, y = _unit_rows("real", x), _unit_rows("fake", y)
    found = _mmd("cmmd", x, y, Gaussian(10.0), "biased", 0, 0)
    return MMD(1000 * found.value, 1000 * found.standard_error, None, len(x), len(y))


def _mmd(
    function: str,
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    kernel: object,
    estimator: str,
    permutations: int,
    seed: int | None,
) -> MMD:
    if estimator not in ("unbiased", "biased"):
        raise ValueError(
            f'{function}: expected `estimator` "unbiased" or "biased", got {estimator!r}'
        )
    if permutations < 0:
        raise ValueError(f"{function}: expected `permutations` of at least 0, got {permutations}")
    unbiased = estimator == "unbiased"
    rows, others = as_pair(function, "x", x, "y", y, at_least=2 if unbiased else 1)
    parts: list[Kernel] = with_numbers(function, kernel, rows, others, seed)
    xx = centred_matrix(rows, rows, parts)
    xy = centred_matrix(rows, others, parts)
    yy = centred_matrix(others, others, parts)
    p_value = None
    if permutations:
        pooled = np.block([[xx, xy], [xy.T, yy]])
        p_value = _p_value(pooled, len(rows), unbiased, permutations, as_seed(seed))
    value = _estimate(xx, xy, yy, unbiased)
    return MMD(value, _standard_error(xx, xy, yy), p_value, len(rows), len(others))


def _estimate(xx: Floats, xy: Floats, yy: Floats, unbiased: bool) -> float:
    return (_mean(xx, unbiased) + _mean(yy, unbiased)) - 2 * _mean(xy, unbiased=False)


def _mean(matrix: Floats, unbiased: bool) -> float:
    """Return the mean of a matrix, or of what is off its diagonal."""
    count = matrix.size
    if unbiased:
        matrix = _off_diagonal(matrix)
        count -= len(matrix)
    return _sum(matrix) / count


def _p_value(pooled: Floats, n: int, unbiased: bool, permutations: int, seed: int) -> float:
    """Return the share of labellings, the true one among them, with at least the true value."""

    def statistic(order: Integers) -> float:
        x, y = order[:n], order[n:]
        # Both blocks between x and y: exchanging equally large x and y must tie exactly.
        between = np.concatenate([pooled[np.ix_(x, y)].ravel(), pooled[np.ix_(y, x)].ravel()])
        return _estimate(pooled[np.ix_(x, x)], between, pooled[np.ix_(y, y)], unbiased)

    true_value = statistic(np.arange(len(pooled)))
    rng = np.random.default_rng(seed)
    others = [statistic(rng.permutation(len(pooled))) for _ in range(permutations)]
    at_least = sum(value >= true_value for value in others)
    return (1 + at_least) / (1 + permutations)


def _standard_error(xx: Floats, xy: Floats, yy: Floats) -> float:
    """Return the root of the estimated variance of the unbiased estimate, clamped part by part.

    ``Var(A + B - 2C) = Var A + Var B + 4 Var C - 4 Cov(A, C) - 4 Cov(B, C)`` for the means A and B
    of the matrices of x and of y off their diagonals and the mean C of that of x with y; A and B
    are independent. Every expectation in there, that of a product of two kernel values, is
    estimated by the mean over all choices of different rows.
    """
    n, m = xy.shape
    if min(n, m) < 4:
        return math.nan
    # A constant added to the kernel changes nothing here but what is lost to rounding.
    constant = (_mean(xx, True) + _mean(yy, True) + 2 * _mean(xy, False)) / 4
    xx, xy, yy = _off_diagonal(xx - constant), xy - constant, _off_diagonal(yy - constant)
    first_order, second_order = _variance_parts(xx, xy, yy)
    return math.sqrt(max(first_order, 0.0) + max(second_order, 0.0))


def _variance_parts(xx: Floats, xy: Floats, yy: Floats) -> tuple[float, float]:
    """Return the parts of the variance that fall like 1 / n, and like 1 / n^2; each is >= 0."""
    n, m = xy.shape
    var_a, cov_a, share_a = _within(xx, xy)
    var_b, cov_b, share_b = _within(yy, xy.T)
    var_c, share_x, share_y = _var_between(xy)
    whole = var_a + var_b + 4 * var_c - 4 * cov_a - 4 * cov_b
    first_order = 4 * (share_a + share_x) / n + 4 * (share_b + share_y) / m - 4 * cov_a - 4 * cov_b
    return first_order, whole - first_order


def _within(k: Floats, c: Floats) -> tuple[float, float, float]:
    """Return Var A, Cov(A, C) and the covariance of two values that share a row.

    From k (n, n) with a zero diagonal and c (n, m).
    """
    n, m = c.shape
    pairs, triples = n * (n - 1), n * (n - 1) * (n - 2)
    k_rows, c_rows = _row_sums(k), _row_sums(c)
    k_sum, c_sum = _sum(k_rows), _sum(c_rows)

    # Sums over i, j, l, p that all differ, by inclusion and exclusion.
    k_ij_k_ij = _sum(k * k)
    k_ij_k_il = _sum(k_rows * k_rows) - k_ij_k_ij
    k_ij_k_lp = k_sum * k_sum - 4 * k_ij_k_il - 2 * k_ij_k_ij
    squared_mean = k_ij_k_lp / (triples * (n - 3))
    share_one = k_ij_k_il / triples - squared_mean  # covariance of pairs with a row in common
    share_both = k_ij_k_ij / pairs - squared_mean
    variance = (4 * (n - 2) * share_one + 2 * share_both) / pairs

    k_ij_c_iy = _sum(k_rows * c_rows)
    k_ij_c_ly = k_sum * c_sum - 2 * k_ij_c_iy
    covariance = k_ij_c_iy / (pairs * m) - k_ij_c_ly / (triples * m)
    return variance, 2 * covariance / n, share_one


def _var_between(c: Floats) -> tuple[float, float, float]:
    """Return Var C and the covariances of two values that share a row of x, of y; c is (n, m)."""
    n, m = c.shape
    x_sums, y_sums = _row_sums(c), _row_sums(c.T)
    c_iy_c_iy = _sum(c * c)
    c_iy_c_iz = _sum(x_sums * x_sums) - c_iy_c_iy
    c_iy_c_jy = _sum(y_sums * y_sums) - c_iy_c_iy
    c_sum = _sum(x_sums)
    c_iy_c_jz = c_sum * c_sum - c_iy_c_iz - c_iy_c_jy - c_iy_c_iy
    squared_mean = c_iy_c_jz / (n * (n - 1) * m * (m - 1))
    share_x = c_iy_c_iz / (n * m * (m - 1)) - squared_mean
    share_y = c_iy_c_jy / (n * (n - 1) * m) - squared_mean
    share_both = c_iy_c_iy / (n * m) - squared_mean
    variance = ((m - 1) * share_x + (n - 1) * share_y + share_both) / (n * m)
    return variance, share_x, share_y


def _off_diagonal(matrix: Floats) -> Floats:
    matrix = matrix.copy()
    np.fill_diagonal(matrix, 0.0)
    return matrix


def _sum(values: Floats) -> float:
    return math.fsum(values.ravel().tolist())


def _row_sums(matrix: Floats) -> Floats:
    return np.array([math.fsum(row) for row in matrix.tolist()])


def _unit_rows(argument: str, rows: Floats) -> Floats:
    largest = np.abs(rows).max(axis=1, keepdims=True)
    if not largest.all():
        row = int(np.argmin(largest))
        raise ValueError(f"cmmd: expected `{argument}` without zero rows, got one at {row}")
    rows = rows / largest  # so that no square overflows or vanishes
    norms: Floats = np.sqrt((rows * rows).sum(axis=1, keepdims=True))
    return rows / norms


def _draw_subsets(
    n: int, m: int, subsets: int, size: int, seed: int | None
) -> tuple[Integers, Integers]:
    if subsets < 1:
        raise ValueError(f"kid: expected `subsets` of at least 1, got {subsets}")
    if not 2 <= size <= min(n, m):
        raise ValueError(f"kid: expected `subset_size` in [2, {min(n, m)}], got {size}")
    rng = np.random.default_rng(as_seed(seed))
    drawn = [
        (rng.choice(n, size, replace=False), rng.choice(m, size, replace=False))
        for _ in range(subsets)
    ]
    return np.array([i for i, _ in drawn]), np.array([j for _, j in drawn])


def _as_subsets(
    real: npt.ArrayLike, fake: npt.ArrayLike, n: int, m: int
) -> tuple[Integers, Integers]:
    i, j = np.asarray(real), np.asarray(fake)
    if i.ndim != 2 or j.ndim != 2 or len(i) != len(j) or min(*i.shape, *j.shape) < 1:
        raise ValueError(
            "kid: expected `subset_indices` of shapes (S, a) and (S, b), "
            f"got {i.shape} and {j.shape}"
        )
    if min(i.min(), j.min()) < 0 or i.max() >= n or j.max() >= m:
        raise ValueError(f"kid: expected `subset_indices` in [0, {n}) and [0, {m})")
    return i, j
