"""The one validator: whatever the caller passed becomes rows, or numbers, the engines can read.

Only this module copies or casts. Rows that can be read in place are: any float16/32/64 array in
native byte order whose features lie side by side, memory-mapped and read-only ones included.
`device_rows` does the same for arrays in the memory of a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastgen import protocols
from fastgen._errors import fail
from fastgen.backend import core
from fastgen.device_rows import Caller, DeviceRows
from fastgen.plan import as_int

Rows2D = npt.NDArray[np.floating[Any]]
Floats = npt.NDArray[np.float64]

#: Magnitudes above this could overflow when squared and added.
LARGEST = 2.0**500

_BLOCK_BYTES = 64 << 20  # about 20 ms of reading: Ctrl-C is served between blocks
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
    array = protocols.as_array(function, argument, value)
    protocols.check_dtype(function, argument, array.dtype)
    protocols.check_shape(function, argument, array.shape)
    native = array.dtype.newbyteorder("=") if array.dtype.kind == "f" else np.dtype(np.float64)
    rows = _in_place_or_copied(array, native)
    if values and array.dtype.kind == "f":
        check_values(function, argument, rows)
    return rows


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
    value = on_host(function, argument, value)
    if hasattr(value, "__dlpack__"):
        array = protocols.as_array(function, argument, value)
        protocols.check_dtype(function, argument, array.dtype)
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
        fail_if_bad(function, argument, rows, infinite, large)


def fail_if_bad(
    function: str, argument: str, rows: Rows2D | DeviceRows, infinite: int, large: int
) -> None:
    """Raise ValueError if a row was found that cannot be used.

    Parameters
    ----------
    function, argument : str
        Named in the message.
    rows : ndarray or DeviceRows of shape (n, d)
        The set.
    infinite : int
        The first row with a number that is not finite; -1 for none.
    large : int
        The first row with a number beyond `LARGEST`; -1 for none.
    """
    if infinite >= 0 and not 0 <= large < infinite:
        row = rows[infinite]
        column = int(np.argmin(np.isfinite(row)))
        got = f"{row[column]} in row {infinite}, column {column}"
        fail(function, argument, "to be finite", got)
    if large >= 0:
        row = rows[large]
        column = int(np.argmax(np.abs(row) > LARGEST))
        got = f"{row[column]} in row {large}, column {column}"
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


def on_host(function: str, argument: str, value: Any) -> Any:
    """Copy numbers that are on a GPU to the host.

    Parameters
    ----------
    function, argument : str
        Named in messages.
    value : object
        Any.

    Returns
    -------
    object
        An ndarray where `value` was an array on a GPU; else `value`.

    Raises
    ------
    TypeError, ValueError, BackendUnavailableError
        If it has another dtype or more than two axes, or this installation cannot read it.
    """
    if protocols.is_on_cuda(value):
        return Caller(function).numbers(argument, value)
    return value


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
    return protocols.place_of(value) is not None


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


def check_has_neighbours(function: str, argument: str, n: int) -> None:
    """Check that a set is large enough for radii.

    Parameters
    ----------
    function, argument : str
        Named in the message.
    n : int
        Rows of the set.

    Raises
    ------
    ValueError
        If it has one row only.
    """
    if n < 2:
        hint = "a single row has no neighbours to take a radius from"
        fail(function, argument, "with at least 2 rows", str(n), hint)


def _brief(value: object) -> str:
    text = repr(value)
    return f"{protocols.type_name(value)} {text if len(text) <= 60 else text[:57] + '...'}"


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
