"""Find the least realistic samples of a generated set, and the real ones that it misses."""

from __future__ import annotations

import numpy as np

import fastgen


def main() -> None:
    rng = np.random.default_rng(0)
    # The real set has three clusters. The generator knows two of them, and one sample in twenty
    # falls between the clusters.
    centres = 8.0 * rng.standard_normal((3, 32))
    real = centres[rng.integers(3, size=1500)] + rng.standard_normal((1500, 32))
    known = rng.integers(2, size=1000)
    fake = centres[known] + rng.standard_normal((1000, 32))
    strays = rng.choice(1000, size=50, replace=False)
    fake[strays] = centres.mean(axis=0) + rng.standard_normal((50, 32))

    found = fastgen.membership(real=real, fake=fake, k=5)

    worst = np.argsort(found.realism)[:50]
    print(f"outside the real set: {np.count_nonzero(~found.fake_in_real)} of {len(fake)} samples")
    print(f"strays among the 50 least realistic: {len(np.intersect1d(worst, strays))}")
    print(f"real rows that the generator misses: {np.mean(~found.real_in_fake):.0%}")
    print(f"least realistic: rows {worst[:5].tolist()}, most realistic: {found.realism.argmax()}")


if __name__ == "__main__":
    main()
