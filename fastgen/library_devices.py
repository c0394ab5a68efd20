"""Devices as libraries of arrays know them, and which one the caller asks for."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from fastgen._errors import BackendUnavailableError, fail

#: The word for the host's memory, as `asked_for` returns it.
HOST = "cpu"

_CONDITION = 'to be "cpu", "cuda", "cuda:0", "cuda:all" or None'


@dataclass(frozen=True, eq=False)
class Device:
    """A device, as a library of arrays knows it.

    Attributes
    ----------
    xp : module
        Namespace of the library, of array-api-compat.
    handle : object
        The library's own object, or name, for the device.
    library : str
        "torch", "cupy", "jax" or "numpy".
    name : str
        "cuda:0", whatever the library calls it.
    chosen : bool, default True
        Whether it is the very one that the caller means; False where `device` is "cuda", which
        arrays on a GPU take for their own.
    """

    xp: ModuleType
    handle: Any
    library: str
    name: str
    chosen: bool = True

    def is_same(self, other: Device) -> bool:
        """Tell whether it is the same device of the same library."""
        return (self.library, self.name) == (other.library, other.name)

    def unless(self, there: Device | None) -> Device:
        """Return the GPU that rows are on, if `device` was "cuda"; else this device."""
        if self.chosen or there is None or not there.name.startswith("cuda"):
            return self
        return there

    @contextlib.contextmanager
    def context(self) -> Iterator[None]:
        """Compute on the device, where CuPy then puts its results; tell alike of lack of memory."""
        with self.handle if self.library == "cupy" else contextlib.nullcontext():
            try:
                yield
            except Exception as error:
                if type(error) is MemoryError:  # told already
                    raise
                text = str(error)
                words = "outofmemory", "out of memory", "memoryallocation", "alloc_failed"
                said = f"{type(error).__name__} {text}".lower()
                if any(word in said for word in (*words, "resource_exhausted")):
                    raise MemoryError(f"fastgen: out of memory on {self.name}: {text}") from error
                raise

    def stream(self) -> Any:
        """Return the caller's current stream on the device; None where there are none."""
        cuda = getattr(sys.modules.get(self.library), "cuda", None)
        if self.library == "torch" and self.name.startswith("cuda"):
            return None if cuda is None else cuda.current_stream(self.handle)
        if self.library == "cupy" and cuda is not None:
            with self.context():
                return cuda.get_current_stream()
        return None

    def upload(self, array: npt.NDArray[Any]) -> Any:
        """Copy a NumPy array to the device.

        Parameters
        ----------
        array : ndarray
            Of a dtype that `arrays.as_rows` returns, or int64.

        Returns
        -------
        array
            Of the library, with the same dtype. It may share the memory of `array` if that is the
            device's.
        """
        array = np.ascontiguousarray(array)
        if self.library == "jax":  # which may still read it after the call
            return sys.modules["jax"].device_put(array.copy(), self.handle)
        if not array.flags.writeable:  # of which torch warns
            array = array.copy()
        return self.xp.asarray(array, device=self.handle)

    def floats(self, array: Any, *, copy: bool = False) -> Any:
        """Return an array of the library in float64, the elements of a row side by side.

        Parameters
        ----------
        array : array
            Of the library.
        copy : bool, default False
            Whether it has to be a new array.

        Returns
        -------
        array, float64
            The same numbers.
        """
        wide = self.xp.astype(array, self.xp.float64, copy=copy)
        if self.library == "torch":
            return wide.contiguous()
        return wide if self.library == "jax" else self.xp.ascontiguousarray(wide)

    def zeros(self, *shape: int) -> Any:
        """Return zeros of float64."""
        return self.xp.zeros(shape, dtype=self.xp.float64, device=self.handle)


def context(device: Device | None) -> AbstractContextManager[Any]:
    """Return what to compute in, on a device or the CPU.

    Parameters
    ----------
    device : Device or None
        None for the CPU.

    Returns
    -------
    context manager
        In which a device without memory left raises a MemoryError.
    """
    return contextlib.nullcontext() if device is None else device.context()


def asked_for(function: str, device: object) -> Device | str | None:
    """Validate the `device` argument of a function that computes in libraries of arrays.

    Parameters
    ----------
    function : str
        Named in messages.
    device : None, str or device object
        None; "cpu"; "cuda" or "cuda:1", which torch or CuPy has to see. "cuda:all" is the same as
        "cuda": one GPU does.

    Returns
    -------
    None, str or Device
        None for wherever the arrays are; `HOST`; the device.

    Raises
    ------
    BackendUnavailableError
        If there is no such device, or no library for it.
    ValueError
        If no such kind of device exists.

    Examples
    --------
    >>> from fastgen.library_devices import asked_for
    >>> asked_for("fid", "cpu"), asked_for("fid", None)
    ('cpu', None)
    """
    if device is None:
        return None
    name = device.lower() if isinstance(device, str) else name_of(device)
    if name == HOST:
        return HOST
    match = re.fullmatch(r"cuda(?::(\d+|all))?", name)
    if match is None:
        if name.split(":")[0] in ("hip", "rocm"):
            hint, error = "torch calls AMD GPUs cuda", BackendUnavailableError
            fail(function, "device", _CONDITION, repr(device), hint, error=error)
        fail(function, "device", _CONDITION, repr(device))
    index = None if match[1] in (None, "all") else int(match[1])
    found = first_gpu(index)
    if isinstance(found, str):
        error = BackendUnavailableError
        fail(function, "device", '"cpu" or None', repr(device), found, error=error)
    return found if index is not None else replace(found, chosen=False)


def device_named(library: str, name: str) -> Device | str:
    """Return a device by what `Device` calls it and its library.

    Parameters
    ----------
    library : str
        "torch", "cupy" or "jax".
    name : str
        "cuda:0"; "cuda" is the library's current one.

    Returns
    -------
    Device or str
        It, or why there is none.

    Examples
    --------
    >>> from fastgen.library_devices import device_named
    >>> isinstance(device_named("torch", "cuda:1000"), str)
    True
    """
    import array_api_compat

    word = {"cupy": "CuPy"}.get(library, library)
    if library not in sys.modules and importlib.util.find_spec(library) is None:
        return f"{word} is not installed"
    kind, _, number = name.partition(":")
    try:
        module = importlib.import_module(library)
        numpy_like = module.numpy if library == "jax" else module
        xp = array_api_compat.array_namespace(numpy_like.zeros(0))
        if kind == HOST:
            return Device(xp, numpy_like.zeros(0).device, library, HOST)
        known = _gpus(library, module)
        if not known:
            return f"{word} {module.__version__} sees no GPU"
        index = int(number) if number else _current_gpu(library, module)
        if index not in known:
            return f"{word} sees " + " and ".join(f"cuda:{one}" for one in known)
    except Exception as error:  # what a broken driver or library shows as is nearly any kind
        reason = str(error).split("\n")[0]
        return f"{word} cannot be used ({reason})"
    return Device(xp, known[index], library, f"cuda:{index}")


def first_gpu(index: int | None) -> Device | str:
    """Return a GPU in the first of torch and CuPy that sees it.

    Parameters
    ----------
    index : int or None
        Of the GPU; None takes the library's current one.

    Returns
    -------
    Device or str
        It, or what each of the two lacks.
    """
    name, reasons = "cuda" if index is None else f"cuda:{index}", []
    # A library that the program uses already is there at no cost.
    for library in sorted(("torch", "cupy"), key=lambda library: library not in sys.modules):
        found = device_named(library, name)
        if isinstance(found, Device):
            return found
        reasons.append(found)
    return ", ".join(reasons)


def release_caches(gpus: Iterable[int]) -> None:
    """Let torch and CuPy give back the GPUs' memory that they keep for later.

    Parameters
    ----------
    gpus : iterable of int
        CUDA's indices.
    """
    torch, cupy = (sys.modules.get(name) for name in ("torch", "cupy"))
    if torch is not None:
        with contextlib.suppress(Exception):  # of a library that does not work here
            if torch.cuda.is_initialized():
                torch.cuda.empty_cache()
    if cupy is not None:
        with contextlib.suppress(Exception):
            for index in gpus:
                with cupy.cuda.Device(index):  # the one whose memory is meant
                    cupy.get_default_memory_pool().free_all_blocks()


def current_gpu() -> int | None:
    """Return the GPU that a library in use computes on unless told otherwise.

    Returns
    -------
    int or None
        torch's or CuPy's current one; None where neither has one.
    """
    for library in ("torch", "cupy"):
        module = sys.modules.get(library)
        if module is not None:
            with contextlib.suppress(Exception):  # of a library that does not work here
                if library == "cupy" or module.cuda.is_initialized():
                    return _current_gpu(library, module)
    return None


def _gpus(library: str, module: Any) -> dict[int, Any]:
    if library == "torch":
        return {i: module.device("cuda", i) for i in range(module.cuda.device_count())}
    if library == "cupy":
        return {i: module.cuda.Device(i) for i in range(module.cuda.runtime.getDeviceCount())}
    return {one.local_hardware_id: one for one in module.devices("gpu")}


def _current_gpu(library: str, module: Any) -> int:
    if library == "torch":
        return int(module.cuda.current_device())
    return int(module.cuda.Device().id) if library == "cupy" else 0


def name_of(handle: Any) -> str:
    """Name a device of a library as torch does.

    Parameters
    ----------
    handle : object
        The library's own object, or name, for it.

    Returns
    -------
    str
        "cpu", "cuda:0" and the like.
    """
    if type(handle).__module__.partition(".")[0] == "cupy":
        return f"cuda:{handle.id}"
    platform = getattr(handle, "platform", None)
    if platform is None:
        return str(handle).lower()
    kind = "cuda" if platform == "gpu" else str(platform)  # JAX
    return kind if kind == HOST else f"{kind}:{getattr(handle, 'local_hardware_id', handle.id)}"
