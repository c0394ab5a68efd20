"""Polar factors and sums of singular values by matrix products alone, with a proof of the error.

Written once against the array API: NumPy, torch, CuPy and JAX arrays run the same code in float64,
every product on the array's device. Only single numbers come to the host, and seldom: once for the
scale, once for a bound that the steps need, once for the certificate and once for each Cholesky
factorisation.

``A = Q H`` with ``Q' Q = I`` and H positive semi-definite; the sum of the singular values is
``<Q, A>``, the sum of the products of the entries. Q is the limit of ``X <- X (a I + b X'X +
c (X'X)^2)``, which applies the quintics of `fastgen.quintics` to every singular value.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

from fastgen import namespaces
from fastgen.matrices import add_product, cholesky, namespace
from fastgen.quintics import quintic_steps

#: Singular values below this share of the largest are not lifted to 1 by the first steps.
LEAST = 1e-8

_UNIT = 2.0**-53  # relative error of one rounding

_AGAIN = 1e-4  # what a second and a third round lift: they begin where the one before ended
_MOST_ROUNDS = 3


def polar_factor(a: Any, least: float = LEAST) -> Any:
    """Return Q of the polar decomposition ``A = Q H``, or of ``A = H Q`` for a wide matrix.

    Parameters
    ----------
    a : array of shape (m, n), float64
        NumPy, torch, CuPy or JAX; finite.
    least : float, default 1e-8
        Directions whose singular value is at least this share of the largest get 1 to rounding,
        others a number from 0 to 1.

    Returns
    -------
    array of shape (m, n), float64
        Of the same library, on the same device. Zero for a zero matrix.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgen.polar import polar_factor
    >>> polar_factor(np.array([[3.0, 0.0], [0.0, -0.5]])).round(12)
    array([[ 1.,  0.],
           [ 0., -1.]])
    """
    xp, tall, _ = _scaled(a)
    q = _iterated(xp, tall, least)
    return q.T if a.shape[0] < a.shape[1] else q


def nuclear_norm(
    a: Any, least: float = LEAST, tolerance: float = 1e-9, smallest: float = 0.0
) -> tuple[float, float]:
    """Add up the singular values of a matrix, and bound the error.

    Parameters
    ----------
    a : array of shape (m, n), float64
        NumPy, torch, CuPy or JAX; finite.
    least : float, default 1e-8
        As of `polar_factor`. Up to two further rounds lift values 1e-4 times as large each.
    tolerance : float, default 1e-9
        They are done where the bound, less rounding, is above this share of the value.
    smallest : float, default 0.0
        Lower bound of the singular values, where one is known: it may save steps.

    Returns
    -------
    value : float
        ``<Q, A>``.
    error : float
        What the sum of the singular values may differ from it, as `certificate` proves it.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgen.polar import nuclear_norm
    >>> value, error = nuclear_norm(np.array([[3.0, 0.0], [0.0, -0.5]]))
    >>> round(value, 12), error < 1e-14
    (3.5, True)
    """
    xp, tall, exponent = _scaled(a)
    q = _iterated(xp, tall, least, _unscaled(smallest, -exponent))
    value, error, floor = _certified(xp, tall, q)
    for _ in range(_MOST_ROUNDS - 1):
        if error - floor <= tolerance * value:
            break
        q = _iterated(xp, q, _AGAIN)
        again = _certified(xp, tall, q)
        if again[1] < error:
            value, error, floor = again
    return _unscaled(value, exponent), _unscaled(error, exponent)


def certificate(a: Any, q: Any) -> tuple[float, float]:
    """Bound how far ``<Q, A>`` is from the sum of the singular values of A, whatever Q is.

    Parameters
    ----------
    a : array of shape (m, n), float64
        NumPy, torch, CuPy or JAX; finite.
    q : array of shape (m, n), float64
        Of the same library and device; should be the polar factor of A.

    Returns
    -------
    value : float
        ``<Q, A>``; 0 if that is not finite.
    error : float
        Proven bound of the difference, at least 0; infinite where Q is not finite.

    Notes
    -----
    With ``s >= max(1, |Q|_2)``, ``B = Q'A`` as computed, H and K its symmetric and skew parts,
    ``R = A - Q B``, ``H >= -t I`` and ``k = min(m, n)`` (Q and A transposed if they are wide): the
    sum is at least ``<Q, A> / s``, because no matrix of 2-norm 1 has a greater product with A. It
    is at most ``s (tr H + 2 k t + k^(1/2) |K|) + k^(1/2) |R|`` in Frobenius norms: that of A is at
    most those of ``Q B`` and R together, and that of H adds up absolute eigenvalues. A Cholesky
    factorisation of ``H + t I`` proves t; without it, a Q with the wrong sign in some direction
    would look right. s comes from ``|Q'Q - I|``, or from factorising ``s^2 I - Q'Q``.

    Rounding is part of the bound, assuming no more than this: a product of inner dimension d is
    within ``(d + 4) 2^-53 |X| |Y|`` of the exact one (absolute values, any order of addition), and
    a Cholesky factorisation of M that succeeds is that of a matrix whose entries differ by at most
    ``(min(i, j) + 3) 2^-53 (m_ii m_jj)^(1/2)`` from M, i and j from 0 [1]_. At d = 2048 rounding is
    2e-10 of the sum for well-conditioned matrices, 7e-10 for singular ones.

    References
    ----------
    .. [1] Rump, "Verification of positive definiteness", BIT 46, 2006.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgen.polar import certificate
    >>> value, error = certificate(np.diag([3.0, 0.5]), np.diag([1.0, -1.0]))
    >>> value, value + error >= 3.5
    (2.5, True)
    """
    xp, tall, exponent = _scaled(a)
    value, error, _ = _certified(xp, tall, q.T if a.shape[0] < a.shape[1] else q)
    return _unscaled(value, exponent), _unscaled(error, exponent)


def _scaled(a: Any) -> tuple[ModuleType, Any, int]:
    """Scale by a power of two to a largest entry in [1/2, 1), and transpose a wide matrix."""
    xp = namespace(a)
    exponent: int = math.frexp(float(xp.max(xp.abs(a))))[1]
    half = exponent // 2  # in two steps: 2^1074 is no float
    scaled = a * 2.0**-half * 2.0 ** (half - exponent)
    return xp, scaled.T if a.shape[0] < a.shape[1] else scaled, exponent


def _unscaled(number: float, exponent: int) -> float:
    half = exponent // 2
    return float(number * 2.0**half * 2.0 ** (exponent - half))  # infinite where it overflows


def _squares(xp: ModuleType, a: Any) -> Any:
    """Return the sum of squares; row sums first, so that rounding stays small."""
    return xp.sum(xp.sum(a * a, axis=1))


def _norm(squares: float, shape: tuple[int, ...]) -> float:
    """Return a Frobenius norm, rounded up, from the sum of squares."""
    return math.sqrt(squares) * (1 + float(sum(shape)) * _UNIT)


def _plus_diagonal(xp: ModuleType, a: Any, number: float) -> Any:
    return a + number * xp.eye(a.shape[0], dtype=a.dtype, device=a.device)


def _iterated(xp: ModuleType, x: Any, least: float, smallest: float = 0.0) -> Any:
    """Apply the steps to a matrix with at least as many rows as columns."""
    y = x.T @ x
    y2 = y.T @ y  # y.T: NumPy takes 3/4 of the time for a matrix and its own transpose
    # |X|_2^4 <= |(X'X)^2|_F, a fifth of |X|_F where nothing stands out. The margin of the steps
    # covers the rounding.
    fourth = math.sqrt(float(xp.sum(y2 * y2)))
    if fourth == 0:
        return x
    bound = fourth**0.25
    x, y, y2 = x / bound, y / bound**2, y2 / bound**4
    steps = quintic_steps(max(least, _below(smallest / bound)))
    if namespaces.is_on_device(x):
        for index, (a, b, c) in enumerate(steps):
            if index:
                y = x.T @ x
                y2 = add_product(xp, y, y, c, y, b)
            else:
                y2 = c * y2 + b * y
            x = add_product(xp, x, y2, 1.0, x, a)
        return x
    identity = xp.eye(x.shape[1], dtype=x.dtype, device=x.device)
    for index, (a, b, c) in enumerate(steps):
        if index:
            y = x.T @ x
            y2 = y.T @ y
        x = x @ (c * y2 + b * y + a * identity)
    return x


def _below(share: float) -> float:
    """Return a power of 2 below a share, at most 1/2: few are asked for, and their steps kept."""
    return 2.0 ** min(-1, math.frexp(share)[1] - 1) if share > 0 else 0.0


def _certified(xp: ModuleType, a: Any, q: Any) -> tuple[float, float, float]:
    """Return the value, the bound of its error, and what rounding has of that.

    The matrices have at least as many rows as columns, the largest entry of `a` is at most 1.
    """
    m, k = a.shape
    product = (m + 4) * _UNIT
    b, gram = q.T @ a, q.T @ q
    h, skew = 0.5 * (b + b.T), 0.5 * (b - b.T)
    absolute = xp.abs(q)
    total, value, columns, rows, weighted, *squares = namespaces.fetched(
        xp.linalg.trace(h),
        xp.sum(xp.sum(q * a, axis=1)),
        xp.max(xp.sum(absolute, axis=0)),
        xp.max(xp.sum(absolute, axis=1)),
        _weighted_diagonal(xp, h),
        *(_squares(xp, one) for one in (a, q, b, skew)),
        _squares(xp, a - q @ b),
        _squares(xp, _plus_diagonal(xp, gram, -1.0)),
    )
    shapes = (a, q, b, skew, a, gram)
    size_a, size_q, size_b, size_skew, size_rest, apart = (
        _norm(number, one.shape) for number, one in zip(squares, shapes, strict=True)
    )
    # 2-norm of Q's absolute values: its products err by that much times the other's norm.
    absolute_q = min(size_q, math.sqrt(columns * rows) * (1 + (m + 2) * _UNIT))
    if not math.isfinite(value + total + absolute_q + size_b):
        return 0.0, math.inf, 0.0

    s, floor_s = _largest(xp, gram, apart, product * absolute_q**2)
    negative, floor_t = _negative_part(xp, h, 1.01 * _UNIT * weighted)
    rounding_value = (m + k) * _UNIT * size_q * size_a
    rounding_total = math.sqrt(k) * (k + 2) * _UNIT * size_b
    rounding_rest = math.sqrt(k) * (product * absolute_q * size_b + 2 * _UNIT * size_a)
    symmetric = total + rounding_total + 2 * k * negative
    most = s * (symmetric + math.sqrt(k) * size_skew)
    most += math.sqrt(k) * size_rest + rounding_rest
    error = max(value - value / s, most - value, 0.0) + rounding_value
    error *= 1 + 64 * _UNIT  # for the few operations of these lines
    floor = rounding_value + rounding_total + rounding_rest
    return value, error, floor + (floor_s - 1) * abs(value) + 2 * k * floor_t


def _largest(xp: ModuleType, gram: Any, apart: float, rounding: float) -> tuple[float, float]:
    """Bound the 2-norm of Q by at least 1; also what no Q gets below for rounding.

    From Q'Q and how far that is from the identity.
    """
    floor = math.sqrt(1 + rounding)
    if apart <= 1e-10:
        return math.sqrt(1 + apart + rounding), floor
    # The 2-norm of Q'Q is at most its Frobenius norm.
    excess, most = 2.0**-42, _norm(float(_squares(xp, gram)), gram.shape)
    while 1 + excess < most:
        left = _plus_diagonal(xp, -gram, 1 + excess)
        if cholesky(xp, left) is not None:
            excess += _cholesky_rounding(xp, left)
            break
        excess *= 16
    return math.sqrt(max(1.0, min(1 + excess, most) + rounding)), floor


def _negative_part(xp: ModuleType, h: Any, rounding: float) -> tuple[float, float]:
    """Return t with ``H >= -t I``, and what no singular H gets below for rounding."""
    floor = 2 * rounding
    if cholesky(xp, _plus_diagonal(xp, h, -rounding)) is not None:
        return 0.0, floor
    shift, most = rounding / 8, _norm(float(_squares(xp, h)), h.shape)
    while shift < most:
        moved = _plus_diagonal(xp, h, shift)
        if cholesky(xp, moved) is not None:
            return min(shift + _cholesky_rounding(xp, moved), most), floor
        shift = max(8 * shift, 1e-300)
    return most, floor


def _weighted_diagonal(xp: ModuleType, a: Any) -> Any:
    """Return the sum of ``(i + 3) |a_ii|``, i from 0."""
    weights = xp.arange(3, a.shape[0] + 3, dtype=a.dtype, device=a.device)
    return xp.sum(weights * xp.abs(xp.linalg.diagonal(a)))


def _cholesky_rounding(xp: ModuleType, a: Any) -> float:
    """Bound the 2-norm of what a Cholesky factorisation that succeeds errs by.

    The entries are at most ``(i + 3)^(1/2) (j + 3)^(1/2) (m_ii m_jj)^(1/2)``, of rank one.
    """
    return 1.01 * _UNIT * float(_weighted_diagonal(xp, a))
