"""Arrays on a GPU in the order of streams, and for how long they are held."""

from __future__ import annotations

import contextlib
import gc
import sys
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
from checks import assert_same_bits
from device_arrays import Interface, Packed, Versioned

import fastgen
from fastgen import backend
from fastgen.device_rows import Caller


def rows(n=11, d=7):
    return np.random.default_rng(n * d).standard_normal((n, d)).astype(np.float32)


def taken(value):
    return Caller("prdc").rows("real", value)


@pytest.mark.parametrize("said", ["own", "none", "default", "unsaid"])
def test_work_waits_for_the_interface_as_far_as_its_stream_is_told(said):
    x = rows(n=60, d=40)
    for _ in range(20):
        assert_same_bits(taken(Interface(x, stream=said))[:], x)


def test_work_goes_to_the_first_arrays_stream_and_the_others_are_asked_to_come_there():
    x, y = Interface(rows()), Packed(rows(n=9))
    caller = Caller("prdc")
    caller.rows("real", x)
    assert caller.stream.handle == x.memory.stream.handle
    assert_same_bits(caller.rows("fake", y)[:], rows(n=9))
    assert y.streams == [x.memory.stream.handle]
    z = Interface(rows(n=13))
    assert_same_bits(caller.rows("other", z)[:], rows(n=13))


def test_arrays_in_the_default_stream_are_waited_for_in_any_other():
    x = rows(n=60, d=40)
    for _ in range(20):
        caller = Caller("prdc")
        caller.rows("real", Interface(rows()))
        assert_same_bits(caller.rows("fake", Interface(x, stream="default"))[:], x)


def test_libraries_without_a_current_stream_are_asked_for_the_legacy_one():
    x = Packed(rows())
    taken(x)
    assert x.streams == [1]  # DLPack's name for it


class FakeLibrary:
    """Stands for torch, or CuPy, with arrays of its own."""

    def __init__(self, monkeypatch, name, handle):
        self.made_current = []
        self.kind = type("Tensor", (Packed,), {"__module__": f"{name}.core"})
        cuda = SimpleNamespace(current_stream=lambda index: SimpleNamespace(cuda_stream=handle))
        if name == "torch":
            cuda.device = self.current
        else:
            cuda.Device = self.current
            cuda.get_current_stream = lambda: SimpleNamespace(ptr=handle)
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(cuda=cuda))

    @contextlib.contextmanager
    def current(self, index):
        self.made_current.append(index)
        with backend.cuda().CurrentDevice(index):
            yield


@pytest.mark.parametrize("library", ["torch", "cupy"])
def test_the_current_stream_of_torch_and_cupy_is_used(monkeypatch, library):
    ours = backend.cuda().Stream(0)
    for handle, asked in ((0, 1), (1, 1), (ours.handle, ours.handle)):
        fake = FakeLibrary(monkeypatch, library, handle)
        x = fake.kind(rows())
        caller = Caller("prdc")
        assert_same_bits(caller.rows("real", x)[:], rows())
        assert x.streams == [asked]
        assert caller.stream.handle == asked
        assert set(fake.made_current) == {0}


def test_the_current_device_is_left_as_it_was():
    devices = list(backend.gpus())
    module = backend.cuda()
    for current in devices:
        with module.CurrentDevice(current):
            for index in devices:
                taken(Packed(rows(), device=index))
                fastgen.knn_radii(Packed(rows(), device=index))
                assert module.current_device() == current


def test_streams_of_a_thread_are_waited_for_by_one_of_our_own(monkeypatch):
    fake = FakeLibrary(monkeypatch, "cupy", 2)
    x = fake.kind(rows())
    caller = Caller("prdc")
    assert_same_bits(caller.rows("real", x)[:], rows())
    assert caller.stream.handle not in (1, 2)
    assert x.streams == [caller.stream.handle]


class OfLibrary:
    """A stream as torch has it."""

    def __init__(self, ours):
        self.ours, self.cuda_stream = ours, ours.handle


def test_the_librarys_stream_lives_as_long_as_the_rows(monkeypatch):
    fake = FakeLibrary(monkeypatch, "torch", backend.cuda().Stream(0).handle)
    streams = [backend.cuda().Stream(0)]
    streams.append(OfLibrary(streams[0]))
    cuda = SimpleNamespace(current_stream=lambda index: streams[1], device=fake.current)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    found = taken(fake.kind(rows()[:, ::2]))
    ended = weakref.ref(streams[1])
    streams.clear()
    monkeypatch.undo()
    gc.collect()
    assert ended() is not None
    assert_same_bits(found[:], np.ascontiguousarray(rows()[:, ::2]))
    del found
    gc.collect()
    assert ended() is None


@pytest.mark.parametrize("kind", [Packed, Versioned])
def test_tensors_are_let_go_once_and_not_before(kind):
    value = kind(rows(n=30))
    found = taken(value)
    gc.collect()
    assert value.released == 0
    assert_same_bits(found[:], rows(n=30))
    del found
    gc.collect()
    assert value.released == 1


def test_the_callers_array_lives_as_long_as_its_rows():
    found = taken(Interface(rows(n=30)))
    gc.collect()
    assert_same_bits(found[:], rows(n=30))
