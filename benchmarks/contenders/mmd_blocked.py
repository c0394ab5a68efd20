"""Float64 NumPy by row blocks: the full-sample statistic as a careful user writes it.

Each block of products is made in float64 into one reused buffer, turned into kernel values there (a
cube by two multiplications, which is faster than a power) and added up. No n x m array, no standard
error, no p-value.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from contenders.base import MmdContender

Matrix = NDArray[np.float32]
Floats = NDArray[np.float64]

# 512 rows x 10,000 columns are 41 MB in float64.
BLOCK = 512


class MmdBlocked(MmdContender):
    """Blocked float64 matrix products and sums of cubes."""

    name: ClassVar[str] = "numpy-blocked-f64"

    def mmd(self, x: Matrix, y: Matrix, threads: int) -> float:  # noqa: ARG002
        """Compare the two sets; the BLAS thread count was fixed when the process started."""
        rows, others = x.astype(np.float64), y.astype(np.float64)
        n, m = len(rows), len(others)
        within_x = (_total(rows, rows) - _diagonal(rows)) / (n * (n - 1))
        within_y = (_total(others, others) - _diagonal(others)) / (m * (m - 1))
        return within_x + within_y - 2.0 * _total(rows, others) / (n * m)


def _total(x: Floats, y: Floats) -> float:
    """Sum of the kernel over all pairs."""
    # Contiguous, or NumPy would call a symmetric routine for part of the blocks.
    columns = np.ascontiguousarray(y.T)
    values = np.empty((min(BLOCK, len(x)), len(y)))
    cubes = np.empty_like(values)
    total = 0.0
    for start in range(0, len(x), BLOCK):
        rows = x[start : start + BLOCK]
        block, cube = values[: len(rows)], cubes[: len(rows)]
        np.matmul(rows, columns, out=block)
        total += float(_cubed(block, x.shape[1], cube).sum())
    return total


def _diagonal(x: Floats) -> float:
    """Sum of the kernel over the pairs of rows with themselves."""
    squares = np.einsum("ij,ij->i", x, x)
    return float(_cubed(squares, x.shape[1], np.empty_like(squares)).sum())


def _cubed(products: Floats, d: int, out: Floats) -> Floats:
    products /= d
    products += 1.0
    np.multiply(products, products, out=out)
    out *= products
    return out
