"""Factors ``S = F F'`` of covariances by LAPACK, with the error of each.

Features are first divided by powers of two near their standard deviations, which is exact: what
rounding does then is small beside the two variances an entry belongs to, whatever their scales are.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastgen import arrays
from fastgen._errors import fail
from fastgen.symmetry import INDEFINITE, as_symmetric

Floats = npt.NDArray[np.float64]

EPS = 2.0**-52

#: What each step of LAPACK here is taken to do: exact for a matrix that is within this many EPS of
#: the one given, in units of its Frobenius norm. Cholesky: 3.4 at most for d up to 1024, seven
#: kinds of covariances, measured in extended precision; it grows like d^0.2.
BACKWARD = 8.0

# Pivots above this are known to some digits; rounding leaves d EPS at most.
_KNOWN = 1e-10

# Variances beyond these, but for 0, do not go into float64 with their products.
_LEAST, _LARGEST = 1e-150, 1e150

_STRIP = 128  # columns of a factor


@dataclass(frozen=True, eq=False)
class Factor:
    """One way to write ``D^-1 S D^-1 = root root'``, D diagonal, but for an error.

    Attributes
    ----------
    units : array of shape (d,), float64
        The diagonal of D: powers of two.
    root : array of shape (d, r), float64
        In these units.
    error : float
        Bound on the Frobenius norm of the difference ``D^-1 S D^-1 - root root'``.
    rank : int
        At most that of `root`, in exact arithmetic.
    rounding : float, default 0.0
        Bound on the Frobenius norm of what the root itself is off by, beyond that.
    """

    units: Floats
    root: Floats
    error: float
    rank: int
    rounding: float = 0.0


class Covariance:
    """A validated covariance and the factors that have been computed of it.

    Parameters
    ----------
    function, argument : str
        Named in messages.
    matrix : array of shape (d, d), float64
        Exactly symmetric and finite.

    Attributes
    ----------
    matrix : array of shape (d, d), float64
        As given.
    trace : float
        Sum of the variances.
    """

    def __init__(self, function: str, argument: str, matrix: Floats) -> None:
        self._function = function
        self._argument = argument
        self.matrix = matrix
        self.trace = math.fsum(matrix.diagonal().tolist())

    @property
    def variances(self) -> Floats:
        """The diagonal."""
        return self.matrix.diagonal()

    @functools.cached_property
    def scale(self) -> Floats:
        """Powers of two near the standard deviations, 1 for a variance of 0 or below."""
        return powers_near(np.sqrt(np.maximum(self.variances, 0.0)))

    @functools.cached_property
    def scaled(self) -> Floats:
        """The matrix in units of `scale`; entries of a covariance are within [-2, 2]."""
        return _divided(self.matrix, self.scale)

    def in_units(self, units: Floats) -> Floats:
        """Return ``U S U`` for a diagonal U of powers of two."""
        weights = self.scale * units
        matrix: Floats = self.scaled * weights
        matrix *= weights[:, np.newaxis]
        return matrix

    def norm_in_units(self, units: Floats) -> float:
        """Return the Frobenius norm of ``U S U``."""
        weights = np.square(self.scale * units)
        return math.sqrt(weights @ (np.square(self.scaled) @ weights))

    @functools.cached_property
    def cholesky(self) -> Factor | None:
        """The Cholesky factor of `scaled`, lower triangular; None where there is none."""
        import scipy.linalg.lapack

        # The transpose is the same matrix in Fortran's order.
        root, info = scipy.linalg.lapack.dpotrf(self.scaled.T, lower=1, clean=1)
        if info != 0:
            return None
        return Factor(self.scale, root, BACKWARD * EPS * norm(self.scaled), len(root))

    @functools.cached_property
    def pivots(self) -> Floats:
        """What elimination leaves of the variances of `scaled`; none without a Cholesky factor."""
        if self.cholesky is None:
            return np.zeros(0)
        pivots: Floats = np.square(self.cholesky.root.diagonal())
        return pivots

    def require_semidefinite(self) -> None:
        """Raise ValueError if the matrix is indefinite beyond rounding."""
        if self.cholesky is None:
            self.factor  # noqa: B018 - which looks

    @functools.cached_property
    def factor(self) -> Factor:
        """A factor of `scaled` without the directions that are rounding alone.

        There are none where no pivot is near rounding. Else pivoted Cholesky goes down to d EPS.
        What it leaves is the rest of a singular matrix, or holds directions that are still known:
        its own eigenvalues tell.

        Raises
        ------
        ValueError
            If the matrix is indefinite beyond rounding.
        """
        if self.cholesky is not None and self.pivots.min() > _KNOWN:
            return self.cholesky
        found = _pivoted(self.scaled, self.scale)
        if found is None:
            deviations = np.sqrt(np.maximum(self.scaled.diagonal(), 0.0))
            found = _by_eigenvalues(self.scaled, self.scale, np.outer(deviations, deviations))
        if found is None:
            # Features lose their digits where a variance is itself the rounding of a difference.
            # Only the largest entries count then.
            units = np.full_like(self.scale, self.scale.max())
            uniform = _divided(self.matrix, units)
            found = _by_eigenvalues(uniform, units, np.maximum(uniform.diagonal().max(), 0.0))
        if found is None:
            condition = "to be positive semi-definite"
            got = f"the eigenvalue {eigenvalues(self.matrix)[0]}"
            fail(self._function, self._argument, condition, got)
        return found


class CentredRows:
    """A few rows as the factor of their own covariance.

    Parameters
    ----------
    rows : array of shape (n, d)
        As `arrays.as_rows` returns them, n at least 2.

    Attributes
    ----------
    origin, shift : array of shape (d,), float64
        The first row, and the mean less that row.
    factor : Factor
        With n columns and one unit for all features.
    """

    def __init__(self, rows: npt.NDArray[Any]) -> None:
        n = len(rows)
        origin = rows[0].astype(np.float64)
        root = rows - origin
        shift = root.mean(axis=0)
        root -= shift
        rest = root.mean(axis=0)  # the mean of what is left is known to its own rounding
        root -= rest
        root /= math.sqrt(n - 1)
        shift += rest
        self.origin, self.shift = origin, shift
        largest = float(np.abs(root).max())
        unit = float(powers_near(largest))
        root /= unit
        # Two roundings of every difference from the first row, and three of the deviation.
        lost = 5 * EPS * (norm(root) + norm(shift / unit) * math.sqrt(n / (n - 1)))
        units = np.full(root.shape[1], unit)
        self.factor = Factor(units, root.T, 0.0, n - 1, lost)  # deviations add up to 0

    @property
    def matrix(self) -> Floats:
        """The covariance, of shape (d, d): for what needs it."""
        root = self.factor.root * self.factor.units[:, np.newaxis]
        matrix: Floats = root @ root.T
        return matrix

    @property
    def variances(self) -> Floats:
        """Of the features."""
        variances: Floats = np.square(self.factor.root).sum(axis=1)
        variances *= self.factor.units**2
        return variances

    @property
    def trace(self) -> float:
        """Sum of the variances."""
        return math.fsum(self.variances.tolist())

    def norm_in_units(self, units: Floats) -> float:
        """Return the Frobenius norm of ``U S U`` for a diagonal U of powers of two."""
        root = self.factor.root * (units * self.factor.units)[:, np.newaxis]
        return norm(root.T @ root)


def as_covariance(function: str, argument: str, value: object, d: int) -> Covariance:
    """Validate a covariance; whether it is indefinite shows when it is factored.

    Parameters
    ----------
    function, argument : str
        Named in messages.
    value : array of shape (d, d)
        Symmetric to within 1e-6 of the variances; the mean with the transpose is taken.
    d : int
        Features.

    Returns
    -------
    Covariance
        In float64.

    Raises
    ------
    TypeError
        If `value` does not hold numbers.
    ValueError
        If it has another shape, is not finite or not symmetric, or a variance is out of range.
    """
    matrix = arrays.as_numbers(function, argument, value)
    if matrix.shape != (d, d):
        fail(function, argument, f"of shape {(d, d)}", f"shape {matrix.shape}")
    matrix = as_symmetric(np, function, argument, matrix)
    check_variances(function, argument, matrix.diagonal())
    return Covariance(function, argument, matrix)


def check_variances(function: str, argument: str, variances: Floats) -> None:
    """Check that variances, and products of two of them, are well within float64.

    Parameters
    ----------
    function, argument : str
        Named in the message.
    variances : array of shape (d,), float64
        Negative ones count by their size.

    Raises
    ------
    ValueError
        Naming the first feature that is outside.
    """
    sizes = np.abs(variances)
    outside = (sizes > _LARGEST) | ((sizes < _LEAST) & (sizes > 0))
    if outside.any():
        feature = int(np.argmax(outside))
        condition = f"with variances of 0 or from {_LEAST:g} to {_LARGEST:g}"
        got = f"{variances[feature]} of feature {feature}"
        fail(function, argument, condition, got, "multiply all features by one power of two")


def powers_near(deviations: Any) -> Floats:
    """Return the powers of two nearest to positive numbers, and 1 for 0."""
    positive = np.where(deviations > 0, deviations, 1.0)
    powers: Floats = np.exp2(np.rint(np.log2(positive)))
    return powers


def _divided(matrix: Floats, units: Floats) -> Floats:
    """Return ``matrix[i, j] / units[i] / units[j]``."""
    scaled: Floats = matrix / units
    scaled /= units[:, np.newaxis]
    return scaled


def norm(matrix: Floats) -> float:
    """Return the Frobenius norm."""
    return float(np.linalg.norm(matrix))


def eigenvalues(matrix: Floats, *, overwrite: bool = False) -> Floats:
    """Return the eigenvalues of a symmetric matrix, ascending; it may be lost on the way."""
    import scipy.linalg

    options = {"check_finite": False, "overwrite_a": overwrite, "driver": "evd"}
    return np.asarray(scipy.linalg.eigvalsh(matrix, **options))


def _pivoted(scaled: Floats, units: Floats) -> Factor | None:
    """Factor by pivoted Cholesky; None where rounding is not what ended it."""
    import scipy.linalg
    import scipy.linalg.lapack

    d = len(scaled)
    least = d * EPS * float(scaled.diagonal().max())
    if least <= 0:
        return Factor(units, np.zeros((d, 0)), 0.0, 0) if not scaled.any() else None
    packed, pivots, rank, _ = scipy.linalg.lapack.dpstrf(scaled.T, tol=least, lower=1)
    order = pivots - 1
    # In the order of memory: numpy.tril of the whole takes as long as dpstrf.
    for start in range(0, rank, _STRIP):
        strip = packed[:, start : start + _STRIP]
        strip[:start] = 0.0
        strip[start : start + _STRIP] = np.tril(strip[start : start + _STRIP])
    error = BACKWARD * EPS * norm(scaled)
    last = order[rank:]
    more = np.zeros((d - rank, 0))
    if rank < d:
        tail = packed[rank:, :rank]
        rest = scaled[np.ix_(last, last)] - tail @ tail.T
        values, vectors = scipy.linalg.eigh(rest, check_finite=False, driver="evd")
        if values[0] < -2 * least:
            return None  # no rounding of float64: indefinite, or rounded to fewer digits
        kept = values > max(-4 * values[0], 16 * EPS)
        more = vectors[:, kept] * np.sqrt(values[kept])
        error += norm(values[~kept])
    root = np.zeros((d, rank + more.shape[1]))
    root[order, :rank] = packed[:, :rank]
    root[last, rank:] = more
    return Factor(units, root, error, root.shape[1])


def _by_eigenvalues(scaled: Floats, units: Floats, most: Floats) -> Factor | None:
    """Factor by eigenvalues above the noise; None for an indefinite matrix.

    `most` is what entries of a semi-definite matrix with these variances do not exceed.
    """
    import scipy.linalg

    values, vectors = scipy.linalg.eigh(scaled, check_finite=False, driver="evd")
    excess = np.abs(scaled) > (1 + INDEFINITE) * most
    if excess.any() or values[0] < -INDEFINITE * values[-1]:
        return None
    kept = values > max(-2 * values[0], 4 * EPS * values[-1])
    error = BACKWARD * EPS * norm(scaled) + norm(values[~kept])
    root = vectors[:, kept] * np.sqrt(values[kept])
    return Factor(units, root, error, root.shape[1])
