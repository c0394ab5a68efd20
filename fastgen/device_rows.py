"""Arrays in the memory of a GPU, read where they are: DLPack, or ``__cuda_array_interface__``.

Work on them goes to the stream that their own library is using, so that it comes after whatever
made them, and the caller may overwrite them as soon as a function has returned. Only what the
kernels cannot read is copied: bfloat16 (as float32), integers (as float64), and features that do
not lie side by side.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastgen import backend, protocols
from fastgen._errors import BackendUnavailableError, fail

if TYPE_CHECKING:
    from fastgen import _cuda

Rows2D = npt.NDArray[np.floating[Any]]
Integers = npt.NDArray[np.int64]

_PER_THREAD = 2
_LEGACY = 1  # DLPack's and CUDA's name of the default stream; torch and CuPy call it 0


class DeviceRows:
    """A set of rows in the memory of a GPU.

    Parameters
    ----------
    handle : _cuda.Rows
        The rows as the engines take them.
    like : object, optional
        The caller's array, whose library makes the results. Default: results are NumPy arrays.

    Attributes
    ----------
    shape : tuple of int
        (n, d).
    dtype : dtype
        float16, float32 or float64, as the engines read them.
    """

    __slots__ = ("dtype", "handle", "like", "shape")

    def __init__(self, handle: _cuda.Rows, like: object = None) -> None:
        self.handle = handle
        self.like = like
        self.shape: tuple[int, int] = handle.shape
        self.dtype: np.dtype[Any] = np.dtype(handle.dtype)

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.shape[0]

    @property
    def itemsize(self) -> int:
        """Bytes of a number."""
        return self.dtype.itemsize

    @property
    def size(self) -> int:
        """Numbers in all."""
        return self.shape[0] * self.shape[1]

    @property
    def device(self) -> int:
        """CUDA's index of the GPU."""
        return self.handle.device

    def __getitem__(self, place: slice | int) -> Rows2D:
        """Copy consecutive rows, or one, to the host."""
        if isinstance(place, slice):
            start, stop, step = place.indices(len(self))
            assert step == 1
            return self.handle.to_host(start, max(start, stop))
        row: Rows2D = self.handle.to_host(place, place + 1)[0]
        return row

    def take(self, indices: Integers) -> DeviceRows:
        """Copy some rows, on the device.

        Parameters
        ----------
        indices : array of int64
            Which, in the order wanted.

        Returns
        -------
        DeviceRows
            Side by side.
        """
        return DeviceRows(self.handle.picked(np.ascontiguousarray(indices)), self.like)

    def widened(self, dtype: np.dtype[Any]) -> DeviceRows:
        """Copy into a wider dtype, on the device.

        Parameters
        ----------
        dtype : dtype
            float16, float32 or float64.

        Returns
        -------
        DeviceRows
            The same rows; itself where nothing changes.
        """
        if dtype == self.dtype:
            return self
        return DeviceRows(self.handle.widened(dtype.name), self.like)


class _Exported(NamedTuple):
    """What a library says of its array, strides in bytes."""

    pointer: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str
    owner: object


class Caller:
    """The GPU and the stream of one call: those of its first array on a GPU.

    Parameters
    ----------
    function : str
        Named in messages.

    Attributes
    ----------
    stream : _cuda.Stream or None
        Where the work goes; None while no array on a GPU has been seen.
    like : object
        That first array; None likewise.
    """

    def __init__(self, function: str) -> None:
        self.function = function
        self.stream: _cuda.Stream | None = None
        self.like: object = None

    def rows(self, argument: str, value: Any) -> DeviceRows:
        """Take one set of feature vectors; its numbers are not looked at.

        Parameters
        ----------
        argument : str
            Named in messages.
        value : array of shape (n, d)
            In the memory of a GPU.

        Returns
        -------
        DeviceRows
            In place where the kernels can read it.

        Raises
        ------
        TypeError
            If the dtype does not fit, or the array's library does not give it out.
        ValueError
            If the shape does not fit, or it is on another GPU than the first.
        BackendUnavailableError
            If this installation cannot use that GPU.
        """
        exported = self._exported(argument, value)
        protocols.check_shape(self.function, argument, exported.shape)
        return self._taken(argument, value, exported, exported.shape, exported.strides)

    def numbers(self, argument: str, value: Any) -> npt.NDArray[Any]:
        """Copy an array of few numbers to the host.

        Parameters
        ----------
        argument : str
            Named in messages.
        value : array
            In the memory of a GPU, with at most two axes.

        Returns
        -------
        ndarray
            Of the same shape; bfloat16 as float32, and integers by way of float64.

        Raises
        ------
        TypeError, ValueError, BackendUnavailableError
            As `rows`.
        """
        exported = self._exported(argument, value)
        shape, strides = exported.shape, exported.strides
        if len(shape) > 2:
            fail(self.function, argument, "with at most 2 axes", f"shape {shape}")
        if 0 in shape:
            return np.empty(shape)
        missing = 2 - len(shape)
        whole, steps = (1,) * missing + shape, (0,) * missing + strides
        taken = self._taken(argument, value, exported, whole, steps)
        found = taken.handle.to_host().reshape(shape)
        if exported.dtype.startswith(("int", "uint")):
            return found.astype(exported.dtype)
        return found

    def adopt(self, handle: _cuda.Rows, like: object = None) -> None:
        """Take note of rows from another call.

        Parameters
        ----------
        handle : _cuda.Rows
            On some GPU.
        like : object, optional
            The caller's array, where it was on a GPU.
        """
        if self.stream is None:
            self.stream, self.like = handle.stream, like

    def results(self, values: npt.NDArray[Any]) -> Any:
        """Hand results to the caller: in the library, and on the GPU, of the first array there.

        Parameters
        ----------
        values : ndarray
            What was computed.

        Returns
        -------
        array
            `values` itself where no array was on a GPU, or where array-api-compat does not know its
            library, or JAX would round float64 to float32 (without ``jax_enable_x64``).
        """
        if self.like is None:
            return values
        if protocols.library_of(self.like) in ("jax", "jaxlib"):
            jax = sys.modules.get("jax")
            if jax is None or not jax.config.jax_enable_x64:
                return values
        import array_api_compat

        try:
            library = array_api_compat.array_namespace(self.like)
        except TypeError:
            return values
        return library.asarray(values, device=array_api_compat.device(self.like))

    def _taken(
        self,
        argument: str,
        value: object,
        exported: _Exported,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
    ) -> DeviceRows:
        """Make rows of what was exported, seen as a matrix."""
        dtype = exported.dtype
        if dtype != "bfloat16":
            protocols.check_dtype(self.function, argument, _as_dtype(dtype))
        size = 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize
        if any(offset % size for offset in (exported.pointer, *strides)):
            fail(self.function, argument, "aligned to its numbers", "an array that is not")
        module, stream = backend.cuda(), self.stream
        owner = (value, exported.owner)
        handle = module.Rows(stream, exported.pointer, shape, strides, dtype, owner)
        return DeviceRows(handle, value)

    def _exported(self, argument: str, value: Any) -> _Exported:
        """Ask the array's library for it, in the order of the call's stream."""
        function = self.function
        protocols.check_dense(function, argument, value)
        place = protocols.place_of(value)
        assert place is not None
        if place.kind not in protocols.CUDA or not backend.gpus():
            protocols.fail_on_device(function, argument, value, place)
        value = protocols.detached(value)
        if place.index is None or not hasattr(value, "__dlpack__"):
            return self._from_interface(argument, value)
        self._settle(argument, place.index, *_current_stream(value, place.index), value)
        assert self.stream is not None
        try:
            with _current_device(value, place.index):
                capsule = value.__dlpack__(stream=self.stream.handle)
        except (BufferError, RuntimeError, TypeError, ValueError) as error:
            protocols.fail_export(function, argument, value, error)
        found = backend.cuda().read_capsule(capsule)
        return _Exported(
            found["pointer"], found["shape"], found["strides"], found["dtype"], capsule
        )

    def _from_interface(self, argument: str, value: Any) -> _Exported:
        """Read ``__cuda_array_interface__``, versions 0 to 3."""
        module, function = backend.cuda(), self.function
        try:
            found = value.__cuda_array_interface__
            shape = tuple(int(length) for length in found["shape"])
            dtype, (pointer, _) = np.dtype(found["typestr"]), found["data"]
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            protocols.fail_export(function, argument, value, error)
        if found.get("mask") is not None:
            protocols.fail_masked(function, argument)
        if not dtype.isnative:
            fail(function, argument, "in native byte order", str(dtype), error=TypeError)
        strides = found.get("strides")
        if strides is None:
            strides = [dtype.itemsize] * len(shape)
            for axis in range(len(shape) - 1, 0, -1):
                strides[axis - 1] = strides[axis] * shape[axis]
        if not pointer:  # of an array without numbers
            return _Exported(0, shape, tuple(strides), dtype.name, value)
        index = module.device_of(pointer)
        if index < 0:
            fail(function, argument, "in the memory of a GPU", "an array that is not")
        if "stream" not in found:  # before version 3 nobody says what the array is waiting for
            module.synchronize_device(index)
        handle = found.get("stream") or _LEGACY
        self._settle(argument, index, handle, value, value)
        assert self.stream is not None
        if handle != self.stream.handle:  # None, too, may mean the legacy stream: Numba's does
            self.stream.wait_for(module.Stream(index, handle))
        return _Exported(pointer, shape, tuple(strides), dtype.name, value)

    def _settle(self, argument: str, index: int, handle: int, owner: object, value: object) -> None:
        """Let the first array decide on the GPU and the stream, and hold the others to the GPU.

        `owner` keeps the stream alive.
        """
        function, gpus = self.function, backend.gpus()
        if index not in gpus:
            known = " or ".join(f"cuda:{one}" for one in gpus)
            hint = "other GPUs here are older than compute capability 8.0"
            error = BackendUnavailableError
            fail(function, argument, f"on {known}", f"an array on cuda:{index}", hint, error=error)
        if self.stream is None:
            theirs = backend.cuda().Stream(index, handle, owner)
            self.stream, self.like = theirs, value
            if handle == _PER_THREAD:  # another stream for each of our threads
                self.stream = backend.cuda().Stream(index)
                self.stream.wait_for(theirs)
        elif index != self.stream.device:
            here = f"on cuda:{self.stream.device} like the other array"
            fail(function, argument, here, f"an array on cuda:{index}", "copy one of them")


def _as_dtype(name: str) -> np.dtype[Any]:
    """Return NumPy's dtype of that name, for messages; an opaque one where it has none."""
    try:
        return np.dtype(name)
    except TypeError:
        return _Unknown(name)  # type: ignore[return-value]


class _Unknown(NamedTuple):
    """A dtype that NumPy does not have, as `protocols.check_dtype` looks at it."""

    name: str
    kind: str = "?"

    def __str__(self) -> str:
        return self.name


def _current_stream(value: object, index: int) -> tuple[int, Any]:
    """Return the stream that the array's library is using on that device, as DLPack writes it."""
    library = protocols.library_of(value)
    if library == "torch":
        stream = sys.modules["torch"].cuda.current_stream(index)
        return int(stream.cuda_stream) or _LEGACY, stream
    if library == "cupy":
        cupy = sys.modules["cupy"]
        with cupy.cuda.Device(index):
            stream = cupy.cuda.get_current_stream()
        return int(stream.ptr) or _LEGACY, stream
    return _LEGACY, None


@contextlib.contextmanager
def _current_device(value: object, index: int) -> Iterator[None]:
    """Make a device current while its library exports an array: torch refuses it otherwise."""
    library = protocols.library_of(value)
    if library in ("torch", "cupy"):
        cuda = sys.modules[library].cuda
        with cuda.device(index) if library == "torch" else cuda.Device(index):
            yield
        return
    with backend.cuda().CurrentDevice(index):
        yield
