"""A set of rows in one call or several: its array, copies on GPUs, and what was prepared of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastgen.arrays import Rows2D
from fastgen.backend import core
from fastgen.device_rows import DeviceRows
from fastgen.groups import Groups
from fastgen.workers import drive

if TYPE_CHECKING:
    from fastgen import _cuda


class Rows:
    """A validated set and what has been prepared of it, so that several joins share it.

    Parameters
    ----------
    values : ndarray or DeviceRows of shape (n, d)
        As `arrays.as_rows` or `device_rows.Caller.rows` returns it.
    name : str, default "x"
        The argument it came by, for messages.
    checked : bool, default True
        Whether its numbers have been looked at.

    Attributes
    ----------
    copies : dict of int to _cuda.Rows
        By device: the rows there, the caller's own or uploaded.
    """

    __slots__ = ("_groups", "_prepared", "checked", "copies", "name", "values")

    def __init__(
        self, values: Rows2D | DeviceRows, name: str = "x", *, checked: bool = True
    ) -> None:
        self.values = values
        self.name = name
        self.checked = checked
        self.copies: dict[int, _cuda.Rows] = {}
        self._prepared: dict[tuple[str, str | tuple[int, int]], Any] = {}
        self._groups: Groups | None = None
        if isinstance(values, DeviceRows):
            self.copies[values.device] = values.handle

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.values)

    @property
    def d(self) -> int:
        """Number of features."""
        return int(self.values.shape[1])

    @property
    def host(self) -> Rows2D:
        """The rows in host memory, copied there if they are on a GPU."""
        return self.values[:] if isinstance(self.values, DeviceRows) else self.values

    @property
    def groups(self) -> Groups:
        """Distinct rows and their tree, made on first use."""
        if self._groups is None:
            self._groups = Groups(self.host)
        return self._groups

    def picked(self, mask: npt.NDArray[np.bool_]) -> Rows:
        """Copy some rows, where they are.

        Parameters
        ----------
        mask : array of shape (n,), bool
            Which.

        Returns
        -------
        Rows
            Their numbers need no second look.
        """
        if self.copies:
            handle = next(iter(dict(self.copies).values()))
            like = self.values.like if isinstance(self.values, DeviceRows) else None
            return Rows(DeviceRows(handle, like).take(np.flatnonzero(mask)), self.name)
        return Rows(self.host[mask], self.name)

    def prepared(self, path: str, isa: str, threads: int) -> core.Prepared:
        """Centred, rotated and quantised rows on the CPU, made on first use.

        Parameters
        ----------
        path, isa, threads : str, str, int
            Path of the engine, instruction set and number of threads.

        Returns
        -------
        core.Prepared
            Ready for joins.
        """
        if (path, isa) not in self._prepared:
            engine = core.Prepared(self.host, path, isa, threads)
            drive(engine)
            self._prepared[path, isa] = engine
        ready: core.Prepared = self._prepared[path, isa]
        return ready

    def prepared_on(self, device: int, path: str, module: Any) -> _cuda.Prepared:
        """Return what joins on a GPU take, made on first use.

        Parameters
        ----------
        device : int
            A GPU that has a copy of the rows.
        path : str
            Path of its engine.
        module : module
            `backend.cuda()`.

        Returns
        -------
        _cuda.Prepared
            Ready for joins.
        """
        rows = self.copies[device]
        key = path, (device, rows.stream.handle)  # both sides of a join work on one stream
        if key not in self._prepared:
            engine = module.Prepared(rows, path)
            drive(engine)
            self._prepared[key] = engine
        ready: _cuda.Prepared = self._prepared[key]
        return ready
