"""The canonical squared distance, on which everything that compares distances rests.

The distance of two rows (:func:`sq_distances`) fixes the order of additions::

    for i = 0 .. d-1:   t = x[i] - y[i];  p = t * t;  acc[i mod 32] += p
    for w = 16, 8, 4, 2, 1:   acc[j] += acc[j + w]   for j < w
    result = acc[0]

in float64, each operation rounded on its own (no fused multiply-add). NumPy's own reductions
(``sum``, ``dot``, ``einsum``) add in an order that depends on the version, the shape and the
machine, so none of them is used. Decisions compare squared distances, never their roots.

Cost: 3 float64 operations per pair and feature, about 1.5 ns together; memory O(n + m) for a block
of rows at a time, except in :func:`sq_distances`, which returns the whole matrix.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from fastgen.numpy_reference.arguments import Floats, as_pair

_LANES = 32
_TILE_PAIRS = 2048  # pairs summed together: two buffers of 32 lanes, 1 MB, stay in the L2 cache
_BLOCK_PAIRS = 1 << 22  # pairs whose distances are held at a time: 32 MB


def sq_distances(x: npt.ArrayLike, y: npt.ArrayLike) -> Floats:
    """Return the canonical squared Euclidean distance of every row of `x` to every row of `y`.

    Parameters
    ----------
    x : array of shape (n, d)
        Rows; float16, float32, float64 or integers. Converted to float64 first.
    y : array of shape (m, d)
        Rows, as `x`.

    Returns
    -------
    array of shape (n, m), float64
        Squared distances, to the last bit those of the formula at the top of this module.

    Raises
    ------
    ValueError
        If `x` or `y` is not two-dimensional, has no rows or no columns, or the widths differ.

    Examples
    --------
    >>> from fastgen import numpy_reference
    >>> numpy_reference.sq_distances([[0.0, 0.0], [3.0, 0.0]], [[0.0, 4.0]])
    array([[16.],
           [25.]])
    """
    xt, yt = _transposed("sq_distances", x, y)
    n, m = xt.shape[1], yt.shape[1]
    out = np.empty((n, m))
    columns = min(m, _TILE_PAIRS)
    rows = min(n, max(1, _TILE_PAIRS // columns))
    lanes = min(xt.shape[0], _LANES)
    sums, terms = np.empty(lanes * rows * columns), np.empty(lanes * rows * columns)
    for top in range(0, n, rows):
        for left in range(0, m, columns):
            tile = out[top : top + rows, left : left + columns]
            _sq_tile(xt[:, top : top + rows], yt[:, left : left + columns], sums, terms, tile)
    return out


def blocks(
    rows: npt.NDArray[Any], others: npt.NDArray[Any], leave_out_self: bool = False
) -> Iterator[tuple[int, Floats]]:
    """Yield (first row, squared distances of a block of rows to all others).

    With `leave_out_self` the two sets are one, and a row's distance to itself is infinite.
    """
    step = max(1, _BLOCK_PAIRS // len(others))
    for first in range(0, len(rows), step):
        block = sq_distances(rows[first : first + step], others)
        if leave_out_self:
            own = np.arange(len(block))
            block[own, first + own] = np.inf
        yield first, block


def _sq_tile(xt: Floats, yt: Floats, sums: Floats, terms: Floats, out: Floats) -> None:
    """Write the distances of the columns of `xt` (d, a) to those of `yt` (d, b) to `out` (a, b).

    Lanes come first in the buffers, so that all but the subtraction run over contiguous memory.
    Lanes that no feature reaches hold +0, which changes no sum of squares: they are left out.
    """
    d, a = xt.shape
    b = yt.shape[1]
    lanes = min(d, _LANES)
    acc = sums[: lanes * a * b].reshape(lanes, a, b)
    square = terms[: lanes * a * b].reshape(lanes, a, b)
    acc[:] = 0.0
    for start in range(0, d, _LANES):
        width = min(_LANES, d - start)
        part, total = square[:width], acc[:width]
        features = slice(start, start + width)
        np.subtract(xt[features, :, np.newaxis], yt[features, np.newaxis, :], out=part)
        np.multiply(part, part, out=part)
        np.add(total, part, out=total)
    for width in (16, 8, 4, 2, 1):
        if lanes > width:
            upper = acc[width:lanes]
            lower = acc[: len(upper)]
            np.add(lower, upper, out=lower)
            lanes = width
    out[:] = acc[0]


def _transposed(function: str, x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Return both sets as contiguous float64, features first."""
    rows, others = as_pair(function, "x", x, "y", y)
    return np.ascontiguousarray(rows.T), np.ascontiguousarray(others.T)
