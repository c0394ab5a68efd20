"""Arrays on a device: of which library they are, and the ways there and back.

What is computed on a device here is written once against the array API and runs in the caller's own
library: torch, CuPy or JAX (with float64). Arrays of other libraries are taken over by torch or
CuPy, which also serve host arrays that a device is asked for.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from fastgen import protocols
from fastgen._errors import BackendUnavailableError, fail
from fastgen.library_devices import Device, first_gpu, name_of

_WITHOUT_FLOAT64 = "jax needs jax.config.update('jax_enable_x64', True)"


def is_on_device(value: object) -> bool:
    """Tell whether a value is an array in memory that is not the host's.

    Parameters
    ----------
    value : object
        Any.

    Returns
    -------
    bool
        False for everything that is no such array.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgen.namespaces import is_on_device
    >>> is_on_device(np.zeros(3)), is_on_device("rows.npy")
    (False, False)
    """
    return protocols.place_of(value) is not None


def device_of(array: Any) -> Device:
    """Return the device of an array, and its library.

    Parameters
    ----------
    array : array
        NumPy, torch, CuPy or JAX.

    Returns
    -------
    Device
        Where it is.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgen.namespaces import device_of
    >>> device_of(np.zeros(3)).library, device_of(np.zeros(3)).name
    ('numpy', 'cpu')
    """
    import array_api_compat

    xp: ModuleType = array_api_compat.array_namespace(array)
    handle = array_api_compat.device(array)
    return Device(xp, handle, library_of(array) or "numpy", name_of(handle))


def library_of(value: object) -> str | None:
    """Name the library of an array that can be computed with on its device.

    Parameters
    ----------
    value : object
        Any.

    Returns
    -------
    str or None
        "torch", "cupy" or "jax".
    """
    library = protocols.library_of(value)
    return {"torch": "torch", "cupy": "cupy", "jax": "jax", "jaxlib": "jax"}.get(library)


def as_device_array(function: str, argument: str, value: Any) -> Any:
    """Return an array on a device as one of a library that computes there.

    Parameters
    ----------
    function, argument : str
        Named in messages.
    value : array
        For which `is_on_device` is True.

    Returns
    -------
    array
        Of torch, CuPy or JAX with float64: itself, or a view of its memory. No gradient flows
        through it.

    Raises
    ------
    TypeError
        If it is sparse, or what its library gives out is not to be read.
    BackendUnavailableError
        If there is no library that can compute with it.
    """
    protocols.check_dense(function, argument, value)
    library = library_of(value)
    if library == "jax" and not sys.modules["jax"].config.jax_enable_x64:
        library = None  # another one has to compute in float64
    return protocols.detached(value) if library else _taken_over(function, argument, value)


def can_be_computed_with(value: object) -> bool:
    """Tell whether a value is an array on a device, and a library at hand computes there.

    Parameters
    ----------
    value : object
        Any.

    Returns
    -------
    bool
        Whether `as_device_array` takes it.
    """
    try:
        return is_on_device(value) and as_device_array("", "", value) is not None
    except (BackendUnavailableError, TypeError):
        return False


def to_host(array: Any) -> npt.NDArray[Any]:
    """Copy an array of a library to the host.

    Parameters
    ----------
    array : array
        NumPy, torch, CuPy or JAX.

    Returns
    -------
    ndarray
        With its shape and dtype; bfloat16 becomes float32. It may share the memory of an array that
        is on the host already.
    """
    library = library_of(array)
    if str(array.dtype).endswith("bfloat16"):
        array = array.float() if library == "torch" else array.astype(np.float32)
    if library == "torch":
        array = protocols.detached(array).cpu().numpy()
    elif library == "cupy":
        array = array.get()
    return np.asarray(array)


def fetched(*numbers: Any) -> list[float]:
    """Bring single numbers to the host in one transfer.

    Parameters
    ----------
    *numbers : array of shape (), float64
        Of one library and device.

    Returns
    -------
    list of float
        The same.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgen.namespaces import fetched
    >>> fetched(np.asarray(1.0), np.asarray(2.5))
    [1.0, 2.5]
    """
    found: list[float] = device_of(numbers[0]).xp.stack(numbers).tolist()
    return found


def moved(array: Any, device: Device) -> Any:
    """Return an array on a device.

    Parameters
    ----------
    array : array
        NumPy, torch, CuPy or JAX.
    device : Device
        Where it goes.

    Returns
    -------
    array
        Of the library of `device`, the same numbers; itself if it is there.
    """
    here = device_of(array)
    if here.is_same(device):
        return array
    with device.context():
        if here.library == device.library:
            import array_api_compat

            return array_api_compat.to_device(array, device.handle)
        if here.library != "numpy" and here.name == device.name:  # no need to leave it
            return device.xp.from_dlpack(array)
        return device.upload(to_host(array))


def _taken_over(function: str, argument: str, value: Any) -> Any:
    """View an array of a library that is none of those computed in."""
    place = protocols.place_of(value)
    name = protocols.type_name(value)
    if place is None or place.kind not in protocols.CUDA:
        where = "elsewhere" if place is None else str(place)
        hint, error = "copy the array to the CPU first", BackendUnavailableError
        fail(function, argument, "in CPU memory", f"an array on {where}", hint, error=error)
    found = first_gpu(place.index)
    if isinstance(found, str):
        if library_of(value) == "jax":
            found = f"{found}, {_WITHOUT_FLOAT64}"
        hint, error = f"{found}; copy the array to the CPU first", BackendUnavailableError
        fail(function, argument, "in CPU memory", f"an array on {place}", hint, error=error)
    module = sys.modules[found.library]
    try:
        with found.context():
            if hasattr(value, "__dlpack__"):
                return module.from_dlpack(value)
            if found.library == "cupy":
                return module.asarray(value)
            module.cuda.synchronize(found.handle)  # torch does not look at the array's stream
            return module.as_tensor(value, device=found.handle)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).split("\n")[0]
        condition, got = f"to be an array that {found.library} can read", f"{name} ({reason})"
        fail(function, argument, condition, got, error=TypeError)
