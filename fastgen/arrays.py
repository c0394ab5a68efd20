"""The one validator: whatever the caller passed becomes rows, or numbers, the engines can read.

Only this module copies or casts. Rows that can be read in place are: any float16/32/64 array in
native byte order whose features lie side by side, memory-mapped and read-only ones included.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastgen import files
from fastgen._errors import BackendUnavailableError, fail
from fastgen.backend import core
from fastgen.plan import as_int

Rows2D = npt.NDArray[np.floating[Any]]
Floats = npt.NDArray[np.float64]

#: Magnitudes above this could overflow when squared and added.
LARGEST = 2.0**500

_MAX_ROWS = 2**31
_BLOCK_BYTES = 64 << 20  # about 20 ms of reading: Ctrl-C is served between blocks
_HOST_DEVICES = (1, 3, 11)  # DLPack: CPU, and host memory pinned for CUDA or ROCm
_DEVICE_NAMES = {2: "cuda", 10: "rocm", 13: "cuda (managed)", 8: "metal", 14: "oneAPI"}
_TIES = ("closed", "open")


def as_rows(function: str, argument: str, value: object, *, values: bool = True) -> Rows2D:
    """Validate one set of feature vectors.

    Parameters
    ----------
    function, argument : str
        Named in messages.
    value : array of shape (n, d)
        float16, float32, float64 or integers (which become float64): a NumPy array with any
        strides, an object with ``__dlpack__`` on the CPU (bfloat16 becomes float32),
        ``__array_interface__`` or the buffer protocol, or the path of a .npy or .npz file.
    values : bool, default True
        Whether to look at the numbers too; otherwise `check_values` has to follow.

    Returns
    -------
    ndarray of shape (n, d)
        float16, float32 or float64 in native byte order, aligned, unit column stride, any row
        stride. Not copied if it already was so.

    Raises
    ------
    TypeError
        If `value` is no such object, or its dtype is not one of these.
    ValueError
        If the shape does not fit, or a number is not finite or beyond 2^500 in magnitude.
    BackendUnavailableError
        If the array is in the memory of a GPU.
    """
    array = _as_array(function, argument, value)
    _check_dtype(function, argument, array.dtype)
    if array.ndim != 2:
        hint = f"a single feature is {argument}.reshape(-1, 1)" if array.ndim == 1 else ""
        fail(function, argument, "of shape (n, d)", f"shape {array.shape}", hint)
    if 0 in array.shape:
        fail(function, argument, "with at least one row and one column", f"shape {array.shape}")
    if len(array) >= _MAX_ROWS:
        fail(function, argument, "with fewer than 2^31 rows", f"shape {array.shape}")
    native = array.dtype.newbyteorder("=") if array.dtype.kind == "f" else np.dtype(np.float64)
    rows = _in_place_or_copied(array, native)
    if values and array.dtype.kind == "f":
        check_values(function, argument, rows)
    return rows


def as_pair(function: str, first: str, x: object, second: str, y: object) -> tuple[Rows2D, Rows2D]:
    """Validate two sets that must have the same features; their numbers are not looked at yet.

    Parameters
    ----------
    function : str
        Named in messages.
    first, second : str
        Names of the two arguments.
    x, y : array of shape (n, d) and (m, d)
        See `as_rows`.

    Returns
    -------
    pair of ndarray
        See `as_rows`.

    Raises
    ------
    TypeError, ValueError, BackendUnavailableError
        As `as_rows`; ValueError also if the number of features differs.
    """
    rows = as_rows(function, first, x, values=False)
    others = as_rows(function, second, y, values=False)
    d = rows.shape[1]
    if others.shape[1] != d:
        fail(function, second, f"with d = {d} columns like `{first}`", f"shape {others.shape}")
    return rows, others


def as_one_dtype(rows: Rows2D, others: Rows2D) -> tuple[Rows2D, Rows2D]:
    """Give two sets one dtype, for engines that read them together.

    Parameters
    ----------
    rows, others : ndarray of shape (n, d) and (m, d)
        As `as_rows` returns them.

    Returns
    -------
    pair of ndarray
        In the wider of the two dtypes, which holds every number exactly; only the other is copied.
    """
    dtype = np.promote_types(rows.dtype, others.dtype)
    return _in_place_or_copied(rows, dtype), _in_place_or_copied(others, dtype)


def as_numbers(function: str, argument: str, value: Any) -> Floats:
    """Validate numbers that are no set of rows: weights, bandwidths, a matrix.

    Parameters
    ----------
    function, argument : str
        Named in messages.
    value : number, (nested) sequence of numbers or array
        Of any shape; float16, float32, float64 or integers.

    Returns
    -------
    ndarray, float64
        A copy of the same shape.

    Raises
    ------
    TypeError
        If `value` does not hold numbers of these types.
    ValueError
        If one of them is not finite.
    BackendUnavailableError
        If an array is in the memory of a GPU.
    """
    if hasattr(value, "__dlpack__"):
        array = _as_array(function, argument, value)
        _check_dtype(function, argument, array.dtype)
    else:
        try:
            array = np.asarray(value)
        except ValueError:  # nested sequences of different lengths
            array = np.empty(0, dtype=object)
        if array.dtype.kind not in "iuf":
            condition = "to be a number or an array of numbers"
            fail(function, argument, condition, _brief(value), error=TypeError)
    numbers = np.array(array, dtype=np.float64, order="C")
    finite = np.isfinite(numbers)
    if not finite.all():
        fail(function, argument, "to be finite", str(numbers[~finite][0]))
    return numbers


def check_values(function: str, argument: str, rows: Rows2D, threads: int = 1) -> None:
    """Check that all numbers are finite and at most 2^500 in magnitude.

    Parameters
    ----------
    function, argument : str
        Named in messages.
    rows : ndarray of shape (n, d)
        As `as_rows` returns them.
    threads : int, default 1
        Threads that look at them.

    Raises
    ------
    ValueError
        Naming the first bad row and column.
    """
    n, d = rows.shape
    step = max(1, _BLOCK_BYTES // (d * rows.itemsize))
    for start in range(0, n, step):
        infinite, large = core.first_bad_row(rows, start, min(start + step, n), LARGEST, threads)
        if infinite >= 0 and not 0 <= large < infinite:
            column = int(np.argmin(np.isfinite(rows[infinite])))
            got = f"{rows[infinite, column]} in row {infinite}, column {column}"
            fail(function, argument, "to be finite", got)
        if large >= 0:
            column = int(np.argmax(np.abs(rows[large]) > LARGEST))
            got = f"{rows[large, column]} in row {large}, column {column}"
            hint = "multiply all sets by one power of two"
            fail(function, argument, "within 2^500 in magnitude", got, hint)


def as_neighbour_counts(
    function: str, k: object, upper: int, formula: str = "n-1"
) -> tuple[list[int], bool]:
    """Validate `k`: one number of neighbours or several.

    Parameters
    ----------
    function : str
        Named in messages.
    k : int or sequence of int
        Each in [1, upper]; repetition is allowed.
    upper : int
        Largest possible value.
    formula : str, default "n-1"
        How it comes about, for messages.

    Returns
    -------
    counts : list of int
        In the order given.
    many : bool
        Whether a sequence was given, so that a list has to be returned.

    Raises
    ------
    TypeError
        If `k` is neither an int nor a sequence of ints.
    ValueError
        If it is empty or out of bounds.
    """
    condition = "to be an int or a sequence of ints"
    many = isinstance(k, Sequence) and not isinstance(k, (str, bytes))
    if isinstance(k, np.ndarray) and k.ndim == 1:
        many = True
    listed: list[object] = list(k) if many else [k]  # type: ignore[call-overload]
    counts = [as_int(function, "k", entry, condition) for entry in listed]
    if not counts:
        fail(function, "k", condition, "an empty sequence")
    for count in counts:
        if not 1 <= count <= upper:
            fail(function, "k", f"in [1, {formula}] = [1, {upper}]", str(count))
    return counts, many


def is_on_gpu(value: Any) -> bool:
    """Tell whether an array is in the memory of a GPU.

    Parameters
    ----------
    value : object
        Any.

    Returns
    -------
    bool
        False for everything that is no such array.
    """
    if hasattr(value, "__dlpack_device__"):
        try:
            return int(value.__dlpack_device__()[0]) not in _HOST_DEVICES
        except (BufferError, RuntimeError, ValueError):  # a device without memory: told later
            return False
    return hasattr(value, "__cuda_array_interface__")


def check_ties(function: str, ties: object) -> None:
    """Check the rule for rows at exactly the radius.

    Parameters
    ----------
    function : str
        Named in the message.
    ties : {"closed", "open"}
        Inside or outside.

    Raises
    ------
    ValueError
        If it is neither word.
    """
    if not isinstance(ties, str) or ties not in _TIES:
        fail(function, "ties", 'to be "closed" or "open"', repr(ties))


def check_has_neighbours(function: str, argument: str, rows: Rows2D) -> None:
    """Check that a set is large enough for radii.

    Parameters
    ----------
    function, argument : str
        Named in the message.
    rows : ndarray of shape (n, d)
        The set.

    Raises
    ------
    ValueError
        If it has one row only.
    """
    if len(rows) < 2:
        hint = "a single row has no neighbours to take a radius from"
        fail(function, argument, "with at least 2 rows", str(len(rows)), hint)


def _as_array(function: str, argument: str, value: Any) -> npt.NDArray[Any]:
    """View `value` as an ndarray of any shape and dtype, without a copy where that is possible."""
    if isinstance(value, np.ndarray):
        if isinstance(value, np.ma.MaskedArray):
            hint = "fill or drop the masked entries first"
            fail(function, argument, "without a mask", "a masked array", hint, error=TypeError)
        return value.view(np.ndarray)
    if isinstance(value, (str, os.PathLike)):
        return files.load(function, argument, value)
    if _is_sparse(value):
        hint = "convert it with .toarray() or .to_dense()"
        got = f"the sparse {_type_name(value)}"
        fail(function, argument, "to be a dense array", got, hint, error=TypeError)
    if hasattr(value, "__dlpack__") and hasattr(value, "__dlpack_device__"):
        return _from_dlpack(function, argument, value)
    if hasattr(value, "__cuda_array_interface__"):
        _fail_on_gpu(function, argument, "a CUDA device")
    if hasattr(value, "__array_interface__") or hasattr(value, "__array_struct__"):
        return np.asarray(value)
    try:
        return np.asarray(memoryview(value))
    except TypeError:
        pass
    hint = f"pass np.asarray({argument})"
    condition = "to be an array of shape (n, d) or the path of one"
    fail(function, argument, condition, _type_name(value), hint, error=TypeError)


def _from_dlpack(function: str, argument: str, value: Any) -> npt.NDArray[Any]:
    bfloat16 = str(getattr(value, "dtype", "")).endswith("bfloat16")
    if bfloat16 and len(value.shape) != 2 and not hasattr(value, "reshape"):
        fail(function, argument, "of shape (n, d)", f"shape {tuple(value.shape)}")
    try:
        kind, index = value.__dlpack_device__()
        if int(kind) not in _HOST_DEVICES:
            name = _DEVICE_NAMES.get(int(kind), f"DLPack type {int(kind)}")
            _fail_on_gpu(function, argument, f"device {name}:{index}")
        if getattr(value, "requires_grad", False):
            value = value.detach()  # results are plain numbers; no gradient flows through them
        if bfloat16:
            shape = tuple(value.shape)
            if len(shape) == 2:
                return core.bfloat16_to_float32(value.__dlpack__())
            line = value.reshape(1, math.prod(shape))  # the conversion reads matrices
            return core.bfloat16_to_float32(line.__dlpack__()).reshape(shape)
        return np.from_dlpack(value)
    except BackendUnavailableError:
        raise
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).split("\n")[0]
        got = f"{_type_name(value)} of dtype {getattr(value, 'dtype', 'unknown')} ({reason})"
        condition = "of dtype float16, float32 or float64 in CPU memory"
        fail(function, argument, condition, got, error=TypeError)


def _fail_on_gpu(function: str, argument: str, where: str) -> None:
    hint = "this build has no GPU backend: copy the array to the CPU first"
    error = BackendUnavailableError
    fail(function, argument, "in CPU memory", f"an array on {where}", hint, error=error)


def _is_sparse(value: Any) -> bool:
    if hasattr(value, "toarray") and hasattr(value, "nnz"):  # scipy.sparse and its like
        return True
    return str(getattr(value, "layout", "")).startswith("torch.sparse")


def _type_name(value: object) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def _brief(value: object) -> str:
    text = repr(value)
    return f"{_type_name(value)} {text if len(text) <= 60 else text[:57] + '...'}"


def _check_dtype(function: str, argument: str, dtype: np.dtype[Any]) -> None:
    if dtype.kind in "iu" or (dtype.kind == "f" and dtype.itemsize <= 8):
        return
    hint = {
        "b": f"convert it with {argument}.astype(np.float32)",
        "c": "pass real and imaginary parts as separate columns",
        "f": f"convert it with {argument}.astype(np.float64)",
        "O": f"convert it with {argument}.astype(np.float64)",
    }.get(dtype.kind, "")
    if not hint and dtype.name == "bfloat16":  # an extension type that NumPy cannot compute with
        hint = f"convert it with {argument}.astype(np.float32)"
    condition = "of dtype float16, float32, float64 or integer"
    fail(function, argument, condition, str(dtype), hint, error=TypeError)


def _in_place_or_copied(array: npt.NDArray[Any], dtype: np.dtype[Any]) -> Rows2D:
    row_stride, column_stride = array.strides
    readable = array.dtype.isnative and array.dtype == dtype and array.flags.aligned
    regular = row_stride % dtype.itemsize == 0
    if readable and regular and column_stride == dtype.itemsize:
        return array
    rows = np.empty(array.shape, dtype=dtype)
    step = max(1, _BLOCK_BYTES // (array.shape[1] * dtype.itemsize))
    for start in range(0, len(array), step):
        rows[start : start + step] = array[start : start + step]
    return rows
