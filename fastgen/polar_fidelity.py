"""The fidelity of two covariances by matrix products alone, on whatever device they are.

The sum of the singular values of ``A = F_1' F_2`` comes from a polar iteration with a proof of its
error (`polar`). The factors are Cholesky's where both covariances are well conditioned, and from
eigenvalues where not.

If ``S = L L' + E``, then ``(1 - t) L L' <= S <= (1 + t) L L'`` with ``t = |E| |L^-1|^2``, and the
fidelity, which rises with S and is homogeneous of degree 1/2, changes by a factor of at most
``(1 + t)^(1/2)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from fastgen import arrays, polar
from fastgen._errors import fail
from fastgen.factors import BACKWARD, EPS, check_variances
from fastgen.fidelity import CERTAIN, Fidelity
from fastgen.symmetry import INDEFINITE, as_symmetric

#: Cholesky's factor is no use if its error may change the fidelity by more than this share.
_WELL_CONDITIONED = 1e-2

#: Of the sum of singular values: equal distributions are within 1e-10 of their trace of 0.
_TOLERANCE = 2e-11


@dataclass(frozen=True, eq=False)
class DeviceCovariance:
    """A validated covariance in an array of any library.

    Attributes
    ----------
    function, argument : str
        Named in messages.
    matrix : array of shape (d, d), float64
        Exactly symmetric and finite.
    trace : float
        Sum of the variances.
    """

    function: str
    argument: str
    matrix: Any
    trace: float


@dataclass(frozen=True, eq=False)
class _Factor:
    """``S = D (root root' + E) D``, where |E| is at most `error` or `share` of ``root root'``."""

    root: Any  # [d, r]
    units: Any  # [d], the diagonal of D, over
    power: float
    error: float
    share: float


def as_device_covariance(function: str, argument: str, value: Any, d: int) -> DeviceCovariance:
    """Validate a covariance and leave it where it is.

    Parameters
    ----------
    function, argument : str
        Named in messages.
    value : array of shape (d, d)
        As `polar.as_device_matrix` takes it; symmetric to within 1e-6 of the variances, and the
        mean with the transpose is taken.
    d : int
        Features.

    Returns
    -------
    DeviceCovariance
        In float64.

    Raises
    ------
    TypeError, ValueError
        As `factors.as_covariance`.
    """
    if not hasattr(value, "__dlpack__"):
        value = arrays.as_numbers(function, argument, value)
    if getattr(value, "ndim", 2) != 2:
        fail(function, argument, f"of shape {(d, d)}", f"shape {tuple(value.shape)}")
    xp, matrix = polar.as_device_matrix(function, argument, value, d)
    check_variances(function, argument, np.array(xp.linalg.diagonal(matrix).tolist()))
    matrix = as_symmetric(xp, function, argument, matrix)
    return DeviceCovariance(function, argument, matrix, float(xp.linalg.trace(matrix)))


def check_same_device(one: DeviceCovariance, other: DeviceCovariance) -> None:
    """Check that two covariances are of one library and on one device.

    Parameters
    ----------
    one, other : DeviceCovariance
        The arguments, in the caller's order.

    Raises
    ------
    TypeError
        If they are not.
    """
    places = [
        f"{type(side.matrix).__module__.partition('.')[0]} on {side.matrix.device}"
        for side in (one, other)
    ]
    if places[0] != places[1]:
        condition = f"of the library and on the device of `{one.argument}`, {places[0]}"
        fail(other.function, other.argument, condition, places[1], error=TypeError)


def fidelity_by_polar(one: DeviceCovariance, other: DeviceCovariance) -> Fidelity:
    """Compute the fidelity of two covariances by a polar iteration.

    Parameters
    ----------
    one, other : DeviceCovariance
        Of the same features, library and device.

    Returns
    -------
    Fidelity
        Value and error in units of a variance.

    Raises
    ------
    ValueError
        If one of them is indefinite beyond rounding.
    """
    xp = polar.namespace(one.matrix, other.matrix)
    pair = one, other
    own = [_in_own_units(xp, side) for side in pair]
    fast = [_by_cholesky(xp, *scaled) for scaled in own]
    found = None
    if fast[0] is not None and fast[1] is not None:
        found = _of_factors(xp, pair, (fast[0], fast[1]))
        if found.error <= CERTAIN * (one.trace + other.trace):
            return found
    first, second = (_by_eigenvalues(xp, *scaled) for scaled in zip(pair, own, strict=True))
    careful = _of_factors(xp, pair, (first, second))
    return careful if found is None or careful.error < found.error else found


def _of_factors(
    xp: ModuleType,
    pair: tuple[DeviceCovariance, DeviceCovariance],
    factors: tuple[_Factor, _Factor],
) -> Fidelity:
    roots = [factor.units[:, None] * factor.root for factor in factors]
    power = factors[0].power * factors[1].power
    value, error = polar.nuclear_norm(roots[0].T @ roots[1], tolerance=_TOLERANCE)
    d = roots[0].shape[0]
    traces = [float(xp.sum(root * root)) for root in roots]
    error += 2 * BACKWARD * EPS * math.sqrt(d * traces[0] * traces[1])  # of the product
    change = 0.0  # of A A' in the Frobenius norm
    for factor, other, i in ((factors[0], pair[1], 1), (factors[1], pair[0], 0)):
        error += factor.share * (value + error)
        if factor.error > 0:
            units = factor.units / factors[i].power
            inside = other.matrix * units[:, None] * units[None, :]
            change += factor.error * math.sqrt(float(xp.sum(inside * inside)))
    # Its eigenvalues change by errors with that sum of squares; a root by the root at most.
    error += d**0.75 * math.sqrt(change)
    return Fidelity(power * value, power * error, "newton_schulz")


def _in_own_units(xp: ModuleType, covariance: DeviceCovariance) -> tuple[Any, Any, float]:
    """Return ``D^-1 S D^-1``, the diagonal of D over a power of two, and that power."""
    deviations = xp.sqrt(xp.clip(xp.linalg.diagonal(covariance.matrix), 0.0, None))
    largest = float(xp.max(deviations))
    power = 2.0 ** round(math.log2(largest)) if largest > 0 else 1.0
    relative = xp.where(deviations > 0, deviations / power, xp.ones_like(deviations))
    # Powers of two, so that dividing by them is exact.
    units = 2.0 ** xp.round(xp.log2(relative))
    c = covariance.matrix / power / power / units[:, None] / units[None, :]
    return c, units, power


def _by_cholesky(xp: ModuleType, c: Any, units: Any, power: float) -> _Factor | None:
    root = polar.cholesky(xp, c)
    if root is None:
        return None
    inverse = xp.abs(xp.linalg.inv(root))
    rows, columns = (float(xp.max(xp.sum(inverse, axis=axis))) for axis in (0, 1))
    share = BACKWARD * EPS * math.sqrt(float(xp.sum(c * c)))
    share *= min(rows * columns, float(xp.sum(inverse * inverse)))  # of which |L^-1|^2 is less
    if not share < _WELL_CONDITIONED:
        return None
    return _Factor(root, units, power, 0.0, 0.5 * share * (1 + share))


def _by_eigenvalues(
    xp: ModuleType, covariance: DeviceCovariance, scaled: tuple[Any, Any, float]
) -> _Factor:
    c, units, power = scaled
    for scale in (units, xp.full_like(units, float(xp.max(units)))):
        values, vectors = xp.linalg.eigh(c * (units / scale)[:, None] * (units / scale)[None, :])
        least, most = float(values[0]), float(values[-1])
        if least < -INDEFINITE * most:
            continue
        kept = xp.astype(values > max(-2 * least, 4 * EPS * most), xp.float64)
        dropped = (1 - kept) * values
        error = BACKWARD * EPS * most * math.sqrt(len(values))
        error += math.sqrt(float(xp.sum(dropped * dropped)))
        root = vectors * xp.sqrt(kept * xp.clip(values, 0.0, None))[None, :]
        return _Factor(root, scale, power, error, 0.0)
    got = f"the eigenvalue {float(xp.linalg.eigvalsh(covariance.matrix)[0])}"
    condition = "to be positive semi-definite"
    fail(covariance.function, covariance.argument, condition, got)
