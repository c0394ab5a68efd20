"""Threads of our own, of the caller, and processes forked from one that has used ours."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import families
import numpy as np
import pytest
from checks import assert_same_bits

import fastgen
from fastgen import numpy_reference, pairwise

TIMEOUT = 60.0


def sets(n=400, d=24):
    return families.relu(families.seeded("threads", n, d), n, d, "float32")


def test_callers_threads_do_not_disturb_each_other():
    cases = [sets(n=150 + 40 * i, d=d) for i, d in enumerate((3, 16, 33, 64, 100, 130))]
    expected = [numpy_reference.membership(real=real, fake=fake, k=4) for real, fake in cases]
    with ThreadPoolExecutor(max_workers=len(cases)) as pool:
        for repetition in range(5):
            found = pool.map(
                lambda case, threads=1 + repetition % 3: fastgen.membership(
                    real=case[0], fake=case[1], k=4, threads=threads
                ),
                cases,
            )
            assert_same_bits(list(found), expected)


def test_callers_threads_in_the_tree():
    cases = [sets(n=300, d=d) for d in (1, 2, 3, 4)]
    expected = [numpy_reference.nearest(real, fake, k=3) for real, fake in cases]
    with ThreadPoolExecutor(max_workers=len(cases)) as pool:
        found = pool.map(
            lambda case: pairwise.sq_knn(*case, k=3, indices=True, path="tree", threads=2), cases
        )
        for (sq, rows), one in zip(found, expected, strict=True):
            assert_same_bits(np.sqrt(sq), one.distances)
            assert_same_bits(rows, one.indices)


@pytest.mark.parametrize(
    ("path", "n", "d"),
    [(None, 30_000, 64), ("float32", 15_000, 64), ("scan", 10_000, 64), ("tree", 60_000, 3)],
)
def test_other_python_threads_go_on(path, n, d):
    x = np.random.default_rng(0).standard_normal((n, d), dtype=np.float32)
    longest, stop = 0.0, threading.Event()

    def watch():
        nonlocal longest
        last = time.monotonic()
        while not stop.is_set():
            time.sleep(0.002)
            now = time.monotonic()
            longest, last = max(longest, now - last), now

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.monotonic()
    try:
        pairwise.sq_knn(x, k=3, path=path, threads=1)
    finally:
        took = time.monotonic() - began
        stop.set()
        watcher.join()
    # Held throughout, the lock would be let go once in a step of 0.2 s, and at the end at most.
    assert longest < max(0.15, took / 4)


def test_own_threads_rest_after_the_call():
    code = """
import os, time
import numpy as np
import fastgen
x = np.random.default_rng(0).standard_normal((3000, 64))
fastgen.knn_radii(x, threads=4)
used = os.times()
time.sleep(0.5)
now = os.times()
assert now.user + now.system - used.user - used.system < 0.25, "threads spin while idle"
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=TIMEOUT)


FORK = """
import os, signal, sys
import numpy as np
import fastgen
from fastgen import numpy_reference, pairwise

x = np.random.default_rng(0).standard_normal((500, {d}))
fake = x[:400] + 0.5
expected = numpy_reference.prdc(real=x, fake=fake)

def answer():
    found = fastgen.prdc(real=x, fake=fake, threads={threads})
    sq, _ = pairwise.sq_knn(x, k=2, path={path!r}, threads={threads})
    return found.to_dict() == vars(expected) and sq.shape == (500, 2)

assert answer()
for generation in range(3):
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # a hang is a failure
        grandchild = os.fork()
        if grandchild == 0:
            signal.alarm(30)
            os._exit(0 if answer() else 1)
        status = os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1])
        os._exit(status if status else 0 if answer() else 1)
    assert answer()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize(("path", "d"), [("auto", 40), ("scan", 40), ("tree", 3)])
def test_forked_children_work_after_the_parent_has(path, d, threads, tmp_path):
    code = FORK.format(path=path, d=d, threads=threads)
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, cwd=tmp_path)
    assert result.returncode == 0, result.stderr


FORK_WHILE_BUSY = """
import os, signal, threading, time
import numpy as np
import fastgen
from fastgen import numpy_reference

x = np.random.default_rng(0).standard_normal((20_000, 64))
few = x[:300]
expected = numpy_reference.knn_radii(few)
busy = threading.Thread(target=fastgen.knn_radii, args=(x,), kwargs={"threads": 2})
busy.start()
time.sleep(0.05)
for _ in range(5):
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        os._exit(0 if np.array_equal(fastgen.knn_radii(few, threads=2), expected) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
busy.join()
"""


def test_fork_while_another_thread_computes(tmp_path):
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK_WHILE_BUSY]
    result = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, cwd=tmp_path)
    assert result.returncode == 0, result.stderr


def _radii(seed):
    real, _ = sets(n=100 + seed)
    return fastgen.knn_radii(real, threads=2)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_process_pools(method, tmp_path):
    code = f"""
import multiprocessing, sys
sys.path[:0] = {sys.path!r}
from test_threads import _radii
import numpy as np
if __name__ == "__main__":
    expected = [_radii(seed) for seed in range(4)]
    with multiprocessing.get_context({method!r}).Pool(2) as pool:
        found = pool.map_async(_radii, range(4)).get(timeout=50)
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
"""
    script = tmp_path / "pool.py"
    script.write_text(code)
    command = [sys.executable, "-W", "ignore::DeprecationWarning", str(script)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, cwd=tmp_path)
    assert result.returncode == 0, result.stderr


def test_thread_count_comes_from_argument_variable_or_affinity(monkeypatch):
    monkeypatch.delenv("FASTGEN_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 3, 5}, raising=False)
    assert fastgen.info().threads == 3
    monkeypatch.delattr("os.sched_getaffinity")
    monkeypatch.setattr("os.cpu_count", lambda: 7)
    assert fastgen.info().threads == 7
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert fastgen.info().threads == 1
    monkeypatch.setenv("FASTGEN_NUM_THREADS", " 6 ")
    assert fastgen.info().threads == 6
