"""Float32 NumPy by row blocks: what a careful user writes when the whole matrix does not fit.

Squared distances come from the matrix product (``|x|^2 + |y|^2 - 2 x.y``), one block of rows at a
time into one reused buffer, and are compared as squares; the cross product is formed once for both
directions. No n x m array, no root, no float64. Its rounding is float32's: good enough for data
without ties, wrong for duplicates and close neighbours.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from contenders.base import PrdcContender, Scores

Matrix = NDArray[np.float32]

# 1024 rows x 10,000 columns are 40 MB: enough rows for the product to run at full speed.
BLOCK = 1024


class NumpyBlocked(PrdcContender):
    """Blocked float32 matrix products, `np.partition` and comparisons."""

    name: ClassVar[str] = "numpy-blocked-f32"

    def prdc(self, real: Matrix, fake: Matrix, k: int, threads: int) -> Scores:  # noqa: ARG002
        """Compare the two sets; the BLAS thread count was fixed when the process started."""
        sq_real, sq_fake = sq_norms(real), sq_norms(fake)
        real_radii = sq_knn_radii(real, sq_real, k)
        fake_radii = sq_knn_radii(fake, sq_fake, k)

        n, m = len(real), len(fake)
        holding = np.zeros(m, dtype=np.int64)  # real balls that contain each fake
        covered = np.zeros(n, dtype=bool)
        recalled = np.zeros(n, dtype=bool)
        buffer = np.empty((min(BLOCK, n), m), dtype=np.float32)
        for start in range(0, n, BLOCK):
            rows = slice(start, min(start + BLOCK, n))
            block = _sq_distances(real[rows], fake, sq_real[rows], sq_fake, buffer)
            inside = block < real_radii[rows, None]
            holding += np.count_nonzero(inside, axis=0)
            covered[rows] = inside.any(axis=1)
            recalled[rows] = (block < fake_radii).any(axis=1)
        return Scores(
            precision=float(np.mean(holding > 0)),
            recall=float(np.mean(recalled)),
            density=float(holding.sum() / (k * m)),
            coverage=float(np.mean(covered)),
        )


def sq_norms(x: Matrix) -> Matrix:
    """Squared length of every row."""
    return np.einsum("ij,ij->i", x, x)


def sq_knn_radii(x: Matrix, sq: Matrix, k: int) -> Matrix:
    """Squared distance of every row to its k-th nearest other row."""
    n = len(x)
    radii = np.empty(n, dtype=np.float32)
    buffer = np.empty((min(BLOCK, n), n), dtype=np.float32)
    for start in range(0, n, BLOCK):
        stop = min(start + BLOCK, n)
        block = _sq_distances(x[start:stop], x, sq[start:stop], sq, buffer)
        block[np.arange(stop - start), np.arange(start, stop)] = np.inf
        block.partition(k - 1, axis=1)
        radii[start:stop] = block[:, k - 1]
    return radii


def _sq_distances(x: Matrix, y: Matrix, sq_x: Matrix, sq_y: Matrix, buffer: Matrix) -> Matrix:
    block = buffer[: len(x)]
    np.matmul(x, y.T, out=block)
    block *= np.float32(-2.0)
    block += sq_x[:, None]
    block += sq_y
    return block
