"""Rows on a device, as their library holds them: validated, looked through, taken to the host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastgen import arrays, namespaces, protocols
from fastgen._errors import fail
from fastgen.library_devices import Device

Rows2D = arrays.Rows2D

_BLOCK_BYTES = 64 << 20  # looked at, or copied, at a time
_DTYPES = ("float16", "bfloat16", "float32", "float64")
_INTEGERS = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))


@dataclass(frozen=True, eq=False)
class LibraryRows:
    """A set of rows on a device, validated but for its numbers.

    Attributes
    ----------
    values : array of shape (n, d)
        Of torch, CuPy or JAX, as the caller gave it.
    device : Device
        Where it is.
    """

    values: Any
    device: Device

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of rows and of features."""
        n, d = self.values.shape
        return int(n), int(d)

    @property
    def size(self) -> int:
        """Number of numbers."""
        n, d = self.shape
        return n * d

    @property
    def dtype(self) -> str:
        """Name of the type of the numbers."""
        return str(self.values.dtype).removeprefix("torch.")

    @property
    def itemsize(self) -> int:
        """Bytes of a number."""
        return int(self.values.dtype.itemsize)

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.shape[0]

    def picked(self, rows: slice | npt.NDArray[np.int64]) -> LibraryRows:
        """Return some of the rows: a view for a slice, else a copy on the device.

        Parameters
        ----------
        rows : slice or array of shape (k,), int64
            Their numbers.

        Returns
        -------
        LibraryRows
            In that order.
        """
        with self.device.context():
            if isinstance(rows, slice):
                return LibraryRows(self.values[rows, :], self.device)
            places = self.device.upload(rows)
            return LibraryRows(self.device.xp.take(self.values, places, axis=0), self.device)

    def on_host(self) -> Rows2D:
        """Return them in the host's memory, as `arrays.as_rows` does."""
        with self.device.context():
            there = namespaces.to_host(self.values)
        return arrays.as_rows("on_host", "values", there, values=False)


def as_library_rows(function: str, argument: str, value: Any) -> LibraryRows:
    """Validate a set of feature vectors on a device; its numbers are not looked at yet.

    Parameters
    ----------
    function, argument : str
        Named in messages.
    value : array of shape (n, d)
        For which `namespaces.is_on_device` is True: float16, bfloat16, float32, float64 or
        integers, with any strides.

    Returns
    -------
    LibraryRows
        Not copied.

    Raises
    ------
    TypeError, ValueError
        As `arrays.as_rows`, with the same messages.
    BackendUnavailableError
        If there is no library that can compute with it.
    """
    values = namespaces.as_device_array(function, argument, value)
    rows = LibraryRows(values, namespaces.device_of(values))
    if rows.dtype not in (*_DTYPES, *_INTEGERS):
        hint = {
            "bool": f"convert it to float32, as {argument} * 1.0 does",
            "complex64": "pass real and imaginary parts as separate columns",
            "complex128": "pass real and imaginary parts as separate columns",
        }.get(rows.dtype, "")
        condition = "of dtype float16, float32, float64 or integer"
        fail(function, argument, condition, rows.dtype, hint, error=TypeError)
    protocols.check_shape(function, argument, tuple(values.shape))
    return rows


def as_rows(function: str, argument: str, value: object) -> Rows2D | LibraryRows:
    """Validate a set of feature vectors and leave it where it is; its numbers are not looked at.

    Parameters
    ----------
    function, argument : str
        Named in messages.
    value : array of shape (n, d)
        On a device, or as `arrays.as_rows` takes it.

    Returns
    -------
    ndarray or LibraryRows
        As `arrays.as_rows` or `as_library_rows`.

    Raises
    ------
    TypeError, ValueError, BackendUnavailableError
        As those.
    """
    if namespaces.is_on_device(value):
        return as_library_rows(function, argument, value)
    return arrays.as_rows(function, argument, value, values=False)


def check_values(
    function: str, argument: str, rows: Rows2D | LibraryRows, threads: int = 1
) -> None:
    """Check that all numbers are finite and at most 2^500 in magnitude, where they are.

    Parameters
    ----------
    function, argument : str
        Named in messages.
    rows : ndarray or LibraryRows
        As `as_rows` returns them.
    threads : int, default 1
        Threads that look at those on the CPU.

    Raises
    ------
    ValueError
        Naming the first bad row and column, as `arrays.check_values`.
    """
    if not isinstance(rows, LibraryRows):
        arrays.check_values(function, argument, rows, threads)
        return
    if rows.dtype in _INTEGERS:
        return
    xp, (n, d) = rows.device.xp, rows.shape
    step = max(1, _BLOCK_BYTES // (d * rows.itemsize))
    with rows.device.context():
        blocks = (rows.values[start : start + step, :] for start in range(0, n, step))
        # No other type has room for more than 2^500, and a comparison with NaN is False.
        wide = rows.dtype == "float64"
        good = [
            xp.all(xp.abs(block) <= arrays.LARGEST if wide else xp.isfinite(block))
            for block in blocks
        ]
        if bool(xp.all(xp.stack(good))):
            return
        first = xp.stack(good).tolist().index(False) * step
    block = LibraryRows(rows.values[first : first + step, :], rows.device).on_host()
    # In float64: no other type has the limit itself.
    infinite, large = ~np.isfinite(block), np.abs(block.astype(np.float64)) > arrays.LARGEST
    row = int(np.argmax((infinite | large).any(axis=1)))
    # A number that is too large is told first only if its row has no worse.
    wrong = infinite[row] if infinite[row].any() else large[row]
    column = int(np.argmax(wrong))
    got = f"{block[row, column]} in row {first + row}, column {column}"
    if infinite[row].any():
        fail(function, argument, "to be finite", got)
    hint = "multiply all sets by one power of two"
    fail(function, argument, "within 2^500 in magnitude", got, hint)
