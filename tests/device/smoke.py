"""Every kernel once, on little data: what compute-sanitizer watches, where tests would take hours.

Run it as a program: it prints a line per call, and fails where an answer differs from the CPU
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

import fastgen


def _sets(n: int, m: int, d: int, dtype: str) -> tuple[Any, Any]:
    rng = np.random.default_rng((n, m, d))
    real = np.maximum(rng.standard_normal((n, d)), 0.0)
    fake = np.maximum(0.9 * rng.standard_normal((m, d)), 0.0)
    fake[m // 2] = fake[0]  # a copy
    return real.astype(dtype), fake.astype(dtype)


def _calls(real: Any, fake: Any) -> dict[str, Callable[[str], Any]]:
    """Return what is called, by name: each takes the device."""
    normal = (real[:, :2].astype(np.float64), fake[:, :2].astype(np.float64))
    gaussian = fastgen.Gaussian(bandwidth=float(np.sqrt(real.shape[1])))
    return {
        "prdc": lambda device: fastgen.prdc(real=real, fake=fake, k=3, device=device),
        "membership": lambda device: fastgen.membership(real=real, fake=fake, k=3, device=device),
        "nearest": lambda device: fastgen.nearest(real, fake, k=4, device=device),
        "knn_radii": lambda device: fastgen.knn_radii(real, k=[1, 5], device=device),
        "mmd": lambda device: fastgen.mmd(real, fake, device=device),
        "mmd_gaussian": lambda device: fastgen.mmd(real, fake, gaussian, device=device),
        "kid": lambda device: fastgen.kid(
            real=real, fake=fake, subsets=3, subset_size=60, device=device
        ),
        "log_density": lambda device: fastgen.log_density(fake, real, 3.0, device=device),
        "log_density_grid": lambda device: fastgen.log_density(
            *normal, np.array([0.1, 0.2, 0.5]), device=device
        ),
    }


def _numbers(result: Any) -> list[np.ndarray[Any, Any]]:
    """Return the numbers of a result, whatever its shape."""
    if hasattr(result, "to_dict"):
        result = list(result.to_dict().values())
    if isinstance(result, (list, tuple)):
        return [array for part in result for array in _numbers(part)]
    return [np.asarray(result, dtype=np.float64)]


EXACT = ("prdc", "membership", "nearest", "knn_radii")


def main() -> int:
    """Run everything on the GPU and on the CPU."""
    wrong = 0
    for d, dtype in ((100, "float32"), (3, "float32"), (70, "float64"), (200, "float16")):
        real, fake = _sets(300, 260, d, dtype)
        for name, call in _calls(real, fake).items():
            found, expected = _numbers(call("cuda")), _numbers(call("cpu"))
            tolerance = 0.0 if name in EXACT else 1e-5
            good = all(
                np.allclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)
                for a, b in zip(found, expected, strict=True)
            )
            print(f"{name:<18} d={d:<4} {dtype:<8} {'ok' if good else 'WRONG'}", flush=True)
            wrong += not good
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
