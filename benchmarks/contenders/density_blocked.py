"""Float64 NumPy by row blocks: what a careful user writes when the whole matrix does not fit.

Exponents come from the matrix product (``2 x.y - |y|^2``, over ``2 h^2``) into one reused buffer,
where their largest is subtracted and the rest turned into terms. No n x m array. Differences of
nearby rows far from the origin cancel: the rows are centred first, as such a user would.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from contenders.base import DensityContender

Matrix = NDArray[np.float32]
Floats = NDArray[np.float64]

# Rows x samples of one block: 2 MB, which stay in the cache while they are turned into terms.
BLOCK = 1 << 18


class DensityBlocked(DensityContender):
    """Blocked float64 matrix products, exponentials and sums."""

    name: ClassVar[str] = "numpy-blocked-f64"

    def log_density(self, points: Matrix, samples: Matrix, threads: int) -> Floats:  # noqa: ARG002
        """Sum over all samples; the BLAS thread count was fixed when the process started."""
        m, d = samples.shape
        bandwidth = m ** (-1 / (d + 4))
        scale = 1 / (math.sqrt(2) * bandwidth)
        centre = samples.mean(axis=0, dtype=np.float64)
        rows, others = (points - centre) * scale, (samples - centre) * scale
        # Contiguous, and the factor 2 once instead of for every pair.
        columns = np.ascontiguousarray(2 * others.T)
        sq = np.einsum("ij,ij->i", others, others)
        found = -np.einsum("ij,ij->i", rows, rows)
        step = max(1, BLOCK // m)
        buffer = np.empty((min(step, len(rows)), m))
        for start in range(0, len(rows), step):
            block = buffer[: len(rows[start : start + step])]
            np.matmul(rows[start : start + step], columns, out=block)
            block -= sq
            largest = block.max(axis=1)
            block -= largest[:, np.newaxis]
            np.exp(block, out=block)
            found[start : start + step] += largest + np.log(block.sum(axis=1))
        return found - (math.log(m) + d * math.log(bandwidth * math.sqrt(2 * math.pi)))
