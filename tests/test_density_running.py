"""What a long density call does meanwhile: progress, memory, Ctrl-C."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time

import families
import numpy as np
import pytest
from exact_density import two_sets

import fastgen
from fastgen import pairwise, plan

pytestmark = pytest.mark.filterwarnings("ignore::fastgen.DensityWarning")

X, Y = two_sets("running", n=300, m=500, d=2)
WEIGHTS = np.arange(500.0) % 3  # a third of the samples have none
CALLS = {
    "log_density": lambda **how: fastgen.log_density(X, Y, [0.1, 1.0], **how),
    "one bandwidth": lambda **how: fastgen.log_density(X, Y, 0.001, **how),
    "covariance": lambda **how: fastgen.log_density(X, Y, covariance="sample", **how),
    "weights": lambda **how: fastgen.log_density(X, Y, weights=WEIGHTS, **how),
    "leave one out": lambda **how: fastgen.log_density(
        None, Y, weights=WEIGHTS, leave_one_out=True, **how
    ),
    "tiles": lambda **how: fastgen.log_density(X.repeat(10, axis=1), Y.repeat(10, axis=1), **how),
    "ordered": lambda **how: pairwise.log_kernel_sums(X, Y, path="ordered", **how),
    "select_bandwidth": lambda **how: fastgen.select_bandwidth(Y, **how),
    "folds": lambda **how: fastgen.select_bandwidth(Y, folds=7, **how),
    "heldout_log_likelihood": lambda **how: fastgen.heldout_log_likelihood(X, Y, **how),
}


@pytest.mark.parametrize("step", [0.2, 0.0])
@pytest.mark.parametrize("call", CALLS)
def test_progress_never_falls_and_reaches_one(call, step, monkeypatch):
    monkeypatch.setattr("fastgen.workers._ADVANCE_SECONDS", step)
    told: list[float] = []
    CALLS[call](progress=told.append)
    assert told == sorted(told)
    assert all(0 <= done <= 1 for done in told)
    assert told[-1] == 1.0
    assert told.count(1.0) == 1


@pytest.mark.parametrize(("path", "d"), [("direct", 12), ("ordered", 3), ("tiles", 20)])
@pytest.mark.parametrize("widths", [1.0, [1.0, 0.3]], ids=str)
def test_progress_is_spread_over_the_work(path, d, widths, monkeypatch):
    monkeypatch.setattr("fastgen.workers._ADVANCE_SECONDS", 0.0)  # a task or few at a time
    x = families.gaussian(families.seeded("spread", d), 20_000, d, "float32", 2)[0]
    told: list[float] = []
    pairwise.log_kernel_sums(x, x[:1500], widths, path=path, progress=told.append)
    middle = [done for done in told if 0 < done < 1]
    assert len(set(middle)) >= 5
    if path != "ordered" and widths != 1.0:  # one pass, in which all tasks are alike
        assert np.diff([0.0, *middle, 1.0]).max() < 0.3


def test_progress_is_spread_over_folds(monkeypatch):
    monkeypatch.setattr("fastgen.workers._ADVANCE_SECONDS", 10.0)
    told: list[float] = []
    fastgen.select_bandwidth(Y, folds=5, progress=told.append)
    np.testing.assert_allclose(told, [0.2, 0.4, 0.6, 0.8, 1.0], atol=0.01)


def test_an_exception_of_the_callback_ends_the_call():
    def stop(done):
        raise RuntimeError("enough")

    for call in CALLS.values():
        with pytest.raises(RuntimeError, match="enough"):
            call(progress=stop)
    assert np.isfinite(fastgen.log_density(X, Y)).all()


# --- Ctrl-C ---------------------------------------------------------------------------------------

# The child tells the clock when the interrupt arrived; both read the same monotonic clock.
CHILD = """
import signal, sys, time
import numpy as np
import fastgen
from fastgen import pairwise
signal.signal(signal.SIGINT, signal.default_int_handler)
rng = np.random.default_rng(0)
x = rng.standard_normal(({n}, {d}), dtype=np.float32)
print("ready", flush=True)
try:
    {call}
except KeyboardInterrupt:
    print(time.monotonic(), flush=True)
    sys.exit(3)
print("finished", flush=True)
"""
INTERRUPTED = {
    "direct": (400_000, 12, "fastgen.log_density(x, x, 1.0)"),
    "ordered": (2_000_000, 3, "pairwise.log_kernel_sums(x, None, 1.0)"),
    "ordering": (4_000_000, 8, "pairwise.log_kernel_sums(x, x[::2], 0.001)"),
    "tiles": (200_000, 64, "fastgen.select_bandwidth(x)"),
    "whitening": (300_000, 40, "fastgen.log_density(x[:9], x, covariance=np.eye(40))\n    " * 50),
}


@pytest.mark.parametrize("case", INTERRUPTED)
def test_interrupt_ends_a_long_call(case, tmp_path):
    n, d, call = INTERRUPTED[case]
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", CHILD.format(n=n, d=d, call=call)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    try:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
        time.sleep(0.4)
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 3, (out, error)
    assert float(out) - sent <= 1.0


# --- memory ---------------------------------------------------------------------------------------

MEASURE = """
import re
import numpy as np
from fastgen import pairwise
rng = np.random.default_rng(0)
x = rng.standard_normal(({n}, {d})).astype("{dtype}")
y = rng.standard_normal(({m}, {d})).astype("{dtype}")
widths = np.geomspace(1, 3, {b})
pairwise.log_kernel_sums(x[:50], y[:50], widths[:2], path="{path}", threads=2)
def kilobytes(name):
    with open("/proc/self/status") as file:
        return int(re.search(name + r":\\s+(\\d+) kB", file.read())[1])
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # forget the peak so far
before = kilobytes("VmRSS")
pairwise.log_kernel_sums(x, y, widths, path="{path}", threads=2)
print(1024 * (kilobytes("VmHWM") - before))
"""
SIZES = {
    "many points": (400_000, 400, 2, 3, "direct", "float32"),
    "both ordered": (50_000, 20_000, 3, 1, "ordered", "float64"),
    "two windows": (50, 9000, 784, 1, "tiles", "float32"),
    "many bandwidths": (5000, 100, 4, 300, "direct", "float64"),
    "few points, many samples and bandwidths": (100, 20_000, 4, 2000, "direct", "float32"),
    "few points, many bandwidths in tiles": (500, 500, 2, 5000, "tiles", "float32"),
}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("size", SIZES)
def test_memory_stays_below_the_estimate(size, tmp_path):
    n, m, d, b, path, dtype = SIZES[size]
    code = MEASURE.format(n=n, m=m, d=d, b=b, path=path, dtype=dtype)
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) <= plan.density_bytes_needed(n, m, d, b, 2, path)


def needed(call) -> int:
    with pytest.raises(ValueError, match="`memory` of at least") as caught:
        call()
    return int(re.search(r"at least (\d+) bytes", str(caught.value))[1])


@pytest.mark.parametrize("d", [2, 40])
def test_more_of_anything_needs_more_memory(d):
    x = families.gaussian(families.seeded("needs"), 9000, d, "float32", 2)[0]
    y, few = x[:3000], x[:100]

    def density(rows, others, bandwidth=1.0, **how):
        return needed(lambda: fastgen.log_density(rows, others, bandwidth, memory=1, **how))

    base = density(few, y)
    rows = 9000 * d * 8
    assert density(x, y) > base
    assert density(few, x) > base
    assert density(few, y, np.ones(1000)) >= base + 100 * 999 * 8
    assert density(few, y, covariance="sample") >= base + 3100 * d * 8
    assert density(few, y, weights=np.ones(3000)) >= base + 3000 * 8
    assert density(few, y.astype(np.float64)) >= base + 100 * d * 8
    alone = needed(lambda: fastgen.select_bandwidth(x, memory=1))
    assert needed(lambda: fastgen.select_bandwidth(x, folds=5, memory=1)) >= alone + rows // 2
    assert needed(lambda: fastgen.select_bandwidth(x, np.ones(1000), memory=1)) > alone
    assert needed(lambda: fastgen.log_density(x, y, threads=9, memory=1)) > density(x, y)


def test_copies_that_exceed_the_budget_are_not_made(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("whitened before the budget was looked at")

    monkeypatch.setattr("fastgen.densities.whitening", refuse)
    x = np.broadcast_to(np.zeros((1, 50), dtype=np.float32), (10**8, 50))  # 40 GB in float64
    with pytest.raises(ValueError, match=r"^log_density: expected `memory` of at least "):
        fastgen.log_density(x, x, 1.0, covariance="sample", memory="10GB")
