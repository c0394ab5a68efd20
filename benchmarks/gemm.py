"""The unit of every ratio: the bare product ``X @ Y.T`` of the same shape, in float32 or float64.

The product runs in a fresh process, twice: with NumPy as installed, and with OpenBLAS told to use
its AVX-512 kernels (``OPENBLAS_CORETYPE=SkylakeX``), because on some processors the wheel picks
kernels of half that speed. The faster of the two counts. The output is allocated and touched
beforehand, X and Y are different arrays (for ``X @ X.T`` NumPy calls a symmetric routine that does
half the work), and an output beyond one gibibyte is made in row blocks into the same buffer: each
of these can only make the unit smaller and the ratios larger.

    python benchmarks/gemm.py --n 10000 --m 10000 --d 2048 --threads 2
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
CORE_TYPES = ("", "SkylakeX")
OUTPUT_BYTES = 1 << 30


@dataclass(frozen=True)
class Gemm:
    """One measured product of [n, d] by [d, m]: median seconds over the rounds."""

    n: int
    m: int
    d: int
    dtype: str
    threads: int
    seconds: float
    seconds_min: float
    seconds_max: float
    rounds: int
    requested_core: str
    blas: str

    @property
    def gflops(self) -> float:
        """Billions of operations per second, a multiply-add counted as two."""
        return 2.0 * self.n * self.m * self.d / self.seconds / 1e9

    def to_dict(self) -> dict[str, Any]:
        """Return the fields and the rate as plain values."""
        return {**asdict(self), "gflops": self.gflops}


def measure(
    n: int, m: int, d: int, *, threads: int, rounds: int | None = None, dtype: str = "float32"
) -> Gemm:
    """Measure the product under each core type in its own process and return the faster one."""
    measured = [
        result
        for core in CORE_TYPES
        if (result := _measure_core(core, n, m, d, dtype, threads, rounds)) is not None
    ]
    if not measured:
        raise RuntimeError("gemm: neither core type could be measured")
    return min(measured, key=lambda result: result.seconds)


def environment(core: str, threads: int) -> dict[str, str]:
    """Return this process's environment with the BLAS core type and thread count replaced."""
    variables = dict(os.environ)
    variables.pop("OPENBLAS_CORETYPE", None)
    if core:
        variables["OPENBLAS_CORETYPE"] = core
    variables.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    return variables


def blas_description() -> str:
    """Return the BLAS library that NumPy uses here, with its core type where it can be read."""
    import numpy as np

    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        build: Any = np.show_config(mode="dicts")
        blas = build["Build Dependencies"]["blas"]
        return f"{blas['name']} {blas['version']} (core type unknown: threadpoolctl not installed)"
    loaded = [each for each in threadpool_info() if each["user_api"] == "blas"]
    if not loaded:
        return "no BLAS found"
    # SciPy brings one of its own.
    library = next((each for each in loaded if "numpy" in each["filepath"]), loaded[0])
    core = library.get("architecture", "unknown core")
    return f"{library['internal_api']} {library['version']} {core}"


def _measure_core(
    core: str, n: int, m: int, d: int, dtype: str, threads: int, rounds: int | None
) -> Gemm | None:
    command = [sys.executable, __file__, "--worker"]
    command += ["--n", str(n), "--m", str(m), "--d", str(d), "--threads", str(threads)]
    command += ["--rounds", str(rounds or 0), "--dtype", dtype]
    done = subprocess.run(
        command, env=environment(core, threads), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        if core:  # this processor cannot run those kernels
            return None
        raise RuntimeError(f"gemm: the measuring process failed: {done.stderr.strip()}")
    return Gemm(**json.loads(done.stdout), requested_core=core or "as installed")


def _multiply(n: int, m: int, d: int, dtype: str, threads: int, rounds: int) -> dict[str, Any]:
    import numpy as np

    rng = np.random.default_rng(0)
    number = np.dtype(dtype).type
    x = rng.standard_normal((n, d), dtype=number)
    y = rng.standard_normal((m, d), dtype=number)
    rows = min(n, max(1, OUTPUT_BYTES // (x.itemsize * m)))
    out = np.zeros((rows, m), dtype=number)
    seconds: list[float] = []
    np.matmul(x[:rows], y.T, out=out)  # starts the threads, touches the output
    while len(seconds) < (rounds or 5):
        started = time.perf_counter()
        for start in range(0, n, rows):
            stop = min(start + rows, n)
            np.matmul(x[start:stop], y.T, out=out[: stop - start])
        seconds.append(time.perf_counter() - started)
        if not rounds and sum(seconds) > 15.0:
            break
    return {
        "n": n,
        "m": m,
        "d": d,
        "dtype": dtype,
        "threads": threads,
        "seconds": statistics.median(seconds),
        "seconds_min": min(seconds),
        "seconds_max": max(seconds),
        "rounds": len(seconds),
        "blas": blas_description(),
    }


def main() -> None:
    """Print the measured product as JSON."""
    parser = argparse.ArgumentParser(description="time the bare product X @ Y.T")
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--m", type=int, default=10_000)
    parser.add_argument("--d", type=int, default=2048)
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=0, help="0: up to 5 within 15 seconds")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    shape = (options.n, options.m, options.d)
    if options.worker:
        print(json.dumps(_multiply(*shape, options.dtype, options.threads, options.rounds)))
        return
    result = measure(
        *shape, threads=options.threads, rounds=options.rounds or None, dtype=options.dtype
    )
    print(json.dumps(result.to_dict(), indent=2))


if __name__ == "__main__":
    main()
