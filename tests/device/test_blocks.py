"""Sets that do not fit into a GPU's memory: blocks of any size give the bits of the whole."""

from __future__ import annotations

import contextlib
import itertools
import re
import sys
import threading
import types
from types import SimpleNamespace

import families
import numpy as np
import pytest
from checks import assert_same_bits
from device_arrays import Packed

import fastgen
from fastgen import backend, blocks, gpu_plan, pairwise
from fastgen import numpy_reference as reference
from fastgen.gpu_plan import JoinSize
from fastgen.session import Rows
from fastgen.workers import Pending, StoppedError, side_by_side


def sets(n=60, m=45, d=20, family="half_equal", dtype="float32"):
    rng = families.seeded("blocks", n, m, d)
    if family == "half_equal":
        real, fake = rng.standard_normal((n, d)), rng.standard_normal((m, d))
        real[n // 2 :] = real[: n - n // 2]
        fake[::3] = real[: len(fake[::3])]
    else:
        real, fake = rng.integers(0, 3, (n, d)), rng.integers(0, 3, (m, d))
    return real.astype(dtype), fake.astype(dtype)


@pytest.fixture
def small_blocks(monkeypatch):
    """Let memory= come down to a few rows, and return the budget for so many."""
    monkeypatch.setattr(gpu_plan, "FIXED_BYTES", 0)
    monkeypatch.setattr(gpu_plan, "LEAST_ROWS", 1)

    def budget(rows, d=20, itemsize=4, k=0):
        return rows * JoinSize((1,), 1, d, itemsize, k)._row_of_blocks()

    return budget


@pytest.fixture
def walked(monkeypatch):
    """Record the pairs of blocks that are joined."""
    pairs = []
    walk = blocks.walk

    def listen(x, y):
        for pair in walk(x, y):
            pairs.append(tuple((block.start, block.stop) for block in pair))
            yield pair

    monkeypatch.setattr(blocks, "walk", listen)
    return pairs


@pytest.mark.parametrize("device", ["cuda", "cuda:all"])
@pytest.mark.parametrize("family", ["half_equal", "integers"])
@pytest.mark.parametrize("size", [17, 40])
def test_the_bits_of_the_reference(small_blocks, walked, family, size, device):
    real, fake = sets(family=family)
    how = {"device": device, "memory": small_blocks(size, k=5)}
    ties = "open" if size == 40 else "closed"
    given = {"real": real, "fake": fake, "k": [1, 5], "ties": ties}
    found = fastgen.membership(**given, **how)
    assert_same_bits(found, reference.membership(**given))
    assert len(walked) > 8
    assert max(stop - start for pair in walked for start, stop in pair) <= size
    how["memory"] = small_blocks(size, k=7)
    found = fastgen.knn_radii(real, [2, 7], **how)
    assert_same_bits(found, reference.knn_radii(real, [2, 7]))
    for x, y in ((real, None), (real, fake), (real, real)):
        found = fastgen.nearest(x, y, k=[1, 7], **how)
        assert_same_bits(found, reference.nearest(x, y, k=[1, 7]))


@pytest.mark.parametrize("size", [3, 5])
def test_blocks_smaller_than_k(small_blocks, size):
    x, y = sets(11, 9, 20)
    how = {"device": "cuda", "memory": small_blocks(size, k=8)}
    assert_same_bits(fastgen.nearest(x, k=8, **how), reference.nearest(x, k=8))
    assert_same_bits(fastgen.nearest(x, y, k=8, **how), reference.nearest(x, y, k=8))
    assert_same_bits(fastgen.knn_radii(x, 8, **how), reference.knn_radii(x, 8))
    options = {"real": x, "fake": y, "k": 8}
    assert_same_bits(fastgen.prdc(**options, **how), reference.prdc(**options))


@pytest.mark.parametrize("path", ["int8", "float32", "scan", "direct"])
def test_every_path(small_blocks, path):
    x, y = sets(60, 50, 10)
    how = {"device": "cuda", "memory": small_blocks(17, d=10, k=3), "path": path}
    expected = reference.sq_nearest(x, y, k=3)
    assert_same_bits(pairwise.sq_knn(x, y, 3, indices=True, **how), expected)


def test_arrays_on_the_device_are_cut_into_blocks_there(small_blocks, walked):
    real, fake = sets(dtype="float16")
    budget = small_blocks(25, itemsize=2, k=3)
    found = fastgen.membership(real=Packed(real), fake=Packed(fake), k=3, memory=budget)
    assert_same_bits(found, reference.membership(real=real, fake=fake, k=3))
    assert len(walked) > 8


@pytest.mark.parametrize("device", ["cuda", "cuda:all"])
def test_sets_that_are_in_different_places(small_blocks, device):
    real, fake = sets()
    how = {"device": device, "memory": small_blocks(25, k=3), "k": 3}
    expected = reference.membership(real=real, fake=fake, k=3)
    for first, second in ((Packed(real), fake), (real, Packed(fake)), (Packed(real), Packed(fake))):
        assert_same_bits(fastgen.membership(real=first, fake=second, **how), expected)
    # Rows that an earlier call has left on a GPU, in a stream of its own.
    x, y = Rows(real), Rows(fake)
    pairwise.sq_knn(x, device="cuda")
    pairwise.sq_knn(y, device=f"cuda:{max(backend.gpus())}")
    found = pairwise.sq_knn(x, y, 3, indices=True, device=device, memory=how["memory"])
    assert_same_bits(found, reference.sq_nearest(real, fake, k=3))


def test_mapped_files_and_any_row_stride(small_blocks, tmp_path):
    real, fake = sets(dtype="float64")
    np.save(tmp_path / "real.npy", real)
    how = {"device": "cuda", "memory": small_blocks(25, itemsize=8, k=3)}
    found = fastgen.prdc(real=tmp_path / "real.npy", fake=fake[::-1], k=3, **how)
    assert_same_bits(found, reference.prdc(real=real, fake=fake[::-1], k=3))


def test_bad_numbers_are_named(small_blocks):
    real, fake = sets()
    fake[33, 3] = np.nan
    text = "^prdc: expected `fake` to be finite, got nan in row 33, column 3"
    with pytest.raises(ValueError, match=text):
        fastgen.prdc(real=real, fake=fake, device="cuda", memory=small_blocks(20, k=5))


def test_progress_and_counters(small_blocks):
    x, _ = sets()
    told: list[float] = []
    counters: dict[str, int] = {}
    how = {"device": "cuda", "memory": small_blocks(20, k=2)}
    pairwise.sq_knn(x, k=2, progress=told.append, counters=counters, **how)
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert len(told) >= 9
    assert counters["pairs"] > 0


def test_an_interrupt_ends_the_walk(small_blocks):
    x, _ = sets(120)

    def stop(fraction):
        if fraction > 0.3:
            raise KeyboardInterrupt

    for device in ("cuda", "cuda:all"):
        with pytest.raises(KeyboardInterrupt):
            fastgen.knn_radii(x, device=device, progress=stop, memory=small_blocks(30, k=3))
        assert_same_bits(fastgen.knn_radii(x, device=device), reference.knn_radii(x))
    names = [thread.name for thread in threading.enumerate()]
    assert len(names) == 1, names


def test_a_budget_that_is_too_small_says_what_is_enough(monkeypatch):
    monkeypatch.setattr(gpu_plan, "FIXED_BYTES", 1 << 20)
    monkeypatch.setattr(gpu_plan, "LEAST_ROWS", 50)
    x, _ = sets(200)
    text = r"^knn_radii: expected `memory` of at least \d+ bytes for this input, got 1000; "
    with pytest.raises(ValueError, match=text) as caught:
        fastgen.knn_radii(x, device="cuda", memory=1000)
    enough = re.search(r'memory="(.*)" is enough', str(caught.value))[1]
    assert_same_bits(fastgen.knn_radii(x, device="cuda", memory=enough), reference.knn_radii(x))


def test_too_little_free_memory_says_how_much_was_needed(monkeypatch):
    monkeypatch.setattr(gpu_plan, "FIXED_BYTES", 1 << 60)
    x, _ = sets(200)
    text = r"^knn_radii: needs \d+ bytes of the memory of cuda:0, where \d+ are free"
    with pytest.raises(MemoryError, match=text):
        fastgen.knn_radii(x, device="cuda")


class Memory:
    """Says how much is free, in place of the module's devices."""

    def __init__(self, monkeypatch, free):
        module = backend.cuda()
        self.free = free
        pretended = types.ModuleType("fastgen_measured")
        pretended.__dict__.update(vars(module))
        pretended.free_memory = lambda device: self.free
        monkeypatch.setitem(backend._cuda_modules, "fastgen_measured", pretended)
        monkeypatch.setenv("FASTGEN_CUDA_MODULE", "fastgen_measured")


def test_what_fits_in_no_block_is_not_tried_as_a_whole(monkeypatch, walked):
    monkeypatch.setattr(gpu_plan, "LEAST_ROWS", 50)
    monkeypatch.setattr(gpu_plan, "FIXED_BYTES", 1 << 20)
    x, _ = sets(200)
    size = JoinSize((200,), 200, 20, 4, 5)
    least, whole = size.least_bytes(), size.bytes_needed()
    assert whole > 1.1 * least
    memory = Memory(monkeypatch, int(1.03 * least))  # a sixteenth of which is left to others
    text = r"^knn_radii: needs (\d+) bytes of the memory of cuda:0, where (\d+) are free$"
    with pytest.raises(MemoryError, match=text) as caught:
        fastgen.knn_radii(x, k=5, device="cuda")
    needed, free = map(int, re.search(text, str(caught.value)).groups())
    assert free < needed == least
    memory.free = -(-least * 16 // 15)
    assert_same_bits(fastgen.knn_radii(x, k=5, device="cuda"), reference.knn_radii(x, k=5))
    assert len(walked) > 4


@pytest.mark.parametrize("enough", [False, True])
@pytest.mark.parametrize("library", ["torch", "cupy"])
def test_caches_of_libraries_are_given_back_first(monkeypatch, walked, library, enough):
    x, _ = sets(200)
    memory = Memory(monkeypatch, 2 * JoinSize((200,), 200, 20, 4, 5).bytes_needed())
    less = 1 << 20
    asked = []

    def release():
        asked.append(library)
        if enough:
            memory.free = whole

    @contextlib.contextmanager
    def current(index=0):
        yield SimpleNamespace(id=index)

    if library == "torch":
        cuda = SimpleNamespace(empty_cache=release, is_initialized=lambda: True)
        cuda.current_device = lambda: 0
        fake = SimpleNamespace(cuda=cuda)
    else:
        fake = SimpleNamespace(cuda=SimpleNamespace(Device=current))
        fake.get_default_memory_pool = lambda: SimpleNamespace(free_all_blocks=release)
    for name in ("torch", "cupy"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, library, fake)
    whole, how = memory.free, {"k": 5, "device": "cuda:0"}
    fastgen.knn_radii(x, **how)
    assert asked == []  # there was enough
    memory.free = less
    if enough:
        assert_same_bits(fastgen.knn_radii(x, **how), reference.knn_radii(x, k=5))
    else:
        with pytest.raises(MemoryError):
            fastgen.knn_radii(x, **how)
    assert asked == [library]
    assert walked == []
    memory.free = less
    with pytest.raises(ValueError, match="expected `memory` of at least"):  # no lack of free memory
        fastgen.knn_radii(x, memory=less // 2, **how)
    assert asked == [library]


# --- the pieces -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "size"), [(1, 1), (10, 10), (10, 9), (10, 3), (7, 1)])
def test_blocks_cover_every_row(n, size):
    x = Rows(np.zeros((n, 2)))
    parts = blocks.blocks_of(x, size)
    assert [part.start for part in parts] == [0, *(part.stop for part in parts[:-1])]
    assert parts[-1].stop == n
    assert max(part.stop - part.start for part in parts) <= size
    assert len(parts) == -(-n // size)


def test_each_pair_has_a_block_of_the_pair_before():
    x = blocks.blocks_of(Rows(np.zeros((9, 2))), 2)
    y = blocks.blocks_of(Rows(np.zeros((7, 2))), 2)
    pairs = list(blocks.walk(x, y))
    assert len({(a.key, b.key) for a, b in pairs}) == len(x) * len(y) == len(pairs)
    for before, after in itertools.pairwise(pairs):
        assert {before[0].key, before[1].key} & {after[0].key, after[1].key}


def test_calls_side_by_side():
    told: list[float] = []

    def call(place):
        def run(tell):
            tell(place / 4)
            return place

        return run

    assert side_by_side([call(place) for place in range(4)], told.append) == [0, 1, 2, 3]
    assert all(0 <= fraction <= 1 for fraction in told)

    ended = []

    def failing(tell):
        raise ValueError("this one")

    def endless(tell):
        try:
            while True:
                tell(0.0)
        except StoppedError:
            ended.append(True)
            raise

    with pytest.raises(ValueError, match="this one"):
        side_by_side([endless, failing, endless], told.append)
    assert ended == [True, True]
    waiting = Pending(lambda check: [check() for _ in iter(int, 1)])
    waiting.stop()
    with pytest.raises(StoppedError):
        waiting.result()
