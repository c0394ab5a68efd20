"""A classifier's answers on a device, summed split by split in its library of arrays.

The sums are those of `answers`: whole numbers on two grids, which no order of the rows changes. The
sum over a row's classes is made by halving the row, so that it has the same bits in any block.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastgen import namespaces
from fastgen.answer_rows import ENTROPY_UNIT, FAR, GRIDS, ROUNDERS, ROW_SUM
from fastgen.arrays import Rows2D
from fastgen.library_devices import Device
from fastgen.library_rows import LibraryRows

Integers = npt.NDArray[np.int64]

#: Of float64, in one array of a block; some ten are there at a time.
BLOCK_BYTES = 64 << 20

_MOST_ROWS = 2**21  # sums of so many numbers below 1 are exact on each grid


def rows_of_block(classes: int) -> int:
    """Return how many rows are summed at a time.

    Parameters
    ----------
    classes : int
        Columns.

    Returns
    -------
    int
        At least 1.
    """
    return min(_MOST_ROWS, max(1, BLOCK_BYTES // (8 * (classes + 1))))


def sum_block(
    device: Device, rows: LibraryRows | Rows2D, in_logits: bool, starts: Integers
) -> Integers | None:
    """Sum runs of rows on a device.

    Parameters
    ----------
    device : Device
        Where it is done.
    rows : LibraryRows or ndarray of shape (b, c)
        Logits or probabilities, anywhere; at most `rows_of_block`.
    in_logits : bool
        Which.
    starts : array of shape (s,), int64
        The first row of each run, from 0 on.

    Returns
    -------
    array of shape (s, 2, c + 1), int64, or None
        As the sums of `answers.Totals`, on the host. None if a number is not finite, or a row holds
        no probabilities.
    """
    with device.context():
        xp = device.xp
        if isinstance(rows, LibraryRows):
            values = device.floats(namespaces.moved(rows.values, device))
        else:
            values = device.floats(device.upload(rows))
        turn = _from_logits if in_logits else _from_probabilities
        good, p, entropies = turn(xp, values)
        if not bool(good):
            return None
        numbers = xp.concat([p, xp.reshape(entropies / ENTROPY_UNIT, (-1, 1))], axis=1)
        ends = device.upload(np.append(starts[1:], len(rows)) - 1)
        limbs = []
        for grid, rounder in zip(GRIDS, ROUNDERS, strict=True):
            rounded = (numbers + rounder) - rounder
            sums = xp.take(xp.cumulative_sum(rounded, axis=0), ends, axis=0)
            sums = xp.concat([sums[:1, :], sums[1:, :] - sums[:-1, :]], axis=0)
            limbs.append(xp.astype(sums * grid, xp.int64))
            numbers = numbers - rounded  # exact
        found: Integers = namespaces.to_host(xp.stack(limbs, axis=1))
        return found


def _from_logits(xp: Any, values: Any) -> tuple[Any, Any, Any]:
    """Return whether all is finite, the softmax of every row, and its entropy."""
    good = xp.all(xp.isfinite(values))
    values = xp.clip(values - xp.max(values, axis=1, keepdims=True), FAR, None)
    p = xp.exp(values)
    totals = _row_sums(xp, p)
    entropies = xp.log(totals) - _row_sums(xp, values * p) / totals
    return good, p / totals[:, None], entropies


def _from_probabilities(xp: Any, values: Any) -> tuple[Any, Any, Any]:
    """Return whether rows hold probabilities, every row over its sum, and its entropy."""
    totals = _row_sums(xp, values)
    # Comparisons with NaN are False.
    good = xp.all(values >= 0) & xp.all(xp.abs(totals - 1) <= ROW_SUM)
    p = values / totals[:, None]
    terms = p * xp.log(xp.clip(p, float(np.finfo(np.float64).tiny), None))
    return good, p, xp.clip(-_row_sums(xp, terms), 0.0, None)


def _row_sums(xp: Any, values: Any) -> Any:
    """Add the columns, the second half to the first one again and again."""
    while (columns := values.shape[1]) > 1:
        half = columns // 2
        added = values[:, :half] + values[:, columns - half :]
        middle = values[:, half : columns - half]  # one column, or none
        values = xp.concat([added, middle], axis=1) if columns % 2 else added
    return values[:, 0]
