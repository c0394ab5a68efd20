"""Factors ``S = F F'`` of covariances in arrays of any library, with the error of each.

Features are first divided by powers of two near their standard deviations, which is exact.

by Cholesky
    Where the covariance is well conditioned.
by projection
    Where it is singular to rounding and a gap parts what is 0 from what is not: matrix products
    alone. The projection P onto the range is ``(I + U) / 2``, U the polar factor of ``C - t I``,
    t in the gap; then ``C + (I - P) = L L'`` is well conditioned, and ``F = P L`` has nothing of
    the size of ``2^-26`` in the directions that are 0, as a factor of the rounding there would.
by eigenvalues
    For the rest. On a GPU it takes as long as some hundred products.

If ``S = L L' + E``, then ``(1 - t) L L' <= S <= (1 + t) L L'`` with ``t = |E| |L^-1|^2``, and the
fidelity, which rises with S and is homogeneous of degree 1/2, changes by a factor of at most
``(1 + t)^(1/2)``.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastgen import matrices, namespaces, polar
from fastgen._errors import fail
from fastgen.factors import BACKWARD, EPS
from fastgen.library_devices import Device
from fastgen.library_rows import LibraryRows
from fastgen.symmetry import INDEFINITE

#: Cholesky's factor is no use if its error may change the fidelity by more than this share.
_WELL_CONDITIONED = 1e-2

# A gap is looked for around this share of the 2-norm: the polar iteration takes 17 steps to it.
_GAP = 1e-8

# A factor by projection is taken if it is off by rounding alone: 2.8 d^(1/2) EPS |C| was measured
# for d from 16 to 300, and next to 1e-8 |C| where there is no gap.
_PROJECTED = 16.0


@dataclass(frozen=True, eq=False)
class PolarFactor:
    """``S = D (root root' + E) D``, where |E| is at most `error`, or `share` of ``root root'``.

    Attributes
    ----------
    root : array of shape (d, r), float64
        F in units of D.
    units : array of shape (d,), float64
        The diagonal of D, over `power`.
    power : float
        A power of two.
    error, share : float
        Bound of the Frobenius norm of E, and t of ``-t root root' <= E <= t root root'``. If only
        one of them is known, the other one is 0; 0 both for a root that is exact.
    rounding : float, default 0.0
        Bound of the Frobenius norm of what the root itself is off by, beyond that.
    inverse : float, default inf
        Bound of the 2-norm of the root's inverse, if one is known.
    rank : int, optional
        At most that of the root, in exact arithmetic. Default: not known.
    """

    root: Any
    units: Any
    power: float
    error: float
    share: float
    rounding: float = 0.0
    inverse: float = math.inf
    rank: int | None = None


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

    @functools.cached_property
    def scaled(self) -> tuple[Any, Any, float]:
        """``D^-1 S D^-1``, the diagonal of D over a power of two, and that power."""
        xp = matrices.namespace(self.matrix)
        deviations = xp.sqrt(xp.clip(xp.linalg.diagonal(self.matrix), 0.0, None))
        largest = float(xp.max(deviations))
        power = 2.0 ** round(math.log2(largest)) if largest > 0 else 1.0
        relative = xp.where(deviations > 0, deviations / power, xp.ones_like(deviations))
        # Powers of two, so that dividing by them is exact.
        units = 2.0 ** xp.round(xp.log2(relative))
        c = self.matrix / power / power / units[:, None] / units[None, :]
        return c, units, power

    def norm_in_units(self, units: Any) -> float:
        """Return the Frobenius norm of ``U S U`` for a diagonal U."""
        xp = matrices.namespace(self.matrix)
        inside = self.matrix * units[:, None] * units[None, :]
        return math.sqrt(float(xp.sum(inside * inside)))


class DeviceCentredRows:
    """A few rows on a device as the factor of their own covariance.

    Parameters
    ----------
    rows : LibraryRows
        At least 2, their numbers checked.
    device : Device
        Where the factor goes.

    Attributes
    ----------
    origin, shift : array of shape (d,), float64
        The first row, and the mean less that row, on the host.
    factor : PolarFactor
        With n - 1 columns and one unit for all features.
    trace : float
        Sum of the variances.
    """

    def __init__(self, rows: LibraryRows, device: Device) -> None:
        n = len(rows)
        with device.context():
            xp = device.xp
            values = device.floats(namespaces.moved(rows.values, device))
            root = values - values[0:1, :]
            shift = xp.sum(root, axis=0) / n
            root = root - shift
            rest = xp.sum(root, axis=0) / n  # the mean of what is left, known to its own rounding
            root = (root - rest) / math.sqrt(n - 1)
            # Deviations add up to 0, so one of them can go: a reflection takes (1, ..., 1) to the
            # first axis, and with it that row to 0. What is left has no direction to spare.
            root = root[1:, :] + root[0:1, :] / (math.sqrt(n) - 1)
            largest = float(xp.max(xp.abs(root)))
            unit = 2.0 ** round(math.log2(largest)) if largest > 0 else 1.0
            root = root / unit
            variances = xp.sum(root * root, axis=0)
            held = xp.stack([values[0, :], shift + rest, variances])
            self.origin, self.shift, variances = namespaces.to_host(held)
        # Two roundings of every difference from the first row, three of the deviation; the
        # reflection has two of numbers up to 3.5 times as large.
        size = math.sqrt(math.fsum(variances.tolist()))
        lost = EPS * (12 * size + 5 * float(np.linalg.norm(self.shift / unit)) * math.sqrt(2))
        self.trace = math.fsum((variances * unit**2).tolist())
        ones = xp.ones(root.shape[1], dtype=xp.float64, device=device.handle)
        self.factor = PolarFactor(root.T, ones, unit, 0.0, 0.0, lost, rank=n - 1)

    def norm_in_units(self, units: Any) -> float:
        """Return the Frobenius norm of ``U S U`` for a diagonal U."""
        xp = matrices.namespace(self.factor.root)
        root = self.factor.root.T * (units * self.factor.power)[None, :]
        inner = root @ root.T
        return math.sqrt(float(xp.sum(inner * inner)))


def by_cholesky(covariance: DeviceCovariance) -> PolarFactor | None:
    """Factor a covariance by Cholesky, if it is well conditioned.

    Parameters
    ----------
    covariance : DeviceCovariance
        Anywhere.

    Returns
    -------
    PolarFactor or None
        With a share; on a device with an error too.
    """
    c, units, power = covariance.scaled
    xp = matrices.namespace(c)
    root = matrices.cholesky(xp, c)
    if root is None:
        return None
    known, error = math.inf, 0.0
    if namespaces.is_on_device(c):
        inverse = matrices.lower_inverse(xp, root)
        # |L^-1|_2^4 is at most the Frobenius norm of C^-2.
        inner = inverse.T @ inverse
        twice = inner.T @ inner
        squares, fourth = namespaces.fetched(xp.sum(c * c), xp.sum(twice * twice))
        bound = fourth**0.25 * (1 + 4 * root.shape[0] * EPS)  # of |L^-1|^2
        known, error = math.sqrt(bound), BACKWARD * EPS * math.sqrt(squares)
    else:
        inverse = xp.abs(xp.linalg.inv(root))
        rows, columns = (float(xp.max(xp.sum(inverse, axis=axis))) for axis in (0, 1))
        squares = float(xp.sum(c * c))
        bound = min(rows * columns, float(xp.sum(inverse * inverse)))
    share = BACKWARD * EPS * math.sqrt(squares)
    share *= bound
    if not share < _WELL_CONDITIONED:
        return None
    share = 0.5 * share * (1 + share)
    return PolarFactor(root, units, power, error, share, inverse=known)


def by_projection(covariance: DeviceCovariance) -> PolarFactor | None:
    """Factor a singular covariance by matrix products, if a gap parts its eigenvalues.

    Parameters
    ----------
    covariance : DeviceCovariance
        Anywhere.

    Returns
    -------
    PolarFactor or None
        With an error.
    """
    c, units, power = covariance.scaled
    xp = matrices.namespace(c)
    identity = xp.eye(c.shape[0], dtype=c.dtype, device=c.device)
    inner = c.T @ c
    fourth, squares = namespaces.fetched(xp.sum(inner * inner), xp.sum(c * c))
    size = fourth**0.25  # at least the 2-norm
    if size == 0:
        return None
    sign = polar.polar_factor(c - (_GAP * size) * identity, _GAP / 2)
    onto = 0.5 * identity + 0.25 * (sign + sign.T)
    filled = c + identity - onto
    root = matrices.cholesky(xp, filled)
    if root is None:
        return None
    root = onto @ root
    rest = c - root @ root.T
    error, norm = math.sqrt(float(xp.sum(rest * rest))), math.sqrt(squares)
    if not error <= _PROJECTED * math.sqrt(c.shape[0]) * EPS * norm:
        return None
    return PolarFactor(root, units, power, error + BACKWARD * EPS * norm, 0.0)


def by_eigenvalues(covariance: DeviceCovariance) -> PolarFactor:
    """Factor any covariance.

    Parameters
    ----------
    covariance : DeviceCovariance
        Anywhere.

    Returns
    -------
    PolarFactor
        With an error.

    Raises
    ------
    ValueError
        If it is indefinite beyond rounding.
    """
    c, units, power = covariance.scaled
    xp = matrices.namespace(c)
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
        return PolarFactor(root, scale, power, error, 0.0)
    got = f"the eigenvalue {float(xp.linalg.eigvalsh(covariance.matrix)[0])}"
    condition = "to be positive semi-definite"
    fail(covariance.function, covariance.argument, condition, got)
