"""Find generated samples that are copies, or nearly copies, of training samples."""

from __future__ import annotations

import numpy as np

import fastgen


def main() -> None:
    rng = np.random.default_rng(0)
    train = rng.standard_normal((3000, 128), dtype=np.float32)
    fake = rng.standard_normal((1000, 128), dtype=np.float32)
    fake[10] = train[4]  # an exact copy
    fake[20] = train[5] + np.float32(1e-3)  # all but a copy

    # The nearest training sample of each generated one. Distances are those of direct float64
    # arithmetic, so an exact copy is at distance 0 and nothing else is.
    found = fastgen.nearest(fake, train, k=1)
    distances, indices = found.distances[:, 0], found.indices[:, 0]

    # How far a training sample is from its own nearest neighbour says what "close" means.
    usual = np.median(fastgen.knn_radii(train, k=1))
    for row in np.flatnonzero(distances < 0.1 * usual):
        print(f"fake {row} is train {indices[row]}, at distance {distances[row]:.4g}")
    print(f"nearest neighbours are usually {usual:.3g} apart")


if __name__ == "__main__":
    main()
