"""Where a call computes when there is a GPU: host arrays, arrays on it, several GPUs, mixtures."""

from __future__ import annotations

import re
import sys
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from checks import assert_same_bits
from device_arrays import Interface, Made, Named, Packed

import fastgen
from fastgen import backend, pairwise
from fastgen import numpy_reference as reference
from fastgen.gpu import Gpu
from fastgen.session import Rows, Session

GPUS = list(backend.gpus())
several = pytest.mark.skipif(len(GPUS) < 2, reason="needs two devices")


def rows(n=40, d=12, dtype="float32"):
    return np.random.default_rng(n * d).standard_normal((n, d)).astype(dtype)


X, Y = rows(40), rows(30)


def fails(error, text):
    return pytest.raises(error, match="^" + re.escape(text))


@pytest.fixture
def used(monkeypatch):
    """Record the devices of every call that computes on GPUs."""
    found = []
    begin = Gpu.__init__

    def listen(self, function, devices, *options):
        found.append(list(devices))
        begin(self, function, devices, *options)

    monkeypatch.setattr(Gpu, "__init__", listen)
    return found


def test_info_names_the_devices():
    assert len(fastgen.info().gpus) == len(GPUS)
    assert fastgen.info().gpus[0].startswith(f"cuda:{GPUS[0]} ")


def test_host_arrays_go_where_they_are_told_and_give_numpy_arrays(used, tmp_path):
    expected = reference.knn_radii(X)
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert_same_bits(fastgen.knn_radii(X), expected)
    assert_same_bits(fastgen.knn_radii(X, device="cpu"), expected)
    assert used == []
    for value in (X, mapped, tmp_path / "x.npy", X[::-1][::-1], X.astype(float).astype("f4")):
        assert_same_bits(fastgen.knn_radii(value, device="cuda"), expected)
    assert used == [GPUS[:1]] * 5
    for index in GPUS:
        assert_same_bits(fastgen.knn_radii(X, device=f"cuda:{index}"), expected)
        assert used[-1] == [index]
    assert_same_bits(fastgen.knn_radii(X, device="cuda:all"), expected)
    assert used[-1] == GPUS


@several
def test_host_arrays_go_to_the_current_device(monkeypatch, used):
    second = GPUS[1]
    expected = reference.knn_radii(X)
    with backend.cuda().CurrentDevice(second):
        assert_same_bits(fastgen.knn_radii(X, device="cuda"), expected)
        fastgen.knn_radii(X, device="cuda:0")
        fastgen.knn_radii(Packed(X, GPUS[0]), device="cuda")
    assert used == [[second], GPUS[:1], GPUS[:1]]
    used.clear()
    # torch and CuPy know best where their users compute; what they do not know is CUDA's.
    for begun, index in ((True, [second]), (False, GPUS[:1])):
        cuda = SimpleNamespace(is_initialized=partial(bool, begun), current_device=lambda: second)
        monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
        monkeypatch.delitem(sys.modules, "cupy", raising=False)
        fastgen.knn_radii(X, device="cuda")
        assert used.pop() == index
    cuda = SimpleNamespace(Device=lambda: SimpleNamespace(id=second))
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=cuda))
    fastgen.knn_radii(X, device="cuda:all")
    assert used.pop() == [second, *(index for index in GPUS if index != second)]
    cuda.Device = lambda: SimpleNamespace(id=99)  # too old for us, say
    fastgen.knn_radii(X, device="cuda")
    assert used.pop() == GPUS[:1]


def test_arrays_on_a_device_are_computed_there(used):
    for index in GPUS:
        for kind in (Packed, Interface):
            found = fastgen.prdc(real=kind(X, index), fake=kind(Y, index), k=2)
            assert_same_bits(found, reference.prdc(real=X, fake=Y, k=2))
            assert used.pop() == [index]
            found = fastgen.prdc(real=kind(X, index), fake=kind(Y, index), k=2, device="cuda")
            assert used.pop() == [index]
    assert used == []


def test_one_array_may_be_on_the_host_if_device_says_where_to_go():
    index = GPUS[0]
    expected = reference.nearest(X, Y)
    for device in ("cuda", f"cuda:{index}", "cuda:all"):
        found = fastgen.nearest(Named(X), Y, device=device)
        assert isinstance(found.distances, Made)
        assert_same_bits(found.indices.values, expected.indices)
        found = fastgen.nearest(X, Packed(Y), device=device)
        assert_same_bits(found, expected)
    text = f"nearest: expected `y` on cuda:{index} like `x`, got an array in CPU memory; "
    with fails(ValueError, text + f'device="cuda:{index}" copies it there'):
        fastgen.nearest(Packed(X), Y)
    text = f"nearest: expected `x` on cuda:{index} like `y`, got an array in CPU memory; "
    with fails(ValueError, text):
        fastgen.nearest(X, Packed(Y))
    with fails(ValueError, "mmd: expected `y` on cuda:0 like `x`, got an array in CPU memory; "):
        fastgen.mmd(Packed(X), Y)


def test_the_cpu_does_not_take_arrays_on_a_device():
    text = "prdc: expected `fake` in CPU memory, got an array on device cuda:0; copy it to the CPU"
    with fails(fastgen.BackendUnavailableError, text):
        fastgen.prdc(real=X, fake=Packed(Y), device="cpu")
    with Session("here") as session:
        held = session.rows("x", Packed(X))
        session.check_values(held)
    text = "sq_knn: expected `x` in CPU memory, got an array on cuda:0; copy it to the CPU first"
    with fails(fastgen.BackendUnavailableError, text):
        pairwise.sq_knn(held, device="cpu")


@several
def test_arrays_on_two_devices_do_not_go_together():
    first, second = GPUS[:2]
    for kind in (Packed, Interface):
        text = f"prdc: expected `fake` on cuda:{first} like the other array, got an array on cuda:"
        with fails(ValueError, f"{text}{second}; copy one of them"):
            fastgen.prdc(real=kind(X, first), fake=kind(Y, second))
    text = (
        f"prdc: expected `real` on cuda:{second} as `device` has it, got an array on cuda:{first}"
    )
    with fails(ValueError, f"{text}; copy it there, or leave out `device`"):
        fastgen.prdc(real=Packed(X, first), fake=Packed(Y, first), device=f"cuda:{second}")


@several
@pytest.mark.parametrize("index", [0, 1])
def test_arrays_on_one_device_are_dealt_to_all(used, index):
    first = GPUS[index]
    real, fake = rows(300, 20), rows(250, 20)
    found = fastgen.membership(
        real=Packed(real, first), fake=Packed(fake[::-1], first), device="cuda:all"
    )
    assert_same_bits(found, reference.membership(real=real, fake=fake[::-1]))
    assert used == [[first, *(other for other in GPUS if other != first)]]


@several
def test_sums_are_shared_by_gpus_of_one_kind_only(monkeypatch, used):
    module = backend.cuda()
    unlike = [one | {"minor": one["minor"] + place} for place, one in enumerate(module.devices())]
    monkeypatch.setattr(module, "devices", lambda: unlike)
    streams = []

    def recorded(make):
        def listen(rows, *arguments, **options):
            streams.append(options.get("stream", rows).device)
            return make(rows, *arguments, **options)

        return listen

    for name in ("KernelSums", "LogSums"):
        monkeypatch.setattr(module, name, recorded(getattr(module, name)))
    assert_same_bits(fastgen.mmd(X, Y, device="cuda:all"), fastgen.mmd(X, Y, device="cuda:0"))
    fastgen.log_density(X, Y, bandwidth=3.0, device="cuda:all")
    assert set(streams) == set(GPUS[:1])
    assert used[-1] == GPUS
    streams.clear()
    monkeypatch.setattr(module, "devices", lambda: [unlike[0] | {"index": one} for one in GPUS])
    fastgen.mmd(rows(300), Y, device="cuda:all")
    assert set(streams) == set(GPUS)


def test_a_device_that_is_not_there():
    known = " or ".join(f'"cuda:{index}"' for index in GPUS)
    text = f"prdc: expected `device` to be {known}, as the GPUs here are, got 'cuda:17'"
    with fails(fastgen.BackendUnavailableError, text):
        fastgen.prdc(real=X, fake=Y, device="cuda:17")


def test_paths_of_a_device():
    for path in ("auto", "int8", "float32", "scan", "direct"):
        assert_same_bits(pairwise.sq_knn(X, device="cuda", path=path)[0], pairwise.sq_knn(X)[0])
    text = "sq_knn: expected `path` to be one of auto, int8, float32, scan, direct, got 'tree'"
    with fails(ValueError, text):
        pairwise.sq_knn(X, device="cuda", path="tree")
    with fails(ValueError, 'sq_knn: expected `path` other than "direct" beyond 16 features, got d'):
        pairwise.sq_knn(rows(9, 17), device="cuda", path="direct")
    with fails(
        ValueError, "sq_knn: expected `path` to be one of auto, int8, float32, scan, tree, g"
    ):
        pairwise.sq_knn(X, path="direct")


def test_prepared_rows_serve_several_calls_on_a_device(monkeypatch):
    module, begun = backend.cuda(), []

    class Counted:
        def __getattr__(self, name):
            if name in ("Prepared", "Upload"):
                begun.append(name)
            return getattr(module, name)

    monkeypatch.setitem(backend._cuda_modules, module.__name__, Counted())
    monkeypatch.setenv("FASTGEN_CUDA_MODULE", module.__name__)
    x, y = Rows(X), Rows(Y)
    squares, _ = pairwise.sq_knn(x, k=3, device="cuda")
    radii = np.ascontiguousarray(squares[:, 2])
    counts = pairwise.ball_counts(x, y, radii, device="cuda")
    assert_same_bits(counts, pairwise.ball_counts(X, Y, radii))
    pairwise.sq_knn(y, x, device="cuda")
    assert sorted(begun) == ["Prepared", "Prepared", "Upload", "Upload"]
    # From there on the rows are used in either place.
    assert_same_bits(pairwise.sq_knn(x, k=3)[0], squares)
    assert_same_bits(pairwise.ball_counts(y, x, sq_radii_y=radii), reference_of_y(radii))


def reference_of_y(radii):
    return pairwise.ball_counts(Y, X, sq_radii_y=radii)


def test_rows_of_earlier_calls_meet_new_arrays_in_one_stream():
    x, y = Rows(X), Rows(Y)
    pairwise.sq_knn(x, device="cuda")
    pairwise.sq_knn(y, device="cuda")  # in a stream of its own
    found = pairwise.sq_knn(x, y, 2, indices=True, device="cuda")
    assert_same_bits(found, pairwise.sq_knn(X, Y, 2, indices=True))
    found = pairwise.sq_knn(Packed(X), y, 2, indices=True, device="cuda")
    assert_same_bits(found, pairwise.sq_knn(X, Y, 2, indices=True))
    assert_same_bits(
        pairwise.kernel_sums(x, y, device="cuda"), pairwise.kernel_sums(X, Y, device="cuda")
    )


def test_a_gpu_is_not_looked_for_where_no_array_is_on_one(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("looked for")

    monkeypatch.setattr(backend, "_load_cuda", refuse)
    fastgen.prdc(real=X, fake=Y, k=1)
    fastgen.kid(real=X, fake=Y)
    fastgen.log_density(X, Y, 1.0, weights=np.ones(30))
    assert sys.modules  # nothing was raised
