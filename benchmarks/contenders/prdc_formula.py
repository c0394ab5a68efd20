"""The method of the `prdc` package, written anew: three full distance matrices by scikit-learn.

Distances are euclidean (scikit-learn accumulates float32 input in float64 blocks), radii come from
`np.argpartition` over whole rows with the row itself included, balls are open. The package itself
asks for eight jobs whatever the machine has; here the jobs are the threads of the benchmark, which
can only help the contender.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from contenders.base import PrdcContender, Scores

if TYPE_CHECKING:
    from numpy.typing import NDArray


class PrdcFormula(PrdcContender):
    """Dense distances, `argpartition`, comparisons of whole matrices."""

    name: ClassVar[str] = "prdc-formula"
    needs: ClassVar[tuple[str, ...]] = ("sklearn",)

    def prdc(
        self, real: NDArray[np.float32], fake: NDArray[np.float32], k: int, threads: int
    ) -> Scores:
        """Compare the two sets with O((n + m)^2) memory."""
        real_radii = _radii(real, k, threads)
        fake_radii = _radii(fake, k, threads)
        cross = _distances(real, fake, threads)
        inside = cross < real_radii[:, None]
        return Scores(
            precision=float(inside.any(axis=0).mean()),
            recall=float((cross < fake_radii).any(axis=1).mean()),
            density=float(inside.sum(axis=0).mean() / k),
            coverage=float((cross.min(axis=1) < real_radii).mean()),
        )


def _distances(
    x: NDArray[np.float32], y: NDArray[np.float32], threads: int
) -> NDArray[np.floating]:
    from sklearn.metrics import pairwise_distances

    distances: NDArray[np.floating] = pairwise_distances(x, y, metric="euclidean", n_jobs=threads)
    return distances


def _radii(x: NDArray[np.float32], k: int, threads: int) -> NDArray[np.floating]:
    distances = _distances(x, x, threads)
    np.fill_diagonal(distances, 0.0)
    nearest = np.argpartition(distances, k + 1, axis=1)[:, : k + 1]
    radii: NDArray[np.floating] = np.take_along_axis(distances, nearest, axis=1).max(axis=1)
    return radii
