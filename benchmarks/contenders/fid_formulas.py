"""The Frechet distance as the libraries in use compute it, written anew from their conventions."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from contenders.base import FrechetContender

Floats = NDArray[np.float64]


class SqrtmFormula(FrechetContender):
    """The square root of ``S_1 S_2`` by a Schur decomposition: pytorch-fid, clean-fid, dgm-eval."""

    name: ClassVar[str] = "scipy-sqrtm"
    needs: ClassVar[tuple[str, ...]] = ("scipy.linalg",)

    def covariance_term(self, first: Floats, second: Floats) -> float:
        """Return the real part, and 1e-6 on the diagonals where that is not finite."""
        import scipy.linalg

        root = scipy.linalg.sqrtm(first @ second)
        if not np.isfinite(root).all():
            offset = 1e-6 * np.eye(len(first))
            root = scipy.linalg.sqrtm((first + offset) @ (second + offset))
        return float(np.trace(first) + np.trace(second) - 2 * np.trace(root).real)


class EigvalsFormula(FrechetContender):
    """The eigenvalues of ``S_1 S_2``, not symmetric: torch-fidelity and torchmetrics."""

    name: ClassVar[str] = "numpy-eigvals"

    def covariance_term(self, first: Floats, second: Floats) -> float:
        """Return the real part of the sum of complex roots."""
        values = np.linalg.eigvals(first @ second).astype(np.complex128)
        return float(np.trace(first) + np.trace(second) - 2 * np.sqrt(values).real.sum())


class EighFormula(FrechetContender):
    """A square root of the first and the eigenvalues of ``S_1^(1/2) S_2 S_1^(1/2)``: symmetric."""

    name: ClassVar[str] = "numpy-eigh"

    def covariance_term(self, first: Floats, second: Floats) -> float:
        """Return the sum over eigenvalues, negative ones as 0."""
        values, vectors = np.linalg.eigh(first)
        root = vectors * np.sqrt(np.maximum(values, 0.0)) @ vectors.T
        shared = np.linalg.eigvalsh(root @ second @ root)
        roots = np.sqrt(np.maximum(shared, 0.0))
        return float(np.trace(first) + np.trace(second) - 2 * roots.sum())
