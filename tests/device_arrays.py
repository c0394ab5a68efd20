"""Arrays in the memory of a GPU that belong to no library: what the tests of device arrays pass.

The memory is that of rows that the compiled module has uploaded, so it is a real GPU's or the host
emulator's, whichever is loaded. What an array holds is still being made when it is handed out: the
work waits in the array's own stream, and whoever does not ask for it reads rubbish.
"""

from __future__ import annotations

import ctypes
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from fastgen import backend

Array = npt.NDArray[Any]
CUDA = 2  # DLPack's number
_CODES = {"i": 0, "u": 1, "f": 2, "bfloat16": 4, "c": 5, "b": 6}


class _Device(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int32), ("index", ctypes.c_int32))


class _DType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _DType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _Managed(ctypes.Structure):
    _fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p))


class _Versioned(ctypes.Structure):
    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    )


class Memory:
    """Bytes on a device, which a kernel in `stream` is still writing."""

    def __init__(self, content: bytes, device: int, stream: int | None = None) -> None:
        module = backend.cuda()
        self.device = device
        self.stream = module.Stream(device, stream)
        content += bytes(8 - len(content) % 8)
        words = np.frombuffer(content, dtype=np.float64)
        uploaded = module.Rows.from_host(words[np.newaxis], self.stream)
        self.rows = uploaded.picked(np.zeros(1, dtype=np.int64))
        self.pointer = self.rows.pointer


class DeviceArray:
    """What every one of them has; `array` says shape, strides and numbers."""

    def __init__(
        self, array: Array, device: int = 0, dtype: str = "", stream: int | None = None
    ) -> None:
        whole = array
        while isinstance(whole.base, np.ndarray):
            whole = whole.base
        if not whole.flags.c_contiguous:  # of Fortran order: its transpose is contiguous
            whole = whole.T
        self.memory = Memory(whole.tobytes(), device, stream)
        start = array.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
        self.array = array
        self.pointer = self.memory.pointer + start
        self.name = dtype or array.dtype.name

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> str:
        return self.name

    @property
    def device(self) -> str:
        return f"cuda:{self.memory.device}"


class Interface(DeviceArray):
    """Speaks ``__cuda_array_interface__``.

    `stream` is "own", "none" (nothing is to be waited for), "default" (of which None is said, as
    Numba does) or "unsaid".
    """

    def __init__(self, array: Array, device: int = 0, stream: str = "own", **extra: Any) -> None:
        super().__init__(array, device, stream=1 if stream == "default" else None)
        self.extra = extra
        self.says = stream
        if stream == "none":
            self.memory.stream.synchronize()

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        contiguous = self.array.flags.c_contiguous
        described = {
            "shape": self.array.shape,
            "typestr": self.array.dtype.str,
            "data": (self.pointer, False),
            "strides": None if contiguous else self.array.strides,
            "version": 2 if self.says == "unsaid" else 3,
        }
        if self.says != "unsaid":
            silent = self.says in ("none", "default")
            described["stream"] = None if silent else self.memory.stream.handle
        return described | self.extra


class Packed(DeviceArray):
    """Speaks DLPack; remembers the streams that it was asked for."""

    versioned = False
    major = 1
    # What torch does, and with it why callers have to make the array's device current.
    only_current = True
    code: int | None = None  # DLPack's number of the dtype; None: the array's

    def __init__(self, array: Array, device: int = 0, dtype: str = "") -> None:
        super().__init__(array, device, dtype)
        self.streams: list[Any] = []
        self.released = 0

    def __dlpack_device__(self) -> tuple[int, int]:
        return CUDA, self.memory.device

    def __dlpack__(self, *, stream: Any = None) -> Any:
        module = backend.cuda()
        self.streams.append(stream)
        current = module.current_device()
        if self.only_current and current != self.memory.device:
            raise BufferError(f"Expected: {self.memory.device}. Current device: {current}.")
        if not isinstance(stream, int) or stream < 1:
            raise ValueError(f"no stream of CUDA: {stream}")
        if stream != self.memory.stream.handle:
            module.Stream(self.memory.device, stream).wait_for(self.memory.stream)
        return self._capsule()

    def _capsule(self) -> Any:
        integers = ctypes.c_int64 * self.array.ndim
        size = self.array.dtype.itemsize
        shape = integers(*self.array.shape)
        strides = integers(*(stride // size for stride in self.array.strides))
        code = _CODES["bfloat16" if self.name == "bfloat16" else self.array.dtype.kind]
        code = code if self.code is None else self.code
        plain = self.array.flags.c_contiguous
        tensor = _Tensor(
            data=self.pointer - 64,
            device=_Device(CUDA, self.memory.device),
            ndim=self.array.ndim,
            dtype=_DType(code, 8 * size, 1),
            shape=shape,
            strides=None if plain else strides,
            byte_offset=64,
        )
        release = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)

        def deleter(_: int) -> None:
            self.released += 1
            kept.clear()

        managed: Any
        called = release(deleter)
        pointer = ctypes.cast(called, ctypes.c_void_p)
        if self.versioned:
            managed = _Versioned(major=self.major, minor=0, deleter=pointer, tensor=tensor)
        else:
            managed = _Managed(tensor=tensor, deleter=pointer)
        kept = [self, shape, strides, tensor, managed, called]
        name = b"dltensor_versioned" if self.versioned else b"dltensor"
        return _capsule_of(managed, name, called)


def _capsule_of(managed: Any, name: bytes, deleter: Any) -> Any:
    """Return a capsule that lets the tensor go unless a consumer has renamed it."""
    api = ctypes.pythonapi
    destroy = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
    api.PyCapsule_IsValid.argtypes = ctypes.c_void_p, ctypes.c_char_p
    api.PyCapsule_New.restype = ctypes.py_object
    api.PyCapsule_New.argtypes = ctypes.c_void_p, ctypes.c_char_p, destroy
    address = ctypes.addressof(managed)

    def destructor(capsule: int) -> None:
        if api.PyCapsule_IsValid(capsule, name):
            deleter(address)

    callback = destroy(destructor)
    _CALLED.append((callback, managed))
    return api.PyCapsule_New(address, name, callback)


# Callbacks must outlive their last call, and so the capsules.
_CALLED: list[Any] = []


class Versioned(Packed):
    """Gives out DLPack's newer capsule."""

    versioned = True


class Named(Packed):
    """Has a library, which makes arrays on the device that it is told."""

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        return LIBRARY


class Made(SimpleNamespace):
    """What `Named`'s library made."""

    def tolist(self) -> list[Any]:
        return self.values.tolist()


def _asarray(values: Array, *, device: str) -> Made:
    return Made(values=values, device=device)


LIBRARY = ModuleType("library")
LIBRARY.asarray = _asarray  # type: ignore[attr-defined]
