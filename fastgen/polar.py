"""Polar factors and sums of singular values by matrix products alone, with a proof of the error.

Written once against the array API: NumPy arrays, torch tensors and CuPy arrays run the same code in
float64, every product on the array's device. Only single numbers come to the host.

``A = Q H`` with ``Q' Q = I`` and H positive semi-definite; the sum of the singular values is
``<Q, A>``, the sum of the products of the entries. Q is the limit of ``X <- X (a I + b X'X +
c (X'X)^2)``, which applies the quintics of `fastgen.quintics` to every singular value.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np

from fastgen._errors import fail
from fastgen.arrays import as_rows
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
        NumPy, torch or CuPy; finite.
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


def nuclear_norm(a: Any, least: float = LEAST, tolerance: float = 1e-9) -> tuple[float, float]:
    """Add up the singular values of a matrix, and bound the error.

    Parameters
    ----------
    a : array of shape (m, n), float64
        NumPy, torch or CuPy; finite.
    least : float, default 1e-8
        As of `polar_factor`. Up to two further rounds lift values 1e-4 times as large each.
    tolerance : float, default 1e-9
        They are done where the bound, less rounding, is above this share of the value.

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
    q = _iterated(xp, tall, least)
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
        NumPy, torch or CuPy; finite.
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


def namespace(*arrays: Any) -> ModuleType:
    """Return the array API of the library that some arrays come from.

    Parameters
    ----------
    *arrays : array
        NumPy, torch or CuPy, all of one library (else a TypeError).

    Returns
    -------
    module
        Of array-api-compat.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgen.polar import namespace
    >>> namespace(np.zeros(2)).__name__
    'array_api_compat.numpy'
    """
    import array_api_compat

    found: ModuleType = array_api_compat.array_namespace(*arrays)
    return found


def as_device_matrix(
    function: str, argument: str, value: Any, d: int | None = None
) -> tuple[ModuleType, Any]:
    """Validate a matrix and keep it where it is.

    Parameters
    ----------
    function, argument : str
        Named in messages.
    value : array
        A torch tensor or a CuPy array on any device, or what `arrays.as_rows` takes, which becomes
        a NumPy array. Float16, float32, float64 or integers, bfloat16 from torch.
    d : int, optional
        Number of rows and columns that it must have. Default: any.

    Returns
    -------
    xp : module
        Namespace of the library.
    matrix : array of shape (n, m) or (d, d), float64
        Of the caller's library, on its device. Not a copy if it already was so: do not write.

    Raises
    ------
    TypeError, ValueError, BackendUnavailableError
        As `arrays.as_rows`; ValueError also if the shape is not (d, d).

    Examples
    --------
    >>> import numpy as np
    >>> from fastgen.polar import as_device_matrix
    >>> as_device_matrix("matrix_sqrt", "a", np.array([[1, 2], [3, 4]]), d=2)[1]
    array([[1., 2.],
           [3., 4.]])
    """
    import array_api_compat

    kept = array_api_compat.is_torch_array(value) or array_api_compat.is_cupy_array(value)
    layout = str(getattr(value, "layout", "torch.strided"))
    odd = getattr(value, "is_meta", False) or getattr(value, "is_nested", False)
    if kept and layout == "torch.strided" and not odd:  # `as_rows` says what is wrong with others
        matrix = _as_float64(function, argument, value)
        if matrix.ndim != 2 or 0 in matrix.shape:
            condition = "of shape (n, d), with at least one row and one column"
            fail(function, argument, condition, f"shape {tuple(matrix.shape)}")
    else:
        matrix = as_rows(function, argument, value, values=False).astype(np.float64, copy=False)
    if d is not None and matrix.shape != (d, d):
        fail(function, argument, f"of shape {(d, d)}", f"shape {tuple(matrix.shape)}")
    xp = namespace(matrix)
    finite = xp.isfinite(matrix)
    if not bool(xp.all(finite)):
        place = xp.argmin(xp.reshape(xp.astype(finite, xp.int8), (-1,)))
        row, column = divmod(int(place), matrix.shape[1])
        got = f"{float(matrix[row, column])} in row {row}, column {column}"
        fail(function, argument, "to be finite", got)
    return xp, matrix


def cholesky(xp: ModuleType, a: Any) -> Any | None:
    """Factorise a symmetric matrix, if it is positive definite in float64.

    Parameters
    ----------
    xp : module
        Namespace of the array, as ``array_api_compat.array_namespace`` gives it.
    a : array of shape (d, d), float64
        Symmetric.

    Returns
    -------
    array of shape (d, d), float64, or None
        L, lower triangular, or None where the factorisation broke down.

    Examples
    --------
    >>> import array_api_compat.numpy as xp
    >>> from fastgen.polar import cholesky
    >>> print(cholesky(xp, xp.asarray([[1.0, 2.0], [2.0, 1.0]])))
    None
    """
    try:
        root = xp.linalg.cholesky(a)
    except (np.linalg.LinAlgError, RuntimeError) as error:  # torch has an error of its own
        if "LinAlgError" not in type(error).__name__:
            raise
        return None
    # CuPy may return NaN instead.
    return root if bool(xp.all(xp.isfinite(root))) else None


def _as_float64(function: str, argument: str, value: Any) -> Any:
    xp = namespace(value)
    if not xp.isdtype(value.dtype, ("real floating", "integral")):
        got = str(value.dtype).removeprefix("torch.")
        condition = "of dtype float16, float32, float64 or integer"
        fail(function, argument, condition, got, error=TypeError)
    value = value.detach() if getattr(value, "requires_grad", False) else value
    try:
        return xp.astype(value, xp.float64, copy=False)
    except (TypeError, RuntimeError) as error:  # no float64 on that device
        reason = str(error).split("\n")[0]
        fail(function, argument, "on a device with float64", reason, error=TypeError)


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


def _norm(xp: ModuleType, a: Any) -> float:
    """Return the Frobenius norm, rounded up; row sums first, so that rounding stays small."""
    squares = float(xp.sum(xp.sum(a * a, axis=1)))
    return math.sqrt(squares) * (1 + float(sum(a.shape)) * _UNIT)


def _plus_diagonal(xp: ModuleType, a: Any, number: float) -> Any:
    return a + number * xp.eye(a.shape[0], dtype=a.dtype, device=a.device)


def _iterated(xp: ModuleType, x: Any, least: float) -> Any:
    """Apply the steps to a matrix with at least as many rows as columns."""
    identity = xp.eye(x.shape[1], dtype=x.dtype, device=x.device)
    y = x.T @ x
    y2 = y.T @ y  # y.T: NumPy takes 3/4 of the time for a matrix and its own transpose
    # |X|_2^4 <= |(X'X)^2|_F, a fifth of |X|_F where nothing stands out. The margin of the steps
    # covers the rounding.
    fourth = math.sqrt(float(xp.sum(y2 * y2)))
    if fourth == 0:
        return x
    bound = fourth**0.25
    x, y, y2 = x / bound, y / bound**2, y2 / bound**4
    for index, (a, b, c) in enumerate(quintic_steps(least)):
        if index:
            y = x.T @ x
            y2 = y.T @ y
        x = x @ (c * y2 + b * y + a * identity)
    return x


def _certified(xp: ModuleType, a: Any, q: Any) -> tuple[float, float, float]:
    """Return the value, the bound of its error, and what rounding has of that.

    The matrices have at least as many rows as columns, the largest entry of `a` is at most 1.
    """
    m, k = a.shape
    product = (m + 4) * _UNIT
    size_a, size_q = _norm(xp, a), _norm(xp, q)
    # 2-norm of Q's absolute values: its products err by that much times the other's norm.
    columns, rows = (float(xp.max(xp.sum(xp.abs(q), axis=axis))) for axis in (0, 1))
    absolute = min(size_q, math.sqrt(columns * rows) * (1 + (m + 2) * _UNIT))

    value = float(xp.sum(xp.sum(q * a, axis=1)))
    b = q.T @ a
    size_b = _norm(xp, b)
    h, skew = 0.5 * (b + b.T), 0.5 * (b - b.T)
    rest = a - q @ b
    total = float(xp.linalg.trace(h))
    if not math.isfinite(value + total + absolute + size_b):
        return 0.0, math.inf, 0.0

    s, floor_s = _largest(xp, q, product * absolute**2)
    negative, floor_t = _negative_part(xp, h)
    rounding_value = (m + k) * _UNIT * size_q * size_a
    rounding_total = math.sqrt(k) * (k + 2) * _UNIT * size_b
    rounding_rest = math.sqrt(k) * (product * absolute * size_b + 2 * _UNIT * size_a)
    symmetric = total + rounding_total + 2 * k * negative
    most = s * (symmetric + math.sqrt(k) * _norm(xp, skew))
    most += math.sqrt(k) * _norm(xp, rest) + rounding_rest
    error = max(value - value / s, most - value, 0.0) + rounding_value
    error *= 1 + 64 * _UNIT  # for the few operations of these lines
    floor = rounding_value + rounding_total + rounding_rest
    return value, error, floor + (floor_s - 1) * abs(value) + 2 * k * floor_t


def _largest(xp: ModuleType, q: Any, rounding: float) -> tuple[float, float]:
    """Bound the 2-norm of Q by at least 1; also what no Q gets below for rounding."""
    gram = q.T @ q
    apart = _norm(xp, _plus_diagonal(xp, gram, -1.0))
    floor = math.sqrt(1 + rounding)
    if apart <= 1e-10:
        return math.sqrt(1 + apart + rounding), floor
    excess, most = 2.0**-42, _norm(xp, gram)  # the 2-norm of Q'Q is at most its Frobenius norm
    while 1 + excess < most:
        left = _plus_diagonal(xp, -gram, 1 + excess)
        if cholesky(xp, left) is not None:
            excess += _cholesky_rounding(xp, left)
            break
        excess *= 16
    return math.sqrt(max(1.0, min(1 + excess, most) + rounding)), floor


def _negative_part(xp: ModuleType, h: Any) -> tuple[float, float]:
    """Return t with ``H >= -t I``, and what no singular H gets below for rounding."""
    rounding = _cholesky_rounding(xp, h)
    floor = 2 * rounding
    if cholesky(xp, _plus_diagonal(xp, h, -rounding)) is not None:
        return 0.0, floor
    shift, most = rounding / 8, _norm(xp, h)
    while shift < most:
        moved = _plus_diagonal(xp, h, shift)
        if cholesky(xp, moved) is not None:
            return min(shift + _cholesky_rounding(xp, moved), most), floor
        shift = max(8 * shift, 1e-300)
    return most, floor


def _cholesky_rounding(xp: ModuleType, a: Any) -> float:
    """Bound the 2-norm of what a Cholesky factorisation that succeeds errs by.

    The entries are at most ``(i + 3)^(1/2) (j + 3)^(1/2) (m_ii m_jj)^(1/2)``, of rank one.
    """
    diagonal = xp.abs(xp.linalg.diagonal(a))
    weights = xp.arange(3, a.shape[0] + 3, dtype=a.dtype, device=a.device)
    return 1.01 * _UNIT * float(xp.sum(weights * diagonal))
