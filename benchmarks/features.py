"""Synthetic features: rectified, correlated, low rank like Inception activations; or normal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

RANK = 200
# Latent variances fall off exponentially, so that about 60 directions carry most of them.
DECAY = 60.0
AMPLITUDE = 3.0
NOISE = 0.3
# The most dimensions in which normal samples get an exact covariance.
WHITE_D = 2
# Rows made at a time: keeps the peak memory of making the data far below the data itself.
BLOCK = 2048


def relu_features(n: int, d: int, *, seed: int, spread: float = 1.0) -> NDArray[np.float32]:
    """Make rectified low-rank features.

    Parameters
    ----------
    n, d : int
        Number of rows and of features.
    seed : int
        Seed of the rows; the map from latent variables to features depends on `d` alone, so that
        two sets of the same width lie on the same manifold.
    spread : float, default 1.0
        Factor on the latent variables; below 1 it imitates a generator of too little variety.

    Returns
    -------
    float32 array of shape (n, d)
        ``max(W^T z + noise, 0)``.
    """
    mixing = np.random.default_rng(d).standard_normal((RANK, d), dtype=np.float32)
    mixing /= np.float32(np.sqrt(RANK))
    scales = AMPLITUDE * spread * np.exp(-np.arange(RANK, dtype=np.float32) / DECAY)
    rng = np.random.default_rng((seed, d))
    features = np.empty((n, d), dtype=np.float32)
    for start in range(0, n, BLOCK):
        rows = min(BLOCK, n - start)
        latent = rng.standard_normal((rows, RANK), dtype=np.float32) * scales
        block = features[start : start + rows]
        rng.standard_normal(dtype=np.float32, out=block)
        block *= np.float32(NOISE)
        block += latent @ mixing
        np.maximum(block, 0.0, out=block)
    return features


def feature_pair(n: int, m: int, d: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return a real set of n rows and a fake one of m rows and less variety."""
    return relu_features(n, d, seed=1), relu_features(m, d, seed=2, spread=0.9)


def normal_pair(n: int, m: int, d: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return independent normal rows, for densities: n points and m samples.

    In few dimensions the samples' own covariance is made the identity (up to float32), so that
    densities with and without it are the same.
    """
    points = np.random.default_rng((1, d)).standard_normal((n, d), dtype=np.float32)
    samples = np.random.default_rng((2, d)).standard_normal((m, d))
    if d <= WHITE_D:
        root = np.linalg.cholesky(np.cov(samples, rowvar=False))
        samples = np.linalg.solve(root, samples.T).T
    return points, np.ascontiguousarray(samples, dtype=np.float32)
