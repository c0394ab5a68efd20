"""Peak memory beyond the inputs, in a fresh process that does nothing else.

The arrays are made by this process and loaded whole by the other. What that one has in use before
the call is compared with its peak after the call.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from features import relu_features
from harness import Bench, Line

N, D = 40_000, 2048
QUICK_N, QUICK_D = 2_000, 256
FIXED_BYTES = 256 << 20
BYTES_PER_ROW_AND_K = 64
CHILD = Path(__file__).with_name("memory_of_call.py")
CALLS = {"knn_radii": 3, "prdc": 5}  # with their k


@pytest.mark.parametrize("call", CALLS)
def bench_memory(call: str, bench: Bench, tmp_path: Path, benchmark: Any) -> None:
    n, d = (QUICK_N, QUICK_D) if bench.quick else (N, D)
    k = CALLS[call]
    sets = 2 if call == "prdc" else 1
    paths = [tmp_path / f"{seed}.npy" for seed in range(sets)]
    for seed, path in enumerate(paths):
        np.save(path, relu_features(n, d, seed=seed + 1))
    command = [sys.executable, str(CHILD), call, str(k), str(bench.threads), *map(str, paths)]
    measured: list[dict[str, int]] = []

    case = f"memory/{call}/n={n},d={d},k={k}/f32/cpu"
    benchmark.group = "memory"
    benchmark.name = case
    benchmark.pedantic(
        lambda: measured.append(
            json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
        ),
        rounds=1,
    )
    extra = measured[0]["peak"] - measured[0]["before"]
    allowed = sets * (n * d + BYTES_PER_ROW_AND_K * n * k) + FIXED_BYTES
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
