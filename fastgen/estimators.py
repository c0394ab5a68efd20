"""From sums of a kernel to estimates: MMD^2, the variance of that estimate, and a p-value.

Pure arithmetic on what one pass over all pairs of rows leaves behind. The sums are those of a
centred kernel ``k~(a, b) = k(a, b) - h(a) - h(b)``, with an h that makes k~ small. Every function
here has the same value for k~ as for k, whatever h is, so nothing large is ever subtracted.

NumPy's own sums run along the last axis of a contiguous array here: their order depends on its
shape alone, so equal rows of numbers have equal sums.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_TIE = 2.0**-14  # far above float32 roundings of n^2 values, far below the spread of relabellings
_BLOCK_NUMBERS = 1 << 20  # 8 MB of weighted row sums at a time


@dataclass(frozen=True, eq=False)
class KernelSums:
    """What one pass leaves of one kernel, for S pairs of subsets of a rows of x and b rows of y.

    The full samples are one such pair: S = 1, a = n, b = m.

    Attributes
    ----------
    xx : array of shape (S, a), float64
        Sum of k~ of each row of x with every row of x, itself included.
    xy : array of shape (S, a), float64
        Sum of k~ of each row of x with every row of y.
    yx : array of shape (S, b), float64
        Sum of k~ of each row of y with every row of x.
    yy : array of shape (S, b), float64
        Sum of k~ of each row of y with every row of y, itself included.
    xx_diagonal, yy_diagonal : arrays of shape (S, a) and (S, b), float64
        k~ of each row with itself.
    xx_squares, xy_squares, yy_squares : arrays of shape (S,), float64
        Sums of k~^2 over all ordered pairs; rows with themselves included in xx and yy.
    x_shift, y_shift : arrays of shape (S, a) and (S, b), float64
        h of each row: ``k(a, b) = k~(a, b) + h(a) + h(b)``.
    forms : array of shape (L,), float64, or None
        ``w^T K~ w`` over the rows of x and then y, rows with themselves included, for each of L
        vectors w of +1 and -1. Only for S = 1.
    """

    xx: Floats
    xy: Floats
    yx: Floats
    yy: Floats
    xx_diagonal: Floats
    yy_diagonal: Floats
    xx_squares: Floats
    xy_squares: Floats
    yy_squares: Floats
    x_shift: Floats
    y_shift: Floats
    forms: Floats | None = None


def unbiased(sums: KernelSums) -> Floats:
    """Estimate MMD^2 without bias: rows are not paired with themselves.

    Parameters
    ----------
    sums : KernelSums
        Of at least two rows on each side.

    Returns
    -------
    array of shape (S,), float64
        ``sum_{i != j} k(x_i, x_j) / (n (n-1)) + the same for y - 2 mean k(x_i, y_j)``; may be
        negative.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgen.estimators import KernelSums, unbiased
    >>> two, one, zero = np.full((1, 2), 2.0), np.ones((1, 2)), np.zeros((1, 2))
    >>> four = np.array([4.0])  # x is 1, 1 and y is -1, -1; k is their product
    >>> unbiased(KernelSums(two, -two, -two, two, one, one, four, four, four, zero, zero))
    array([4.])
    """
    n, m = sums.xx.shape[1], sums.yy.shape[1]
    mean_xx = _total(sums.xx - sums.xx_diagonal) / (n * (n - 1))
    mean_yy = _total(sums.yy - sums.yy_diagonal) / (m * (m - 1))
    mean_xy = _total(sums.xy) / (n * m)
    value: Floats = (mean_xx + mean_yy) - 2.0 * mean_xy
    return value


def biased(sums: KernelSums) -> Floats:
    """Estimate MMD^2 as the squared distance of the two samples' own mean embeddings.

    Parameters
    ----------
    sums : KernelSums
        Of at least one row on each side.

    Returns
    -------
    array of shape (S,), float64
        ``mean k(x_i, x_j) + mean k(y_i, y_j) - 2 mean k(x_i, y_j)``; exactly 0 for equal samples.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgen.estimators import KernelSums, biased
    >>> two, one, zero = np.full((1, 2), 2.0), np.ones((1, 2)), np.zeros((1, 2))
    >>> four = np.array([4.0])  # x is 1, 1 and y is -1, -1; k is their product
    >>> biased(KernelSums(two, -two, -two, two, one, one, four, four, four, zero, zero))
    array([4.])
    """
    n, m = sums.xx.shape[1], sums.yy.shape[1]
    mean_xx, mean_yy = _total(sums.xx) / (n * n), _total(sums.yy) / (m * m)
    mean_xy = _total(sums.xy) / (n * m)
    value: Floats = (mean_xx + mean_yy) - 2.0 * mean_xy
    return value


#: Estimators of MMD^2 by name.
ESTIMATORS: dict[str, Callable[[KernelSums], Floats]] = {"unbiased": unbiased, "biased": biased}


def variance(sums: KernelSums) -> Floats:
    """Estimate the variance of `unbiased` without bias.

    Parameters
    ----------
    sums : KernelSums
        Of any number of rows.

    Returns
    -------
    array of shape (S,), float64
        May be negative where the true variance is small; NaN if a side has fewer than four rows.

    Notes
    -----
    The formula stands in the docstring of `fastgen.mmd`. The three blocks of the matrix enter less
    their own means: that changes no term (each is the one symmetric unbiased estimate of its
    parameter, and all of these are covariances) and saves digits where all values are alike.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgen.estimators import KernelSums, variance
    >>> four, zero = np.zeros((1, 4)), np.zeros(1)
    >>> variance(KernelSums(four, four, four, four, four, four, zero, zero, zero, four, four))
    array([0.])
    """
    first_order, second_order = _variance_parts(sums)
    return first_order + second_order


def standard_error(sums: KernelSums) -> Floats:
    """Estimate the standard error of `unbiased`.

    Parameters
    ----------
    sums : KernelSums
        Of any number of rows.

    Returns
    -------
    array of shape (S,), float64
        Root of `variance` with its parts of first and of second order clamped at 0 one by one, NaN
        if a side has fewer than four rows.

    Notes
    -----
    Neither part is negative in truth. Clamping their sum alone would give 0 for a third to a half
    of all samples of close distributions in few dimensions, where the noise of the first part
    exceeds the second, and an interval of 1.96 standard errors would hold the truth half of the
    time; like this it does at least as often as it should.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgen.estimators import KernelSums, standard_error
    >>> few, zero = np.zeros((1, 3)), np.zeros(1)
    >>> standard_error(KernelSums(few, few, few, few, few, few, zero, zero, zero, few, few))
    array([nan])
    """
    first_order, second_order = _variance_parts(sums)
    error: Floats = np.sqrt(np.maximum(first_order, 0.0) + np.maximum(second_order, 0.0))
    return error


def _variance_parts(sums: KernelSums) -> tuple[Floats, Floats]:
    """Return the variance of the witness function over n and m, and what pairs add to it."""
    n, m = sums.xx.shape[1], sums.yy.shape[1]
    if n < 4 or m < 4:
        nothing = np.full(len(sums.xx), np.nan)
        return nothing, nothing
    pairs = n * m
    total = _total(sums.xy)
    rows = sums.xy - (total / n)[:, np.newaxis]
    columns = sums.yx - (_total(sums.yx) / m)[:, np.newaxis]
    squares = sums.xy_squares - total * total / pairs
    by_row, by_column = _total(rows * rows), _total(columns * columns)
    sq_mean = (squares - by_row - by_column) / (pairs * (n - 1) * (m - 1))
    share_row = (by_row - squares) / (pairs * (m - 1)) - sq_mean
    share_column = (by_column - squares) / (pairs * (n - 1)) - sq_mean
    apart = squares / pairs - sq_mean - (share_row + share_column)

    share_x, apart_x, with_x = _within(sums.xx, sums.xx_diagonal, sums.xx_squares, rows, m)
    share_y, apart_y, with_y = _within(sums.yy, sums.yy_diagonal, sums.yy_squares, columns, n)
    witness_x, witness_y = share_x - 2.0 * with_x + share_row, share_y - 2.0 * with_y + share_column
    first_order: Floats = 4.0 * (witness_x / n + witness_y / m)
    second_order: Floats = 2.0 * (
        apart_x / (n * (n - 1)) + apart_y / (m * (m - 1)) + 2.0 * apart / pairs
    )
    return first_order, second_order


def permutation_p_value(
    sums: KernelSums, labels: npt.NDArray[np.int8], estimator: str = "unbiased"
) -> float:
    """Return how rarely a random split of the pooled rows looks as different as the true one.

    Parameters
    ----------
    sums : KernelSums
        Of the full samples, with `forms` for the same labels.
    labels : array of shape (n + m, 1 + B), int8
        +1 for the rows of one side, n in each column, and -1 for the others. Column 0 is the true
        split, the other columns are random ones.
    estimator : {"unbiased", "biased"}, default "unbiased"
        Which estimate of MMD^2 to compare.

    Returns
    -------
    float
        ``(1 + #{b >= 1: MMD^2_b >= MMD^2_0}) / (1 + B)``, in (0, 1].

    Notes
    -----
    With w a column, r the row sums over the pooled rows without themselves, and T their total,
    the sums over pairs within the +1 rows, within the -1 rows and across are
    ``(T + 2 w.r + w^T K w) / 4``, ``(T - 2 w.r + w^T K w) / 4`` and ``(T - w^T K w) / 4``. The
    true split takes the same way, so a column that repeats it ties with it exactly. Columns that
    tie in exact arithmetic only, as rows with few distinct values make them, differ by roundings:
    2^-14 of the largest MMD^2 of all columns counts as a tie.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgen.estimators import KernelSums, permutation_p_value
    >>> two, one, zero = np.full((1, 2), 2.0), np.ones((1, 2)), np.zeros((1, 2))
    >>> four = np.array([4.0])  # x is 1, 1 and y is -1, -1; k is their product
    >>> labels = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], dtype=np.int8)
    >>> forms = np.array([16.0, 0.0])
    >>> sums = KernelSums(two, -two, -two, two, one, one, four, four, four, zero, zero, forms)
    >>> permutation_p_value(sums, labels)
    0.5
    """
    assert sums.forms is not None
    n, m = sums.xx.shape[1], sums.yy.shape[1]
    diagonal = np.concatenate([sums.xx_diagonal[0], sums.yy_diagonal[0]])
    rows = np.concatenate([sums.xx[0] + sums.xy[0], sums.yx[0] + sums.yy[0]]) - diagonal
    total, forms = rows.sum(), sums.forms - diagonal.sum()
    difference = 2.0 * _weighted(labels, rows)
    within_x = (total + difference + forms) / 4.0
    within_y = (total - difference + forms) / 4.0
    across = (total - forms) / 4.0
    if estimator == "unbiased":
        means = within_x / (n * (n - 1)) + within_y / (m * (m - 1))
    else:
        own = _weighted(labels, diagonal)
        of_x, of_y = (diagonal.sum() + own) / 2.0, (diagonal.sum() - own) / 2.0
        means = (within_x + of_x) / (n * n) + (within_y + of_y) / (m * m)
    found = means - 2.0 * (across / (n * m))
    least = found[0] - _TIE * np.abs(found).max()
    return float(1 + np.count_nonzero(found[1:] >= least)) / len(found)


def _total(rows: Floats) -> Floats:
    """Add along the rows of each subset."""
    totals: Floats = np.ascontiguousarray(rows).sum(axis=-1)
    return totals


def _within(
    rows: Floats, diagonal: Floats, squares: Floats, across: Floats, others: int
) -> tuple[Floats, Floats, Floats]:
    """Return a, W and c of one side, as the docstring of `fastgen.mmd` calls them.

    They are the covariance of values that share one row, what varies beyond that, and the
    covariance of a value of this block with one across; `across` are centred sums over `others`.
    """
    n = rows.shape[1]
    pairs = n * (n - 1)
    off = rows - diagonal
    total = _total(off)
    off = off - (total / n)[:, np.newaxis]
    squares = squares - _total(diagonal * diagonal) - total * total / pairs
    by_row = _total(off * off)
    sq_mean = (2.0 * squares - 4.0 * by_row) / (pairs * (n - 2) * (n - 3))
    share = (by_row - squares) / (pairs * (n - 2)) - sq_mean
    apart = squares / pairs - sq_mean - 2.0 * share
    return share, apart, _total(off * across) / ((n - 1) * (n - 2) * others)


def _weighted(labels: npt.NDArray[np.int8], rows: Floats) -> Floats:
    """Return ``w . rows`` for every column w, each added in the same order."""
    # No matrix product: its order of addition may differ from column to column.
    out = np.empty(labels.shape[1])
    step = max(1, _BLOCK_NUMBERS // len(rows))
    for start in range(0, len(out), step):
        block = np.ascontiguousarray(labels[:, start : start + step].T)
        out[start : start + step] = (block * rows).sum(axis=1)
    return out
