"""Mean and covariance of rows that come in batches."""

from __future__ import annotations

import operator

import numpy as np
import numpy.typing as npt

from fastgen.numpy_reference.arguments import Floats, as_finite, as_rows


class Moments:
    """Mean and covariance of rows that come in batches.

    All is kept as a difference from the first row. Each batch is centred on its own mean before it
    is squared, and two parts are joined by the formula of Chan et al. So the error of a covariance
    is at most about ``2^-52 n s_i s_j``, s the standard deviations, however far the mean is from 0.

    Parameters
    ----------
    d : int
        Number of features.

    Attributes
    ----------
    count : int
        Rows so far.

    Raises
    ------
    ValueError
        If `d` is below 1.

    References
    ----------
    .. [1] Chan, Golub and LeVeque, "Algorithms for computing the sample variance: analysis and
       recommendations", The American Statistician 37, 1983.

    Examples
    --------
    >>> from fastgen.numpy_reference.moments import Moments
    >>> moments = Moments(2)
    >>> moments.update([[0.0, 1.0]])
    >>> moments.update([[2.0, 1.0], [4.0, 4.0]])
    >>> moments.count, moments.mean.tolist()
    (3, [2.0, 2.0])
    >>> moments.covariance
    array([[4., 3.],
           [3., 3.]])
    """

    def __init__(self, d: int) -> None:
        self._d = operator.index(d)
        if self._d < 1:
            raise ValueError(f"Moments: expected `d` of at least 1, got {d}")
        self.count = 0
        self._origin = np.zeros(self._d)
        self._mean = np.zeros(self._d)  # less the origin
        self._scatter = np.zeros((self._d, self._d))

    def update(self, batch: npt.ArrayLike) -> None:
        """Take in rows.

        Parameters
        ----------
        batch : array of shape (n, d)
            One row is enough; any real dtype, in float64 from here on.

        Raises
        ------
        ValueError
            If it is no matrix of d finite columns.
        """
        name = "Moments.update"
        rows = as_finite(name, "batch", as_rows(name, "batch", batch))
        if rows.shape[1] != self._d:
            raise ValueError(
                f"{name}: expected `batch` with {self._d} columns, got {rows.shape[1]}"
            )
        origin, mean, deviations = centred(rows)
        self._join(len(rows), origin, mean, deviations.T @ deviations)

    def merge(self, other: Moments) -> None:
        """Take in the rows that other moments have seen.

        Parameters
        ----------
        other : Moments
            Of as many features; stays as it is.

        Raises
        ------
        ValueError
            If it has another number of features.
        """
        if other._d != self._d:
            raise ValueError(
                f"Moments.merge: expected `other` of {self._d} features, got {other._d}"
            )
        self._join(other.count, other._origin, other._mean, other._scatter)

    @property
    def mean(self) -> Floats:
        """Means of the features, shape (d,)."""
        self._require("mean", 1)
        mean: Floats = self._origin + self._mean
        return mean

    @property
    def covariance(self) -> Floats:
        """Covariance of the features with divisor n - 1, shape (d, d), symmetric to the bit."""
        self._require("covariance", 2)
        covariance: Floats = 0.5 * (self._scatter + self._scatter.T) / (self.count - 1)
        return covariance

    def _join(self, n: int, origin: Floats, mean: Floats, scatter: Floats) -> None:
        if n:
            if not self.count:
                self._origin = origin.copy()
            total = self.count + n
            step = (origin - self._origin) + (mean - self._mean)
            self._scatter = (
                self._scatter + scatter + (self.count * (n / total)) * np.outer(step, step)
            )
            self._mean = self._mean + step * (n / total)
            self.count = total

    def _require(self, what: str, rows: int) -> None:
        if self.count < rows:
            raise ValueError(
                f"Moments.{what}: expected `count` of at least {rows}, got {self.count}"
            )


def centred(rows: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the first row, the mean less that row, and deviations from the mean.

    The mean of the deviations is 0 to within their own rounding.
    """
    shifted = rows - rows[0]
    mean = shifted.mean(axis=0)
    deviations = shifted - mean
    rest = deviations.mean(axis=0)
    return rows[0], mean + rest, deviations - rest
