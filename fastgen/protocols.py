"""What callers may pass as an array: NumPy's own, files, and the protocols of other libraries."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from fastgen import files
from fastgen._errors import BackendUnavailableError, fail
from fastgen.backend import core, why_no_gpu

#: DLPack's numbers: the CPU, and host memory pinned for CUDA or ROCm.
HOST = (1, 3, 11)
#: CUDA devices, and memory that CUDA moves by itself.
CUDA = (2, 13)
_NAMES = {2: "cuda", 10: "rocm", 13: "cuda (managed)", 8: "metal", 14: "oneAPI"}


@dataclass(frozen=True)
class Place:
    """Where an array is.

    Attributes
    ----------
    kind : int
        DLPack's number of the kind of device; 2 for whoever speaks ``__cuda_array_interface__``.
    index : int or None
        Of the device; None where only the pointer tells.
    """

    kind: int
    index: int | None

    def __str__(self) -> str:
        """Name it for messages."""
        name = _NAMES.get(self.kind, f"DLPack type {self.kind}")
        return f"device {name}:{self.index}" if self.index is not None else "a CUDA device"


def place_of(value: Any) -> Place | None:
    """Tell on which device an array is.

    Parameters
    ----------
    value : object
        Any.

    Returns
    -------
    Place or None
        None for what is in host memory, and for everything that is no array.
    """
    if isinstance(value, np.ndarray):
        return None
    if hasattr(value, "__dlpack__") and hasattr(value, "__dlpack_device__"):
        try:
            kind, index = value.__dlpack_device__()
        except (BufferError, RuntimeError, ValueError):  # a device without memory: told later
            return None
        return None if int(kind) in HOST else Place(int(kind), int(index))
    return Place(2, None) if hasattr(value, "__cuda_array_interface__") else None


def is_on_cuda(value: Any) -> bool:
    """Tell whether an array is in the memory of a CUDA device.

    Parameters
    ----------
    value : object
        Any.

    Returns
    -------
    bool
        False for everything that is no such array.
    """
    place = place_of(value)
    return place is not None and place.kind in CUDA


def as_array(function: str, argument: str, value: Any) -> npt.NDArray[Any]:
    """View `value` as an ndarray of any shape and dtype, without a copy where that is possible.

    Parameters
    ----------
    function, argument : str
        Named in messages.
    value : object
        An array in host memory, or the path of a file.

    Returns
    -------
    ndarray
        As it is; bfloat16 becomes float32.

    Raises
    ------
    TypeError, ValueError, OSError
        If `value` is no such object.
    BackendUnavailableError
        If the array is in the memory of a GPU.
    """
    if isinstance(value, np.ndarray):
        if isinstance(value, np.ma.MaskedArray):
            fail_masked(function, argument)
        return value.view(np.ndarray)
    if isinstance(value, (str, os.PathLike)):
        return files.load(function, argument, value)
    check_dense(function, argument, value)
    place = place_of(value)
    if place is not None:
        fail_on_device(function, argument, value, place)
    if hasattr(value, "__dlpack__") and hasattr(value, "__dlpack_device__"):
        return _from_dlpack(function, argument, value)
    if hasattr(value, "__array_interface__") or hasattr(value, "__array_struct__"):
        return np.asarray(value)
    try:
        return np.asarray(memoryview(value))
    except TypeError:
        pass
    hint = f"pass np.asarray({argument})"
    condition = "to be an array of shape (n, d) or the path of one"
    fail(function, argument, condition, type_name(value), hint, error=TypeError)


def fail_on_device(function: str, argument: str, value: object, place: Place) -> NoReturn:
    """Raise BackendUnavailableError: the array is on a device that this call does not compute on.

    Parameters
    ----------
    function, argument : str
        Named in the message.
    value : object
        The array.
    place : Place
        Where it is.
    """
    reason = why_no_gpu() if place.kind in CUDA else "this build has no backend for it"
    hint = how_to_copy(argument, value)
    error = BackendUnavailableError
    got = f"an array on {place}"
    fail(
        function,
        argument,
        "in CPU memory",
        got,
        f"{reason}; {hint}" if reason else hint,
        error=error,
    )


def library_of(value: object) -> str:
    """Name the library that an array's class, or one that it derives from, comes from.

    Parameters
    ----------
    value : object
        An array.

    Returns
    -------
    str
        "torch", "cupy", "jax", "jaxlib" or the package of its class.
    """
    roots = [kind.__module__.partition(".")[0] for kind in type(value).__mro__]
    known = ("torch", "cupy", "jaxlib", "jax")
    return next((root for root in roots if root in known), roots[0])


def how_to_copy(argument: str, value: object) -> str:
    """Say how an array gets to the host.

    Parameters
    ----------
    argument : str
        Its name.
    value : array
        In the memory of a GPU.

    Returns
    -------
    str
        A hint for messages.
    """
    jax = f"numpy.asarray({argument})"
    ways = {"torch": f"{argument}.cpu()", "cupy": f"cupy.asnumpy({argument})"}
    way = (ways | {"jax": jax, "jaxlib": jax}).get(library_of(value))
    return f"copy it to the CPU first{f' with {way}' if way else ''}"


def fail_masked(function: str, argument: str) -> NoReturn:
    """Raise TypeError: no engine knows masks.

    Parameters
    ----------
    function, argument : str
        Named in the message.
    """
    hint = "fill or drop the masked entries first"
    fail(function, argument, "without a mask", "a masked array", hint, error=TypeError)


def check_dense(function: str, argument: str, value: Any) -> None:
    """Raise TypeError for sparse arrays, of scipy and its like or of torch.

    Parameters
    ----------
    function, argument : str
        Named in the message.
    value : object
        Any.
    """
    sparse = hasattr(value, "toarray") and hasattr(value, "nnz")
    if sparse or str(getattr(value, "layout", "")).startswith("torch.sparse"):
        hint = "convert it with .toarray() or .to_dense()"
        got = f"the sparse {type_name(value)}"
        fail(function, argument, "to be a dense array", got, hint, error=TypeError)


def check_dtype(function: str, argument: str, dtype: np.dtype[Any]) -> None:
    """Raise TypeError unless rows may be of this dtype.

    Parameters
    ----------
    function, argument : str
        Named in the message.
    dtype : dtype
        Of an array.
    """
    if dtype.kind in "iu" or (dtype.kind == "f" and dtype.itemsize <= 8):
        return
    hint = {
        "b": f"convert it with {argument}.astype(np.float32)",
        "c": "pass real and imaginary parts as separate columns",
        "f": f"convert it with {argument}.astype(np.float64)",
        "O": f"convert it with {argument}.astype(np.float64)",
    }.get(dtype.kind, "")
    if not hint and dtype.name == "bfloat16":  # an extension type that NumPy cannot compute with
        hint = f"convert it with {argument}.astype(np.float32)"
    condition = "of dtype float16, float32, float64 or integer"
    fail(function, argument, condition, str(dtype), hint, error=TypeError)


def check_shape(function: str, argument: str, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless a set of rows may have this shape.

    Parameters
    ----------
    function, argument : str
        Named in the message.
    shape : tuple of int
        Of an array.
    """
    if len(shape) != 2:
        hint = f"a single feature is {argument}.reshape(-1, 1)" if len(shape) == 1 else ""
        fail(function, argument, "of shape (n, d)", f"shape {shape}", hint)
    if 0 in shape:
        fail(function, argument, "with at least one row and one column", f"shape {shape}")
    if shape[0] >= 2**31:
        fail(function, argument, "with fewer than 2^31 rows", f"shape {shape}")


def type_name(value: object) -> str:
    """Name the type of an object, with its module.

    Parameters
    ----------
    value : object
        Any.

    Returns
    -------
    str
        For messages.
    """
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def detached(value: Any) -> Any:
    """Return an array as its memory has it: without gradient, and without torch's negative bit.

    Parameters
    ----------
    value : object
        An array.

    Returns
    -------
    object
        The same memory; a copy of a tensor that is the negative of its memory, of which neither
        DLPack nor ``__cuda_array_interface__`` tells.
    """
    if getattr(value, "requires_grad", False):
        value = value.detach()
    is_negated = getattr(value, "is_neg", None)
    return value.resolve_neg() if callable(is_negated) and is_negated() else value


def _from_dlpack(function: str, argument: str, value: Any) -> npt.NDArray[Any]:
    bfloat16 = str(getattr(value, "dtype", "")).endswith("bfloat16")
    if bfloat16 and len(value.shape) != 2 and not hasattr(value, "reshape"):
        fail(function, argument, "of shape (n, d)", f"shape {tuple(value.shape)}")
    try:
        value.__dlpack_device__()  # `place_of` has kept to itself what it raises
        value = detached(value)
        if bfloat16:
            shape = tuple(value.shape)
            if len(shape) == 2:
                return core.bfloat16_to_float32(value.__dlpack__())
            line = value.reshape(1, math.prod(shape))  # the conversion reads matrices
            return core.bfloat16_to_float32(line.__dlpack__()).reshape(shape)
        return np.from_dlpack(value)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        fail_export(function, argument, value, error)


def fail_export(function: str, argument: str, value: Any, error: Exception) -> NoReturn:
    """Raise TypeError: an array's own library does not give it out.

    Parameters
    ----------
    function, argument : str
        Named in the message.
    value : object
        The array.
    error : Exception
        What its library said.
    """
    reason = str(error).split("\n")[0]
    got = f"{type_name(value)} of dtype {getattr(value, 'dtype', 'unknown')} ({reason})"
    where = "GPU" if is_on_cuda(value) else "CPU"
    condition = f"of dtype float16, float32 or float64 in {where} memory"
    fail(function, argument, condition, got, error=TypeError)
