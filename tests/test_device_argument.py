"""Where a call computes: the `device` argument, and what is said where there is no such device.

No GPU is needed: the module that computes on GPUs is replaced by one that only says what is there.
"""

from __future__ import annotations

import os
import re
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import fastgen
from fastgen import backend
from fastgen.devices import Target, as_target

X = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)


def fails(error, text):
    return pytest.raises(error, match="^" + re.escape(text))


class OnDevice:
    """An array of another library on a GPU, that nobody gets to read."""

    def __init__(self, index=0, kind=2, shape=(6, 4)):
        self.index, self.kind, self.shape = index, kind, shape

    def __dlpack_device__(self):
        return self.kind, self.index

    def __dlpack__(self, **options):
        raise AssertionError("read")


class OfTorch(OnDevice):
    pass


OfTorch.__module__ = "torch.cuda"


class Described:
    """The same, by the other protocol."""

    @property
    def __cuda_array_interface__(self):
        return {"shape": (6, 4), "typestr": "<f4", "data": (16, False)}


@pytest.fixture
def without_module(monkeypatch):
    """As in a build without a CUDA compiler."""
    monkeypatch.setenv("FASTGEN_CUDA_MODULE", "fastgen._nothing")


def pretend(monkeypatch, reason="", indices=()):
    """Put a module in the place of the compiled one that knows of these devices."""
    module = ModuleType("fastgen_pretended")
    module.devices = lambda: [{"index": i, "name": f"GPU {i}"} for i in indices]
    module.why_no_device = lambda: reason
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(backend._cuda_modules, module.__name__, module)
    monkeypatch.setenv("FASTGEN_CUDA_MODULE", module.__name__)


# --- nothing there --------------------------------------------------------------------------------


def test_info_answers_without_a_module(without_module):
    assert fastgen.info().gpus == ()
    with pytest.raises(fastgen.BackendUnavailableError, match=r"made without nvcc 12\.4 or newer"):
        backend.cuda()


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "CUDA:3", "cuda:all"])
def test_no_module(without_module, device):
    text = f"prdc: expected `device` \"cpu\" or None, got '{device}'; this build has no GPU backend"
    with fails(fastgen.BackendUnavailableError, text):
        fastgen.prdc(real=X, fake=X, k=1, device=device)
    text = "prdc: expected `fake` in CPU memory, got an array on device cuda:1; this build has no "
    with fails(fastgen.BackendUnavailableError, text + "GPU backend: it was made without nvcc"):
        fastgen.prdc(real=X, fake=OnDevice(1), k=1)


def test_a_module_that_cannot_be_loaded(monkeypatch, tmp_path):
    (tmp_path / "fastgen_broken.py").write_text("raise ImportError('undefined symbol: cudaFree')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("FASTGEN_CUDA_MODULE", "fastgen_broken")
    text = "the GPU backend cannot be loaded (undefined symbol: cudaFree)"
    with fails(
        fastgen.BackendUnavailableError,
        f"mmd: expected `device` \"cpu\" or None, got 'cuda'; {text}",
    ):
        fastgen.mmd(X, X, device="cuda")
    assert fastgen.info().gpus == ()


REASONS = (
    "the NVIDIA driver is missing or too old",
    "the NVIDIA driver shows no GPU",
    "no GPU here has compute capability 8.0 or newer",
)


@pytest.mark.parametrize("reason", REASONS)
def test_a_module_without_a_gpu(monkeypatch, reason):
    pretend(monkeypatch, reason)
    said = f"no GPU can be used here: {reason}"
    text = f"kid: expected `device` \"cpu\" or None, got 'cuda:0'; {said}"
    with fails(fastgen.BackendUnavailableError, text):
        fastgen.kid(real=X, fake=X, device="cuda:0")
    for value, where in ((OnDevice(), "device cuda:0"), (Described(), "a CUDA device")):
        text = f"knn_radii: expected `x` in CPU memory, got an array on {where}; {said}; copy it to"
        with fails(fastgen.BackendUnavailableError, text):
            fastgen.knn_radii(value)
    assert fastgen.info().gpus == ()


@pytest.mark.parametrize("reason", ["", *REASONS])
def test_arrays_on_the_cpu_stay_there_and_nothing_is_said(monkeypatch, capfd, reason):
    pretend(monkeypatch, reason, () if reason else (0,))
    expected = fastgen.prdc(real=X, fake=X, k=1, device="cpu")
    assert fastgen.prdc(real=X, fake=X, k=1) == expected
    assert capfd.readouterr() == ("", "")


def test_a_forked_process_says_why_it_has_no_gpu(monkeypatch):
    pretend(monkeypatch, indices=(0,))
    assert fastgen.info().gpus == ("cuda:0 GPU 0",)
    parent = os.getpid()
    monkeypatch.setattr(backend.os, "getpid", lambda: parent + 1)
    said = "no GPU can be used here: CUDA was initialised before this process was forked; use the "
    assert fastgen.info().gpus == ()
    with fails(fastgen.BackendUnavailableError, f"{said}spawn start method"):
        backend.cuda()
    text = f"prdc: expected `device` \"cpu\" or None, got 'cuda'; {said}spawn start method"
    with fails(fastgen.BackendUnavailableError, text):
        fastgen.prdc(real=X, fake=X, k=1, device="cuda")
    text = f"prdc: expected `real` in CPU memory, got an array on device cuda:0; {said}spawn"
    with fails(fastgen.BackendUnavailableError, text):
        fastgen.prdc(real=OnDevice(), fake=X, k=1)
    assert fastgen.prdc(real=X, fake=X, k=1).precision == 1.0


def test_a_driver_that_comes_later_is_found(monkeypatch):
    pretend(monkeypatch, "the NVIDIA driver shows no GPU")
    assert fastgen.info().gpus == ()
    monkeypatch.setattr(backend.cuda(), "devices", lambda: [{"index": 0, "name": "new"}])
    assert fastgen.info().gpus == ("cuda:0 new",)


# --- what the argument may be ---------------------------------------------------------------------


def test_devices_that_are_there(monkeypatch):
    pretend(monkeypatch, indices=(0, 2))
    assert fastgen.info().gpus == ("cuda:0 GPU 0", "cuda:2 GPU 2")
    torch_like = type("device", (), {"__str__": lambda self: "cuda:2"})()
    cupy_like = type("Device", (), {"__module__": "cupy.cuda.device", "id": 2})()
    jax_like = SimpleNamespace(platform="gpu", id=7, local_hardware_id=2)
    for device, target in (
        (None, Target("arrays")),
        ("cpu", Target("cpu")),
        ("CPU", Target("cpu")),
        ("cuda", Target("gpu")),
        ("cuda:0", Target("gpu", 0)),
        ("cuda:2", Target("gpu", 2)),
        ("cuda:all", Target("gpus")),
        (torch_like, Target("gpu", 2)),
        (cupy_like, Target("gpu", 2)),
        (jax_like, Target("gpu", 2)),
        (SimpleNamespace(platform="cpu", id=0), Target("cpu")),
    ):
        assert as_target("prdc", device) == target
    assert [str(Target("gpu")), str(Target("gpu", 2)), str(Target("gpus"))] == [
        "cuda",
        "cuda:2",
        "cuda:all",
    ]
    text = (
        'prdc: expected `device` to be "cuda:0" or "cuda:2", as the GPUs here are, got \'cuda:1\''
    )
    with fails(fastgen.BackendUnavailableError, text):
        as_target("prdc", "cuda:1")


def test_torch_devices(monkeypatch):
    torch = pytest.importorskip("torch")
    pretend(monkeypatch, indices=(0, 1))
    assert as_target("prdc", torch.device("cpu")) == Target("cpu")
    assert as_target("prdc", torch.device("cuda")) == Target("gpu")
    assert as_target("prdc", torch.device("cuda", 1)) == Target("gpu", 1)


@pytest.mark.parametrize(
    "device", ["tpu", "", "cuda:", "cuda:-1", "cuda:x", "cuda:0:1", "gpu", "mps", 0, True, ["cpu"]]
)
def test_devices_that_nobody_has(device):
    condition = 'to be "cpu", "cuda", "cuda:0", "cuda:all" or None'
    with fails(ValueError, f"prdc: expected `device` {condition}, got {device!r}"):
        fastgen.prdc(real=X, fake=X, k=1, device=device)


@pytest.mark.parametrize("device", ["hip", "rocm:0"])
def test_amd(device):
    with pytest.raises(fastgen.BackendUnavailableError, match=r"no backend for AMD GPUs$"):
        fastgen.prdc(real=X, fake=X, k=1, device=device)


# --- arrays that are elsewhere --------------------------------------------------------------------


def test_the_cpu_does_not_read_arrays_on_a_gpu(monkeypatch):
    pretend(monkeypatch, indices=(0,))
    start = (
        "nearest: expected `y` in CPU memory, got an array on device cuda:0; copy it to the CPU "
    )
    for value, hint in ((OnDevice(), "first"), (OfTorch(), "first with y.cpu()")):
        with fails(fastgen.BackendUnavailableError, start + hint) as caught:
            fastgen.nearest(X, value, device="cpu")
        assert str(caught.value).endswith(hint)


def test_gpus_that_are_too_old_are_told(monkeypatch):
    pretend(monkeypatch, indices=(1,))
    text = "prdc: expected `real` on cuda:1, got an array on cuda:0; other GPUs here are older than"
    with fails(fastgen.BackendUnavailableError, text):
        fastgen.prdc(real=OnDevice(0), fake=OnDevice(0), k=1)


def test_managed_memory_is_cuda_and_others_are_not(monkeypatch):
    pretend(monkeypatch, "none")
    for kind, name in (
        (13, "cuda (managed):0"),
        (10, "rocm:0"),
        (8, "metal:0"),
        (99, "DLPack typ"),
    ):
        text = f"prdc: expected `real` in CPU memory, got an array on device {name}"
        with fails(fastgen.BackendUnavailableError, text):
            fastgen.prdc(real=OnDevice(kind=kind), fake=X, k=1)
