"""The sets of one call: whose arrays they are, where they are, and where the call computes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastgen import arrays, backend, devices, library_devices, protocols
from fastgen._errors import BackendUnavailableError, fail
from fastgen.device_rows import Caller, DeviceRows
from fastgen.sets import Rows

if TYPE_CHECKING:
    from fastgen import _cuda


class Intake:
    """Takes the arrays of a call, all of them on one device.

    Parameters
    ----------
    function : str
        The public function, for messages.
    device : str or device object, optional
        See `devices.as_target`.

    Raises
    ------
    ValueError, BackendUnavailableError
        If there is no such device.
    """

    def __init__(self, function: str, device: object) -> None:
        self.function = function
        self._target = devices.as_target(function, device)
        self._caller = Caller(function)

    @property
    def stream(self) -> _cuda.Stream | None:
        """The stream of the caller's arrays on a GPU, None without any."""
        return self._caller.stream

    @property
    def wants_gpu(self) -> bool:
        """Whether `device` names a GPU, wherever the arrays are."""
        return self._target.kind in ("gpu", "gpus")

    def gpus(self) -> list[int]:
        """Return where the call computes, once all its arrays have been taken.

        Returns
        -------
        list of int
            CUDA's indices of GPUs, the first one first; empty for the CPU.
        """
        target, stream = self._target, self.stream
        if target.kind == "cpu" or (target.kind == "arrays" and stream is None):
            return []
        known = list(backend.gpus())
        first = target.index
        if first is None:
            first = _current(known) if stream is None else stream.device
        several = target.kind == "gpus"
        return [first, *(other for other in known if several and other != first)]

    def rows(self, argument: str, value: object) -> Rows:
        """Validate one set of feature vectors; its numbers are not looked at yet.

        Parameters
        ----------
        argument : str
            Named in messages.
        value : array of shape (n, d), path of a file, or Rows
            In host memory, see `arrays.as_rows`; or on a GPU, see `device_rows.Caller.rows`.

        Returns
        -------
        Rows
            `Session.check_values` looks at its numbers.

        Raises
        ------
        TypeError, ValueError, BackendUnavailableError
            If `value` does not fit, or is not where the call computes.
        """
        if isinstance(value, Rows):
            if isinstance(value.values, DeviceRows):
                self._require_place(argument, value.values)
                self._caller.adopt(value.values.handle, value.values.like)
            elif self.wants_gpu:
                for copy in value.copies.values():
                    if self._target.index in (None, copy.device):
                        self._caller.adopt(copy)
            return value
        if self._target.kind == "cpu" or not protocols.is_on_cuda(value):
            values = arrays.as_rows(self.function, argument, value, values=False)
            return Rows(values, argument, checked=False)
        taken = self._caller.rows(argument, value)
        self._require_place(argument, taken)
        return Rows(taken, argument, checked=False)

    def pair(self, first: str, x: object, second: str, y: object) -> tuple[Rows, Rows]:
        """Validate two sets that must have the same features; see `rows`.

        Parameters
        ----------
        first, second : str
            Names of the two arguments.
        x, y : array of shape (n, d) and (m, d)
            The sets.

        Returns
        -------
        pair of Rows
            Their numbers are not looked at yet.

        Raises
        ------
        TypeError, ValueError, BackendUnavailableError
            As `rows`; ValueError also if the number of features differs, or one set is on a GPU and
            the other is not, and no `device` says where to compute.
        """
        rows, others = self.rows(first, x), self.rows(second, y)
        if others.d != rows.d:
            condition = f"with d = {rows.d} columns like `{first}`"
            fail(self.function, second, condition, f"shape {others.values.shape}")
        if self._target.kind == "arrays":
            self._require_one_place({first: rows, second: others})
        return rows, others

    def give_results_to(self, rows: Rows) -> None:
        """Let the library of a set make the results, if that is on a GPU.

        Parameters
        ----------
        rows : Rows
            One of the sets. Without this, the first of them that is on a GPU.
        """
        if isinstance(rows.values, DeviceRows):
            self._caller.like = rows.values.like

    def results(self, values: npt.NDArray[np.generic]) -> Any:
        """Hand results to the caller, see `device_rows.Caller.results`.

        Parameters
        ----------
        values : ndarray
            What was computed.

        Returns
        -------
        array
            On the GPU of the caller's arrays, and of their library; else `values` itself.
        """
        return self._caller.results(values)

    def _require_place(self, argument: str, rows: DeviceRows) -> None:
        """Check that rows are on the GPU that `device` names, if it names one."""
        target, got = self._target, f"an array on cuda:{rows.device}"
        if target.kind == "cpu":
            hint, error = protocols.how_to_copy(argument, rows.like), BackendUnavailableError
            fail(self.function, argument, "in CPU memory", got, hint, error=error)
        if target.index not in (None, rows.device):
            hint = "copy it there, or leave out `device`"
            fail(self.function, argument, f"on {target} as `device` has it", got, hint)

    def _require_one_place(self, sets: dict[str, Rows]) -> None:
        """Check that two sets are both on a GPU, or both not."""
        there = {
            name: rows.values.device
            for name, rows in sets.items()
            if isinstance(rows.values, DeviceRows)
        }
        if len(there) != 1:
            return
        ((name, device),) = there.items()
        (other,) = (one for one in sets if one != name)
        condition, hint = (
            f"on cuda:{device} like `{name}`",
            f'device="cuda:{device}" copies it there',
        )
        fail(self.function, other, condition, "an array in CPU memory", hint)


def _current(known: list[int]) -> int:
    """Return the GPU that the program is using, the first one where that is not to be used here."""
    index = library_devices.current_gpu()
    if index is None:
        index = backend.cuda().current_device()
    return index if index in known else known[0]
