"""Run one call on stored arrays and print what was in use before it and the peak after it.

python benchmarks/memory_of_call.py prdc 5 2 real.npy fake.npy
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
from pathlib import Path

import numpy as np

import fastgen


def resident_bytes() -> tuple[int, int]:
    """Return the resident size of this process, now and at its peak."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak *= 1 if sys.platform == "darwin" else 1024
    status = Path("/proc/self/status")
    if not status.exists():  # only the peak is known; it is reached when the arrays are loaded
        return peak, peak
    fields = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines())
    return int(fields["VmRSS"].split()[0]) * 1024, int(fields["VmHWM"].split()[0]) * 1024


def main() -> None:
    """Run the call named on the command line."""
    parser = argparse.ArgumentParser(description="peak memory of one call")
    parser.add_argument("call", choices=["knn_radii", "prdc"])
    parser.add_argument("k", type=int)
    parser.add_argument("threads", type=int)
    parser.add_argument("paths", nargs="+")
    options = parser.parse_args()

    arrays = [np.load(path) for path in options.paths]
    # A small call first: libraries loaded on first use are not what is asked about.
    small = [array[:64] for array in arrays]
    run(options.call, small, options.k, options.threads)
    before, _ = resident_bytes()
    run(options.call, arrays, options.k, options.threads)
    _, peak = resident_bytes()
    print(json.dumps({"before": before, "peak": peak}))


def run(call: str, arrays: list[np.ndarray], k: int, threads: int) -> None:
    """Call the function on one or two arrays."""
    if call == "prdc":
        fastgen.prdc(real=arrays[0], fake=arrays[1], k=k, threads=threads)
    else:
        fastgen.knn_radii(arrays[0], k=k, threads=threads)


if __name__ == "__main__":
    main()
