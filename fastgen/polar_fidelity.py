"""The fidelity of two covariances by matrix products, on whatever device they are.

The sum of the singular values of ``A = F_1' F_2`` comes from a polar iteration with a proof of its
error (`polar`), the factors from `polar_factors`: Cholesky's where both covariances are well
conditioned; where not, on a GPU, projections onto the ranges; and eigenvalues.

At d = 2048 a pair of well-conditioned covariances takes some 40 products and 3 Cholesky
factorisations, a singular one 160 and 7.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastgen import arrays, matrices, namespaces, polar
from fastgen._errors import fail
from fastgen.factors import BACKWARD, EPS, check_variances
from fastgen.fidelity import CERTAIN, Fidelity
from fastgen.polar_factors import (
    DeviceCentredRows,
    DeviceCovariance,
    PolarFactor,
    by_cholesky,
    by_eigenvalues,
    by_projection,
)
from fastgen.symmetry import as_symmetric

#: What a distribution has on a device.
Side = DeviceCovariance | DeviceCentredRows

#: Of the sum of singular values: equal distributions are within 1e-10 of their trace of 0.
_TOLERANCE = 2e-11


def as_device_covariance(function: str, argument: str, value: Any, d: int) -> DeviceCovariance:
    """Validate a covariance and leave it where it is.

    Parameters
    ----------
    function, argument : str
        Named in messages.
    value : array of shape (d, d)
        As `matrices.as_device_matrix` takes it; symmetric to within 1e-6 of the variances, and the
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
    if not (hasattr(value, "__dlpack__") or namespaces.is_on_device(value)):
        value = arrays.as_numbers(function, argument, value)
    if getattr(value, "ndim", 2) != 2:
        fail(function, argument, f"of shape {(d, d)}", f"shape {tuple(value.shape)}")
    xp, matrix = matrices.as_device_matrix(function, argument, value, d)
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


def fidelity_by_polar(one: Side, other: Side) -> Fidelity:
    """Compute the fidelity of two covariances by a polar iteration.

    Parameters
    ----------
    one, other : DeviceCovariance or DeviceCentredRows
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
    pair = one, other
    certain = CERTAIN * (one.trace + other.trace)
    on_device = isinstance(one, DeviceCentredRows) or namespaces.is_on_device(one.matrix)
    if on_device or isinstance(other, DeviceCentredRows):
        return _of_factors(pair, (_factor(one), _factor(other)), certain)
    assert isinstance(one, DeviceCovariance)
    quick = by_cholesky(one), by_cholesky(other)
    found = None
    if quick[0] is not None and quick[1] is not None:
        found = _of_factors(pair, (quick[0], quick[1]), certain)
        if found.error <= certain:
            return found
    careful = _of_factors(pair, (by_eigenvalues(one), by_eigenvalues(other)), certain)
    return careful if found is None or careful.error < found.error else found


def _factor(side: Side) -> PolarFactor:
    """Factor a covariance on a device, where eigenvalues take as long as a hundred products."""
    if isinstance(side, DeviceCentredRows):
        return side.factor
    found = by_cholesky(side)
    found = by_projection(side) if found is None else found
    return by_eigenvalues(side) if found is None else found


def _of_factors(
    pair: tuple[Side, Side], factors: tuple[PolarFactor, PolarFactor], certain: float
) -> Fidelity:
    first, second = factors
    xp = matrices.namespace(first.root, second.root)
    roots = [factor.units[:, None] * factor.root for factor in factors]
    power = first.power * second.power
    *traces, least = namespaces.fetched(
        *(xp.sum(root * root) for root in roots), xp.min(first.units * second.units)
    )
    # Of A: its inverse is the product of those of the roots. Zero where one of them has none.
    smallest = least / first.inverse / second.inverse
    value, error = polar.nuclear_norm(
        roots[0].T @ roots[1], tolerance=_TOLERANCE, smallest=smallest
    )
    d = roots[0].shape[0]
    error += 2 * BACKWARD * EPS * math.sqrt(d * traces[0] * traces[1])  # of the product
    for i, factor in enumerate(factors):
        error += factor.rounding * math.sqrt(traces[1 - i])

    # What a factor is off by is known as a share of the covariance, as a matrix, or as both. If one
    # is exact, the matrix whose eigenvalues are changed is as small as its rank.
    size = min([d, *(one.rank for one in factors if one.error == one.share == 0 and one.rank)])
    best = math.inf
    for choice in _choices(first, second):
        total, change = error, 0.0
        for i, factor in enumerate(factors):
            if choice[i] == "share":
                total += factor.share * (value + total)
            else:
                units = factor.units / factors[1 - i].power
                change += factor.error * pair[1 - i].norm_in_units(units)
        # Eigenvalues change by errors with that sum of squares; a root by the root at most.
        best = min(best, total + float(size) ** 0.75 * math.sqrt(change))
        if power * best <= certain:
            break
    return Fidelity(power * value, power * best, "newton_schulz")


def _choices(*factors: PolarFactor) -> Iterator[tuple[str, ...]]:
    """Go through the ways to bound the error of each factor."""
    known = []
    for factor in factors:
        words = ["share"] if factor.share > 0 or factor.error == 0 else []
        known.append([*words, "error"] if factor.error > 0 else words)
    return itertools.product(*known)
