"""Peak memory beyond the inputs, in a fresh process that does nothing else.

The arrays are made by this process and loaded whole by the other. What that one has in use before
the call is compared with its peak after the call.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from features import relu_features
from harness import Bench, Line

N, D = 40_000, 2048
QUICK_N, QUICK_D = 2_000, 256
FIXED_BYTES = 256 << 20
CHILD = Path(__file__).with_name("memory_of_call.py")


@dataclass(frozen=True)
class Call:
    """A call of `memory_of_call.py`, and what it may take for every row besides the fixed part."""

    sets: int
    bytes_per_feature: int  # of a copy of the rows; 0 for none
    bytes_per_row: int
    settings: str
    fixed: int = FIXED_BYTES
    n: int = N
    d: int = D
    function: str = ""  # if it is not the name of the case


CALLS = {
    # An int8 copy, and 64 bytes for each neighbour.
    "knn_radii": Call(sets=1, bytes_per_feature=1, bytes_per_row=64 * 3, settings="k=3"),
    "prdc": Call(sets=2, bytes_per_feature=1, bytes_per_row=64 * 5, settings="k=5"),
    # Sums by row; kid has 5 times as many here, those of the subsets, within the fixed part.
    "mmd": Call(sets=2, bytes_per_feature=0, bytes_per_row=256, settings="polynomial"),
    "kid": Call(sets=2, bytes_per_feature=0, bytes_per_row=256, settings="100x1000"),
    # The covariance and what its sums are made of, and 64 MB.
    "moments": Call(
        sets=1,
        bytes_per_feature=0,
        bytes_per_row=0,
        settings="fid",
        fixed=(64 << 20) + 2 * 8 * D * D,
    ),
    # A float64 copy at most, its place in an order, and sums; beyond 16 features no copy.
    "log_density,d=16": Call(
        sets=2,
        bytes_per_feature=8,
        bytes_per_row=96,
        settings="scott",
        n=200_000,
        d=16,
        function="log_density",
    ),
    "log_density,d=784": Call(
        sets=2,
        bytes_per_feature=0,
        bytes_per_row=96,
        settings="scott",
        n=20_000,
        d=784,
        function="log_density",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def bench_memory(name: str, bench: Bench, tmp_path: Path, benchmark: Any) -> None:
    call = CALLS[name]
    function = call.function or name
    n, d = (QUICK_N, min(QUICK_D, call.d)) if bench.quick else (call.n, call.d)
    paths = [tmp_path / f"{seed}.npy" for seed in range(call.sets)]
    for seed, path in enumerate(paths):
        np.save(path, relu_features(n, d, seed=seed + 1))
    command = [sys.executable, str(CHILD), function, str(bench.threads), *map(str, paths)]
    measured: list[dict[str, int]] = []

    case = f"memory/{function}/n={n},d={d},{call.settings}/f32/cpu"
    benchmark.group = "memory"
    benchmark.name = case
    benchmark.pedantic(
        lambda: measured.append(
            json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
        ),
        rounds=1,
    )
    extra = measured[0]["peak"] - measured[0]["before"]
    allowed = call.sets * n * (d * call.bytes_per_feature + call.bytes_per_row) + call.fixed
    bench.record(
        benchmark,
        Line(
            case,
            "allowed bytes",
            extra / allowed,
            target=1.0,
            notes=[f"{extra / 2**20:.0f} of {allowed / 2**20:.0f} MiB"],
        ),
        extra_bytes=extra,
        allowed_bytes=allowed,
        **measured[0],
    )
