"""The fidelity of two covariances, with a bound of its error.

That is ``tr (S_1^(1/2) S_2 S_1^(1/2))^(1/2)``: the sum of the singular values of ``A = F_1' F_2``
for any factors ``S = F F'``, and of the roots of the eigenvalues of ``M = A A'``. Ways to it, from
fast to careful:

by eigenvalues
    ``M = L_1' S_2 L_1`` with one Cholesky factor: as fast as 1.7 symmetric eigenvalue problems. The
    root of an eigenvalue near 0 is known to 1e-8 of the largest only.
by singular values
    Both factors, and A: known to rounding, also where covariances are singular. 4 times.
by a polar iteration
    Matrix products alone, which is what a GPU is best at.
by products
    The eigenvalues of ``S_1 S_2``, not symmetric and perhaps complex: what other libraries do.

How errors grow: if M is off by a matrix of Frobenius norm e, its eigenvalues are off by errors with
a sum of squares of at most e^2 [1]_, and so their roots by what `_change_of_roots` adds up.

References
----------
.. [1] Hoffman and Wielandt, "The variation of the spectrum of a normal matrix", Duke Mathematical
   Journal 20, 1953.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fastgen.factors import BACKWARD, EPS, Covariance, Factor, eigenvalues, norm

Floats = npt.NDArray[np.float64]

#: Ways that can be asked for; "auto" takes the first that is certain enough.
METHODS = ("auto", "newton_schulz", "eigh", "eigvals")

#: A fast result is taken if its error is proven to be below this share of the traces.
CERTAIN = 1e-9

#: Where elimination leaves less of a variance, it is worth another factorisation to know more.
_SUSPICIOUS = 1e-4


@dataclass(frozen=True)
class Fidelity:
    """A fidelity and what is known of it.

    Attributes
    ----------
    value : float
        At least 0.
    error : float
        Bound on what rounding may have changed; NaN for "eigvals".
    method : str
        One of `METHODS` but "auto".
    """

    value: float
    error: float
    method: str


class Factored(Protocol):
    """A covariance that has a factor: `Covariance` or `CentredRows`."""

    @property
    def factor(self) -> Factor:
        """The factor."""

    @property
    def matrix(self) -> Floats:
        """The covariance itself."""

    @property
    def trace(self) -> float:
        """Sum of the variances."""

    @property
    def variances(self) -> Floats:
        """Of the features."""

    def norm_in_units(self, units: Floats) -> float:
        """Return the Frobenius norm of ``U S U``."""


def fidelity(one: Factored, other: Factored) -> Fidelity:
    """Compute the fidelity of two covariances by LAPACK.

    Parameters
    ----------
    one, other : Covariance or CentredRows
        Of the same features. The result does not depend on their order.

    Returns
    -------
    Fidelity
        Value and error in units of a variance.

    Raises
    ------
    ValueError
        If one of them is indefinite beyond rounding.
    """
    first, second = _in_order(one, other)
    if isinstance(first, Covariance) and isinstance(second, Covariance):
        found = _by_eigenvalues(first, second)
        if found is not None and found.error <= CERTAIN * (first.trace + second.trace):
            return found
    return _by_singular_values(first, second)


def by_products(one: Covariance, other: Covariance) -> Fidelity:
    """Add up the roots of the eigenvalues of ``S_1 S_2``, as torch-fidelity and torchmetrics do.

    Parameters
    ----------
    one, other : Covariance
        Of the same features.

    Returns
    -------
    Fidelity
        Its error is not known: rounding makes eigenvalues near 0 negative or complex.

    Raises
    ------
    ValueError
        If one of them is indefinite beyond rounding.
    """
    one.require_semidefinite()
    other.require_semidefinite()
    values = np.linalg.eigvals(one.matrix @ other.matrix).astype(np.complex128)
    return Fidelity(float(np.sqrt(values).real.sum()), math.nan, "eigvals")


def _in_order(one: Factored, other: Factored) -> tuple[Factored, Factored]:
    """Put two covariances in an order of their own: rounding shall not know the caller's."""
    keys = [(side.trace, side.variances.tolist()) for side in (one, other)]
    if keys[0] == keys[1]:
        keys = [side.matrix.tolist() for side in (one, other)]
    return (one, other) if keys[0] <= keys[1] else (other, one)


def _by_eigenvalues(first: Covariance, second: Covariance) -> Fidelity | None:
    import scipy.linalg.lapack

    root = first.cholesky
    if root is None:
        return None
    power = float((root.units * second.scale).max())
    other = second.in_units(root.units / power)
    size = norm(other)
    error = (root.error + BACKWARD * EPS * norm(first.scaled)) * size
    if _will_not_do(first, second, power, error):
        return None
    inner, _ = scipy.linalg.lapack.dsygst(other.T, root.root, itype=2, lower=1, overwrite_a=1)
    values = eigenvalues(inner, overwrite=True)
    if values[0] <= 0:
        return None
    # The step to eigenvalues: 15 EPS at most for d up to 1024, growing like d^0.5.
    error += (BACKWARD + math.sqrt(len(values))) * EPS * norm(values)
    value = math.fsum(np.sqrt(values).tolist())
    return Fidelity(power * value, power * _change_of_roots(values, error, 0), "eigh")


def _will_not_do(first: Covariance, second: Covariance, power: float, error: float) -> bool:
    """Foresee that the error will be too large, before two thirds of the work are done.

    The geometric mean of the eigenvalues of M is known from both determinants, and no other
    eigenvalues with that mean have a smaller sum of ``1 / v``.
    """
    if first.pivots.min() > _SUSPICIOUS:
        return False
    if not second.pivots.size:
        return True
    roots = np.sqrt(first.pivots) * np.sqrt(second.pivots) * (first.scale * second.scale / power)
    mean = math.exp2(2 * math.fsum(np.log2(roots).tolist()) / len(roots))
    bound = power * _change_of_roots(np.full(len(roots), mean), error, 0)
    return bound > CERTAIN * (first.trace + second.trace)


def _by_singular_values(first: Factored, second: Factored) -> Fidelity:
    import scipy.linalg

    factors = first.factor, second.factor
    powers = [float(factor.units.max()) for factor in factors]
    roots = [
        factor.root * (factor.units / power)[:, np.newaxis]
        for factor, power in zip(factors, powers, strict=True)
    ]
    product = (roots[1].T @ roots[0]).T  # in the order of LAPACK
    values = np.zeros(0)
    if product.size:
        values = np.asarray(scipy.linalg.svdvals(product, check_finite=False, overwrite_a=True))
    change = 0.0  # of M by the errors of both factors
    size = len(roots[0])  # of M, or of A' A where only the first factor has an error
    lost = 2 * BACKWARD * EPS * math.sqrt(len(values)) * norm(roots[0]) * norm(roots[1])
    for factor, other, i in ((factors[0], second, 1), (factors[1], first, 0)):
        if factor.error > 0:
            units = factor.units / (powers[0] * powers[1])
            change += factor.error * (1 + factors[i].error) * other.norm_in_units(units)
        else:
            size = min(size, factor.rank)
        lost += factor.rounding * norm(roots[i])
    error = _change_of_roots(values[:size] ** 2, change, max(size - len(values), 0)) + lost
    power = powers[0] * powers[1]
    value = power * math.fsum(values.tolist())
    # It lies between 0 and the root of the product of the traces.
    most = math.sqrt(first.trace) * math.sqrt(second.trace) * (1 + len(roots[0]) * EPS)
    return Fidelity(value, min(power * error, max(value, most - value)), "eigh")


def _change_of_roots(values: Floats, error: float, zeros: int) -> float:
    """Bound how far the sum of the roots of eigenvalues may be off.

    Parameters
    ----------
    values : array of shape (r,), float64
        Eigenvalues, at least 0, of a positive semi-definite matrix that is off by `error` or less
        in the Frobenius norm.
    error : float
        So the squares of the errors e_i of the eigenvalues add up to `error`^2 or less.
    zeros : int
        Further eigenvalues of 0.

    Returns
    -------
    float
        Where ``v > 2 error``, a root changes by at most ``e / (1.7 sqrt(v))``, and by Cauchy and
        Schwarz all of them by ``error / 1.7 (sum 1 / v)^(1/2)``. Each of the k others changes by at
        most ``sqrt(e)``, and all of them by ``k^(3/4) sqrt(error)``.
    """
    large = values[values > 2 * error]
    small = len(values) - len(large) + zeros
    change = error / 1.7 * math.sqrt(math.fsum((1 / large).tolist())) if error > 0 else 0.0
    return change + math.pow(small, 0.75) * math.sqrt(error)
