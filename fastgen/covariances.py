"""Variances and covariances of rows in float64, and rows in whose units a covariance is 1.

Rows are read in blocks: what is kept is d or d x d numbers, and the whitened rows asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from fastgen._errors import fail
from fastgen.arrays import Rows2D, as_numbers
from fastgen.device_rows import DeviceRows
from fastgen.symmetry import as_symmetric

Floats = npt.NDArray[np.float64]

#: Of float64 rows, some milliseconds of work: Ctrl-C is served between blocks.
BLOCK_BYTES = 8 << 20


class Whitening:
    """The map ``x -> L^-1 (x - c)``, under which the covariance ``L L'`` becomes the identity.

    Parameters
    ----------
    centre : array of shape (d,), float64
        What is subtracted. Distances do not depend on it, but rounding grows with what is left.
    root : array of shape (d, d), float64
        L, lower triangular.

    Attributes
    ----------
    log_volume : float
        Logarithm of the determinant of L.
    """

    def __init__(self, centre: Floats, root: Floats) -> None:
        self._centre = centre
        self._root = root
        self.log_volume = math.fsum(np.log(root.diagonal()).tolist())

    def apply(self, rows: Rows2D | DeviceRows) -> Floats:
        """Return whitened rows.

        Parameters
        ----------
        rows : ndarray or DeviceRows of shape (n, d)
            Of any dtype that `arrays.as_rows` returns. Those on a GPU are brought to the host,
            block by block, and whitened there.

        Returns
        -------
        array of shape (n, d), float64
            A copy. Not finite where the result is beyond float64.
        """
        import scipy.linalg

        white = np.empty(rows.shape)
        for block in _blocks(rows):
            columns = (rows[block] - self._centre).T
            white[block] = scipy.linalg.solve_triangular(
                self._root, columns, lower=True, overwrite_b=True, check_finite=False
            ).T
        return white


def whitening(
    function: str, covariance: object, samples: Rows2D | DeviceRows, weights: Floats | None
) -> Whitening:
    """Validate `covariance` and prepare to whiten with it.

    Parameters
    ----------
    function : str
        Named in messages.
    covariance : array of shape (d, d) or "sample"
        Symmetric positive definite, or the word for that of the samples themselves (divisor n - 1;
        with weights that add up to 1, ``1 - sum(w^2)``).
    samples : ndarray or DeviceRows of shape (n, d)
        Validated. Those on a GPU are brought to the host block by block.
    weights : array of shape (n,), float64, optional
        At least 0, the largest 1.

    Returns
    -------
    Whitening
        Centred on the samples' mean.

    Raises
    ------
    TypeError
        If `covariance` does not hold numbers.
    ValueError
        If it has another shape, is not symmetric or not positive definite beyond rounding, or
        there are too few samples for one of their own.
    """
    d = samples.shape[1]
    centre = _mean(samples, weights)
    if isinstance(covariance, str):
        if covariance != "sample":
            fail(function, "covariance", '"sample" or a matrix', repr(covariance))
        count = len(samples) if weights is None else int(np.count_nonzero(weights))
        if count <= d:
            condition = f'with more than {d} rows for `covariance="sample"`'
            fail(function, "samples", condition, str(count))
        return Whitening(centre, _root(function, _covariance(samples, weights, centre)))
    matrix = as_numbers(function, "covariance", covariance)
    if matrix.shape != (d, d):
        fail(function, "covariance", f"of shape {(d, d)}", f"shape {matrix.shape}")
    return Whitening(centre, _root(function, as_symmetric(np, function, "covariance", matrix)))


def mean_variance(rows: Rows2D | DeviceRows) -> float:
    """Return the mean over features of their variance.

    Parameters
    ----------
    rows : ndarray or DeviceRows of shape (n, d)
        At least two. Those on a GPU are brought to the host block by block.

    Returns
    -------
    float
        With divisor n - 1; exactly 0 if all rows are equal, although their mean is rounded.
    """
    first = rows[0]
    if not any((rows[block] != first).any() for block in _blocks(rows)):
        return 0.0
    centre = _mean(rows, None)
    variances = np.zeros(rows.shape[1])
    for block in _blocks(rows):
        deviations = rows[block] - centre
        variances += (deviations * deviations).sum(axis=0) / (len(rows) - 1)
    return float(np.mean(variances))


def _mean(rows: Rows2D | DeviceRows, weights: Floats | None) -> Floats:
    centre = np.zeros(rows.shape[1])
    total = float(len(rows)) if weights is None else float(weights.sum())
    for block in _blocks(rows):
        if weights is None:
            centre += rows[block].sum(axis=0, dtype=np.float64) / total
        else:
            centre += (weights[block] / total) @ rows[block].astype(np.float64)
    return centre


def _covariance(rows: Rows2D | DeviceRows, weights: Floats | None, centre: Floats) -> Floats:
    divisor = float(len(rows) - 1)
    if weights is not None:
        total = weights.sum()
        divisor = float(np.sum(weights * (total - weights)) / total)
    covariance = np.zeros((rows.shape[1],) * 2)
    # Beyond float64 it is no covariance, and the next step says so.
    with np.errstate(all="ignore"):
        for block in _blocks(rows):
            deviations = rows[block] - centre
            if weights is not None:
                deviations *= np.sqrt(weights[block, np.newaxis])
            covariance += deviations.T @ deviations
        covariance /= divisor
    return covariance


def _root(function: str, covariance: Floats) -> Floats:
    """Return the Cholesky factor of a matrix that is positive definite beyond rounding."""
    # What elimination leaves of a variance is rounding alone below this share of it.
    least = len(covariance) * 2.0**-52 * covariance.diagonal()
    try:
        root = np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)
        if np.all(root.diagonal() ** 2 > least):
            return root
    except np.linalg.LinAlgError:
        pass  # some variance was left at 0 or below
    got, hint = "one that is not", "drop features that follow from others"
    fail(function, "covariance", "to be positive definite in float64", got, hint)


def _blocks(rows: Rows2D | DeviceRows) -> Iterator[slice]:
    step = max(1, BLOCK_BYTES // (8 * rows.shape[1]))
    for start in range(0, len(rows), step):
        yield slice(start, start + step)
