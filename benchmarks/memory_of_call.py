"""Run one call on stored arrays and print what was in use before it and the peak after it.

python benchmarks/memory_of_call.py prdc 2 real.npy fake.npy
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fastgen

# The calls of these names, of one set or two and the number of threads.
CALLS: dict[str, Callable[..., Any]] = {
    "knn_radii": lambda x, threads: fastgen.knn_radii(x, k=3, threads=threads),
    "prdc": lambda x, y, threads: fastgen.prdc(real=x, fake=y, k=5, threads=threads),
    "mmd": lambda x, y, threads: fastgen.mmd(x, y, threads=threads),
    "kid": lambda x, y, threads: fastgen.kid(
        real=x, fake=y, subsets=100, subset_size=min(1000, len(x)), threads=threads
    ),
    "moments": lambda x, threads: fastgen.Moments(x.shape[1], threads=threads).update(x),
    "log_density": lambda x, y, threads: fastgen.log_density(x, y, threads=threads),
}


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
    parser.add_argument("call", choices=CALLS)
    parser.add_argument("threads", type=int)
    parser.add_argument("paths", nargs="+")
    options = parser.parse_args()

    arrays = [np.load(path) for path in options.paths]
    # A small call first: libraries loaded on first use are not what is asked about.
    small = [array[:64] for array in arrays]
    call = CALLS[options.call]
    call(*small, threads=options.threads)
    before, _ = resident_bytes()
    call(*arrays, threads=options.threads)
    _, peak = resident_bytes()
    print(json.dumps({"before": before, "peak": peak}))


if __name__ == "__main__":
    main()
