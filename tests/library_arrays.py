"""Arrays on a device for tests of what runs in the arrays' own library.

On a GPU where there is one. Where there is none, arrays in CPU memory are taken for arrays on a
device: everything but the device itself is the same.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastgen import namespaces

# JAX compiles for minutes, and takes three quarters of a GPU's memory at once: `make test-gpu` asks
# for the other two.
_WANTED = os.environ.get("FASTGEN_TEST_LIBRARIES", "torch,cupy,jax").split(",")

#: Those that are installed; torch where none is, so that something is said to be skipped.
LIBRARIES = [name for name in _WANTED if importlib.util.find_spec(name)] or ["torch"]


class Library:
    """A library of arrays, for one test.

    Parameters
    ----------
    name : str
        One of `LIBRARIES`; the test is skipped where it is not there.
    monkeypatch : pytest.MonkeyPatch
        Of the test.
    """

    def __init__(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.name = name
        self.module = pytest.importorskip(name)
        self.has_gpu = _gpus(name, self.module) > 0
        if name == "jax":
            self.module.config.update("jax_enable_x64", True)
        if not self.has_gpu:
            if name == "cupy":
                pytest.skip("needs a GPU")
            kind = self.module.Tensor if name == "torch" else self.module.Array
            monkeypatch.setattr(namespaces, "is_on_device", lambda value: isinstance(value, kind))

    def __call__(self, array: Any, dtype: str | None = None) -> Any:
        """Copy an array to the device, as a dtype of the library."""
        array = np.array(array)
        if self.name == "torch":
            there = self.module.asarray(array, device="cuda" if self.has_gpu else "cpu")
            return there if dtype is None else there.to(getattr(self.module, dtype))
        make = self.module.numpy.asarray if self.name == "jax" else self.module.asarray
        there = make(array)
        return there if dtype is None else there.astype(dtype)

    @property
    def device(self) -> str:
        """What arrays of it say of where they are."""
        return "cuda:0" if self.has_gpu else "cpu"


def _gpus(name: str, module: Any) -> int:
    try:
        if name == "torch":
            return int(module.cuda.device_count())
        if name == "cupy":
            return int(module.cuda.runtime.getDeviceCount())
        return len(module.devices("gpu"))
    except RuntimeError:
        return 0


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Library:
    """Return each library in turn."""
    return Library(request.param, monkeypatch)


def refuse(*arguments: object, **options: object) -> Any:
    """Fail: what stands in for a function that is not to be called."""
    raise AssertionError("was called")


def stopping(at: float) -> Callable[[float], None]:
    """Return a progress callback that interrupts when so much is done."""

    def stop(done: float) -> None:
        if done >= at:
            raise KeyboardInterrupt

    return stop
