"""Files for the command line, running it, and reading what it prints."""

from __future__ import annotations

import subprocess
import sys

import numpy as np

from fastgen.metrics.catalogue import METRICS

N, M, D = 60, 40, 12
TIMEOUT = 120


def write_sets():
    """Write features in every kind of file into the working directory, and return them."""
    rng = np.random.default_rng(0)
    real = rng.standard_normal((N, D)).astype(np.float32)
    fake = rng.standard_normal((M, D)).astype(np.float32) * 0.9
    np.save("real.npy", real)
    np.save("fake.npy", fake)
    np.savez("both.npz", real=real, fake=fake)
    np.savez("one.npz", fake)
    return real, fake


def run(*arguments, code=None):
    """Run the program in its own process, or `code` in its place."""
    command = [sys.executable, *(["-c", code] if code else ["-m", "fastgen"]), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)


def numbers(text):
    """Return the numbers of the printed table as {(metric, value): [one per k]}."""
    rows = [line.split() for line in text.splitlines()]
    rows = [row for row in rows if row[0:1] and row[0] in METRICS and len(row) > 2]
    rows = [row for row in rows if row[1] != "method"]
    return {(row[0], row[1]): [float(cell) for cell in row[2:]] for row in rows}
