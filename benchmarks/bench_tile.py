"""The pair tile alone, as a fraction of the processor's measured peak.

The peak is a loop that touches registers only: int8 dot products (multiply-adds counted as two
operations) or float32 fused multiply-adds. The tile multiplies packed panels of `N` rows.
"""

from __future__ import annotations

from typing import Any

import pytest
from harness import Bench, Line

from fastgen import _core

N, D = 8064, 2048
QUICK_N, QUICK_D = 448, 256
TARGETS = {("avx512vnni", "int8"): 0.60}


@pytest.mark.parametrize("path", ["int8", "float32"])
def bench_tile(path: str, isa: str, bench: Bench, benchmark: Any) -> None:
    n, d = (QUICK_N, QUICK_D) if bench.quick else (N, D)
    peak = bench.peak(isa)
    rates: list[float] = []

    case = f"tile/n={n},d={d}/{path}/cpu-{isa}"
    benchmark.group = "tile"
    benchmark.name = case
    benchmark.pedantic(
        lambda: rates.append(_core.measure_tile(isa, path, n, d, bench.threads)),
        rounds=5,
        warmup_rounds=1,
    )
    rate = sorted(rates[1:])[len(rates[1:]) // 2]  # without the warm-up
    bench.record(
        benchmark,
        Line(
            case,
            f"{path} peak",
            rate / peak[path],
            target=TARGETS.get((isa, path)),
            higher_is_better=True,
            notes=[f"{rate / 1e9:.0f} GOP/s of {peak[path] / 1e9:.0f}"],
        ),
        operations_per_second=rate,
        peak=peak,
    )
