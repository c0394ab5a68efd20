"""Matrices in an array of any library: validated where they are, multiplied, factored."""

from __future__ import annotations

import contextlib
import importlib
from types import ModuleType
from typing import Any

import numpy as np

from fastgen import namespaces
from fastgen._errors import fail
from fastgen.arrays import as_rows


def namespace(*arrays: Any) -> ModuleType:
    """Return the array API of the library that some arrays come from.

    Parameters
    ----------
    *arrays : array
        NumPy, torch, CuPy or JAX, all of one library (else a TypeError).

    Returns
    -------
    module
        Of array-api-compat.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgen.matrices import namespace
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
        A torch tensor or a CuPy array on any device, another library's array on a GPU, or what
        `arrays.as_rows` takes, which becomes a NumPy array. Float16, float32, float64 or integers,
        bfloat16 from torch.
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
    >>> from fastgen.matrices import as_device_matrix
    >>> as_device_matrix("matrix_sqrt", "a", np.array([[1, 2], [3, 4]]), d=2)[1]
    array([[1., 2.],
           [3., 4.]])
    """
    if namespaces.is_on_device(value):
        value = namespaces.as_device_array(function, argument, value)
        with namespaces.device_of(value).context():
            return _validated(function, argument, value, d)
    return _validated(function, argument, value, d)


def _validated(function: str, argument: str, value: Any, d: int | None) -> tuple[ModuleType, Any]:
    kept = namespaces.is_on_device(value) or namespaces.library_of(value) in ("torch", "cupy")
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
    >>> from fastgen.matrices import cholesky
    >>> print(cholesky(xp, xp.asarray([[1.0, 2.0], [2.0, 1.0]])))
    None
    """
    failed = None
    try:
        if hasattr(xp.linalg, "cholesky_ex"):  # of torch, without a look at the device
            root, failed = xp.linalg.cholesky_ex(a)
        else:
            with _telling(namespaces.library_of(a)):
                root = xp.linalg.cholesky(a)
    except np.linalg.LinAlgError:
        return None
    # What is not finite, and what JAX returns for a failure, shows on the diagonal.
    good = xp.all(xp.isfinite(xp.linalg.diagonal(root)))
    if failed is not None:
        good = good & (failed == 0)
    return root if bool(good) else None


def lower_inverse(xp: ModuleType, root: Any) -> Any:
    """Invert a lower triangular matrix on a device.

    Parameters
    ----------
    xp : module
        Namespace of the array.
    root : array of shape (d, d), float64
        Without zeros on the diagonal.

    Returns
    -------
    array of shape (d, d), float64
        By one triangular solve, where the library has it: an inverse by elimination with pivots
        takes ten times as long on a GPU.
    """
    identity = xp.eye(root.shape[0], dtype=root.dtype, device=root.device)
    library = namespaces.library_of(root)
    if library == "torch":
        return xp.linalg.solve_triangular(root, identity, upper=False)
    homes = {"cupy": "cupyx.scipy.linalg", "jax": "jax.scipy.linalg"}
    if library in homes:
        solve = importlib.import_module(homes[library]).solve_triangular
        return solve(root, identity, lower=True)
    return xp.linalg.inv(root)


def add_product(xp: ModuleType, a: Any, b: Any, alpha: float, c: Any, beta: float) -> Any:
    """Return ``alpha a b + beta c``, in one pass where the library has it.

    Parameters
    ----------
    xp : module
        Namespace of the arrays.
    a, b, c : array
        Matrices of float64.
    alpha, beta : float
        Their weights.

    Returns
    -------
    array
        A new matrix.

    Examples
    --------
    >>> import array_api_compat.numpy as xp
    >>> from fastgen.matrices import add_product
    >>> add_product(xp, xp.eye(2), xp.ones((2, 2)), 2.0, xp.eye(2), 3.0)
    array([[5., 2.],
           [2., 5.]])
    """
    if hasattr(xp, "addmm"):  # of torch
        return xp.addmm(c, a, b, beta=beta, alpha=alpha)
    return alpha * (a @ b) + beta * c


def _telling(library: str | None) -> contextlib.AbstractContextManager[Any]:
    """Let CuPy raise where LAPACK fails, which it does not look at otherwise."""
    if library == "cupy":
        told: contextlib.AbstractContextManager[Any]
        told = importlib.import_module("cupyx").errstate(linalg="raise")
        return told
    return contextlib.nullcontext()


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
