"""Kernel densities of scikit-learn and SciPy, with their own defaults; both use one thread."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from contenders.base import DensityContender

Matrix = NDArray[np.float32]
Floats = NDArray[np.float64]


class SklearnDensity(DensityContender):
    """`KernelDensity`: a tree in float64, without an allowance for errors (`rtol=0`, its default).

    Its sums stop being right in high dimension: by hundreds of nats at d = 256.
    """

    name: ClassVar[str] = "sklearn-kernel-density"
    needs: ClassVar[tuple[str, ...]] = ("sklearn.neighbors",)

    def log_density(self, points: Matrix, samples: Matrix, threads: int) -> Floats:  # noqa: ARG002
        """Build the tree and ask for all points."""
        from sklearn.neighbors import KernelDensity

        found: Floats = KernelDensity(bandwidth="scott", rtol=0).fit(samples).score_samples(points)
        return found


class ScipyDensity(DensityContender):
    """`gaussian_kde`: densities in float64, and then their logarithms.

    The faster of its two ways, which ends where densities are below the range of float64.
    """

    name: ClassVar[str] = "scipy-gaussian-kde"
    needs: ClassVar[tuple[str, ...]] = ("scipy.stats",)
    covariance: ClassVar[str | None] = "sample"

    def log_density(self, points: Matrix, samples: Matrix, threads: int) -> Floats:  # noqa: ARG002
        """Take logarithms of `evaluate`."""
        from scipy.stats import gaussian_kde

        with np.errstate(divide="ignore"):
            found: Floats = np.log(gaussian_kde(samples.T).evaluate(points.T))
        return found


class ScipyLogDensity(DensityContender):
    """`gaussian_kde.logpdf`: sums of exponentials that keep their exponent."""

    name: ClassVar[str] = "scipy-gaussian-kde-logpdf"
    needs: ClassVar[tuple[str, ...]] = ("scipy.stats",)
    covariance: ClassVar[str | None] = "sample"

    def log_density(self, points: Matrix, samples: Matrix, threads: int) -> Floats:  # noqa: ARG002
        """Take `logpdf`."""
        from scipy.stats import gaussian_kde

        found: Floats = gaussian_kde(samples.T).logpdf(points.T)
        return found
