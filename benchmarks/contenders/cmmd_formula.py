"""CMMD as its PyTorch port computes it, written anew in float32 NumPy.

Five matrix products: the squared norms are read off the diagonals of two of them. All kernel values
lie near 1, and the result is 1000 times the small difference of their means.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from contenders.base import Contender

Matrix = NDArray[np.float32]

SIGMA = 10.0
SCALE = 1000.0


class CmmdFormula(Contender):
    """Float32 means of ``exp(-|u - v|^2 / 200)`` over rows of norm 1."""

    name: ClassVar[str] = "cmmd-pytorch-formula"

    def cmmd(self, real: Matrix, fake: Matrix, threads: int) -> float:  # noqa: ARG002
        """Compare the two sets; the BLAS thread count was fixed when the process started."""
        u, v = _unit_rows(real), _unit_rows(fake)
        sq_u, sq_v = np.diag(np.matmul(u, u.T)), np.diag(np.matmul(v, v.T))
        within = _mean(u, u, sq_u, sq_u) + _mean(v, v, sq_v, sq_v)
        return float(SCALE * (within - 2 * _mean(u, v, sq_u, sq_v)))


def _unit_rows(x: Matrix) -> Matrix:
    rows: Matrix = x / np.linalg.norm(x, axis=1, keepdims=True)
    return rows


def _mean(x: Matrix, y: Matrix, sq_x: Matrix, sq_y: Matrix) -> np.float32:
    gamma = 1.0 / (2.0 * SIGMA**2)
    sq = -2 * np.matmul(x, y.T) + sq_x[:, None] + sq_y[None, :]
    mean: np.float32 = np.exp(-gamma * sq).mean()
    return mean
