"""Ctrl-C ends every long call within a second, wherever it strikes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

ALLOWED_SECONDS = 1.0
TIMEOUT = 120.0

# The child tells the clock before the call and when the interrupt arrived; both processes read the
# same monotonic clock.
CHILD = """
import signal, sys, time
import numpy as np
import fastgen
from fastgen import pairwise
signal.signal(signal.SIGINT, signal.default_int_handler)
rng = np.random.default_rng(0)
{setup}
print("ready", flush=True)
try:
    {call}
except KeyboardInterrupt:
    print(time.monotonic(), flush=True)
    sys.exit(3)
print("finished", flush=True)
"""

CASES = {
    "knn_radii": (
        "x = rng.standard_normal((300_000, 64), dtype=np.float32)",
        "fastgen.knn_radii(x)",
    ),
    "float32 path": (
        "x = rng.standard_normal((150_000, 128), dtype=np.float32)",
        "pairwise.sq_knn(x, k=3, path='float32')",
    ),
    "scan": (
        "x = rng.standard_normal((60_000, 256), dtype=np.float32)",
        "pairwise.sq_knn(x, k=3, path='scan')",
    ),
    "prdc": (
        "x = rng.standard_normal((250_000, 64), dtype=np.float32)",
        "fastgen.prdc(real=x[:1000], fake=x)",
    ),
    "membership": (
        "x = rng.standard_normal((250_000, 64), dtype=np.float32)",
        "fastgen.membership(real=x, fake=x[:1000])",
    ),
    "tree": (
        "x = rng.standard_normal((2_000_000, 3))",
        "fastgen.prdc(real=x, fake=x[::-1].copy())",
    ),
    "integers": (
        "x = np.broadcast_to(rng.integers(0, 9, (1, 300), dtype=np.int8), (500_000, 300))",
        "[fastgen.arrays.as_rows('prdc', 'real', x) for _ in range(100)]",
    ),
}


@pytest.mark.parametrize("delay", [0.1, 0.8])
@pytest.mark.parametrize("case", CASES)
def test_interrupt_ends_a_long_call(case, delay, tmp_path):
    setup, call = CASES[case]
    code = CHILD.format(setup=setup, call=call)
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    try:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
        time.sleep(delay)
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=TIMEOUT)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 3, (out, error)
    assert float(out) - sent <= ALLOWED_SECONDS


def test_work_goes_on_after_an_interrupt(tmp_path):
    code = CHILD.format(
        setup="x = rng.standard_normal((100_000, 64), dtype=np.float32)",
        call="fastgen.knn_radii(x)",
    )
    code = code.replace("    sys.exit(3)\n", "")
    code += """
few = x[:200]
expected = fastgen.numpy_reference.knn_radii(few)
assert np.array_equal(fastgen.knn_radii(few), expected)
print("right")
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    try:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=TIMEOUT)
    finally:
        process.kill()
        process.wait()
    assert out.split()[1:] == ["finished", "right"]
