"""Compare generated features with real ones, for several neighbourhood sizes in one pass."""

from __future__ import annotations

import numpy as np

import fastgen


def main() -> None:
    rng = np.random.default_rng(0)
    # Stand-ins for the features of real and of generated images, as a network would give them.
    # The generator has learnt the first half of the directions and varies too little in the rest.
    real = rng.standard_normal((2000, 64), dtype=np.float32)
    spread = np.where(np.arange(64) < 32, 1.0, 0.9).astype(np.float32)
    fake = rng.standard_normal((1500, 64), dtype=np.float32) * spread

    sizes = [3, 5, 10]
    results = fastgen.prdc(real=real, fake=fake, k=sizes)
    for k, result in zip(sizes, results, strict=True):
        print(
            f"k={k:<2}  precision {result.precision:.3f}  recall {result.recall:.3f}  "
            f"density {result.density:.3f}  coverage {result.coverage:.3f}"
        )

    # Several metrics at once, as plain Python values: ready for a log or a JSON file.
    print(fastgen.evaluate(real=real, fake=fake, k=5).to_dict()["metrics"])


if __name__ == "__main__":
    main()
