"""KID as torch-fidelity and clean-fid compute it, written anew in NumPy.

Same draws, same kernel ``(x.y / d + 1)^3``, same float32 arithmetic in the same order: whole kernel
matrices of one subset at a time, cubed by ``**``, added up in float32. That costs digits where the
two sets are alike: three sums near the mean of the kernel are subtracted to leave almost nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from contenders.base import KidContender, KidScores, MmdContender

Matrix = NDArray[np.float32]
Pairs = Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]


class TorchFidelityFormula(KidContender, MmdContender):
    """Three matrices, their row sums less the diagonals, and the sums of those."""

    name: ClassVar[str] = "torch-fidelity-formula"

    def pairs(self, n: int, m: int, subsets: int, size: int, seed: int) -> Pairs:
        """Draw the first set, then the second, from a generator of its own."""
        rng = np.random.RandomState(seed)
        for _ in range(subsets):
            first = rng.choice(n, size, replace=False)
            yield first, rng.choice(m, size, replace=False)

    def kid(
        self, real: Matrix, fake: Matrix, subsets: int, size: int, seed: int, threads: int
    ) -> KidScores:
        """Average over subsets; deviation with divisor `subsets`."""
        values = np.zeros(subsets)
        drawn = self.pairs(len(real), len(fake), subsets, size, seed)
        for place, (first, second) in enumerate(drawn):
            values[place] = self.mmd(real[first], fake[second], threads)
        return KidScores(mean=float(values.mean()), std=float(values.std()))

    def mmd(self, x: Matrix, y: Matrix, threads: int) -> float:  # noqa: ARG002
        """Compare two sets of the same size."""
        size = len(x)
        first, second, across = self._kernel(x, x), self._kernel(y, y), self._kernel(x, y)
        within = _off_diagonal_rows(first).sum() + _off_diagonal_rows(second).sum()
        estimate = within / (size * (size - 1))
        estimate -= 2 * across.sum(axis=0).sum() / (size * size)
        return float(estimate)

    @staticmethod
    def _kernel(x: Matrix, y: Matrix) -> Matrix:
        values: Matrix = (np.matmul(x, y.T) * (1.0 / x.shape[1]) + 1.0) ** 3
        return values


class CleanFidFormula(KidContender, MmdContender):
    """The two inner matrices are added before they are summed; no deviation."""

    name: ClassVar[str] = "clean-fid-formula"

    def pairs(self, n: int, m: int, subsets: int, size: int, seed: int) -> Pairs:
        """Draw the second set before the first; clean-fid itself uses NumPy's global generator."""
        rng = np.random.RandomState(seed)
        for _ in range(subsets):
            second = rng.choice(m, size, replace=False)
            yield rng.choice(n, size, replace=False), second

    def kid(
        self,
        real: Matrix,
        fake: Matrix,
        subsets: int,
        size: int,
        seed: int,
        threads: int,  # noqa: ARG002
    ) -> KidScores:
        """Average over subsets, by adding them up in float32."""
        total: Any = 0
        for first, second in self.pairs(len(real), len(fake), subsets, size, seed):
            total += self._scaled_mmd(fake[second], real[first])
        return KidScores(mean=float(total / subsets / size), std=None)

    def mmd(self, x: Matrix, y: Matrix, threads: int) -> float:  # noqa: ARG002
        """Compare two sets of the same size."""
        return float(self._scaled_mmd(y, x) / len(x))

    @staticmethod
    def _kernel(x: Matrix, y: Matrix) -> Matrix:
        values: Matrix = (x @ y.T / x.shape[1] + 1) ** 3
        return values

    def _scaled_mmd(self, x: Matrix, y: Matrix) -> np.float32:
        """MMD^2 times the number of rows."""
        size = len(x)
        within = self._kernel(x, x) + self._kernel(y, y)
        across = self._kernel(x, y)
        scaled: np.float32 = (within.sum() - np.diag(within).sum()) / (size - 1)
        return scaled - across.sum() * 2 / size


def _off_diagonal_rows(matrix: Matrix) -> Matrix:
    rows: Matrix = matrix.sum(axis=1) - np.diagonal(matrix)
    return rows
