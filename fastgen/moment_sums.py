"""The sums behind `Moments`: by which engine and where, one call at a time, all or nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from fastgen import library_devices, namespaces
from fastgen._errors import fail
from fastgen.arrays import Rows2D
from fastgen.backend import core, instruction_set
from fastgen.device_moments import DeviceScatter, state_of
from fastgen.library_devices import Device
from fastgen.library_rows import LibraryRows
from fastgen.workers import drive

Floats = npt.NDArray[np.float64]

_STATE = ("folded", "origin", "shift", "scatter", "waiting")


class MomentSums:
    """Sums over rows that come in batches, on the CPU or on a device.

    Parameters
    ----------
    d : int
        Number of features.
    threads : int
        Number of threads.
    device : Device, str or None
        Where they are made; `library_devices.HOST` is the CPU. None: where the first rows are.
    """

    def __init__(self, d: int, threads: int, device: Device | str | None) -> None:
        self._d = d
        self._threads = threads
        self._follows = device is None
        self._engine = self._new_engine(device if isinstance(device, Device) else None)
        self._lock = threading.RLock()
        self._busy = False

    @property
    def device(self) -> Device | None:
        """Where they are; None on the CPU."""
        return self._engine.device if isinstance(self._engine, DeviceScatter) else None

    @property
    def count(self) -> int:
        """Rows so far."""
        count: int = self._engine.count
        return count

    def take(self, rows: LibraryRows | Rows2D, tell: Callable[[float], None] | None = None) -> None:
        """Take in rows whose numbers have been checked.

        Parameters
        ----------
        rows : LibraryRows or ndarray of shape (n, d)
            Brought to where the sums are, if they are elsewhere.
        tell : callable, optional
            Takes the fraction done after every step.

        Raises
        ------
        RuntimeError
            If the call comes from within the `tell` of another one.
        """
        device = rows.device if isinstance(rows, LibraryRows) else None
        with self._alone("Moments.update"), self._settled(device):
            if isinstance(rows, LibraryRows) and self.device is None:
                rows = rows.on_host()
            self._engine.begin_update(rows)
            drive(self._engine, tell)
            self._engine.commit()

    def merge(self, other: MomentSums) -> None:
        """Take in the rows of other sums, which stay as they are.

        Parameters
        ----------
        other : MomentSums
            Of as many features.

        Raises
        ------
        RuntimeError
            If the call comes from within the `tell` of a `take` of one of the two.
        """
        with ExitStack() as stack:
            # Always in the same order, or two threads could wait for each other.
            for sums in sorted({self, other}, key=id):
                stack.enter_context(sums._alone("Moments.merge"))
            stack.enter_context(self._settled(other.device))
            source = other._engine
            if self.device is None and other.device is not None:
                source = self._new_engine(None)
                source.restore(*state_of(other._engine))
            self._engine.begin_merge(source)
            drive(self._engine)
            self._engine.commit()

    def origin_and_shift(self, function: str) -> tuple[Floats, Floats]:
        """Return the first row and the mean less that row, on the host.

        Parameters
        ----------
        function : str
            Named in messages.

        Returns
        -------
        pair of array of shape (d,), float64
            New ones.

        Raises
        ------
        ValueError
            If there is no row yet.
        """
        with self._alone(function):
            self._require(function, 1)
            self._engine.begin_flush(True)
            drive(self._engine)
            return self._engine.origin(), self._engine.shift()

    def statistics(self, function: str) -> dict[str, Any]:
        """Return what `Moments.save` writes, the rows that wait included.

        Parameters
        ----------
        function : str
            Named in messages.

        Returns
        -------
        dict of str to array
            On the host.

        Raises
        ------
        ValueError
            If there are fewer than two rows, or a variance is beyond float64.
        """
        with self._alone(function):
            count = self._flushed(function)
            covariance = self._engine.scatter(float(count - 1))
            if not np.isfinite(covariance.diagonal()).all():
                feature = int(np.argmin(np.isfinite(covariance.diagonal())))
                hint = "multiply all rows by one power of two"
                fail(function, "variances", "within float64", f"inf for feature {feature}", hint)
            origin, shift = self._engine.origin(), self._engine.shift()
        return {
            "mu": origin + shift,
            "sigma": covariance,
            "count": np.int64(count),
            "origin": origin,
            "shift": shift,
        }

    def covariance_on(self, device: Device) -> Any:
        """Return the covariance on a device; variances beyond float64 are infinite.

        Parameters
        ----------
        device : Device
            Where it goes, directly if the sums are on it.

        Returns
        -------
        array of shape (d, d), float64
            Of the device's library, a new one.

        Raises
        ------
        ValueError
            If there are fewer than two rows.
        """
        with self._alone("Moments.covariance"):
            divisor = float(self._flushed("Moments.covariance") - 1)
            if isinstance(self._engine, DeviceScatter):
                return namespaces.moved(self._engine.matrix(divisor), device)
            return device.floats(device.upload(self._engine.scatter(divisor)))

    def state(self) -> dict[str, Any]:
        """Return everything, to the bit, on the host.

        Returns
        -------
        dict
            As `restore` takes it.
        """
        with self._alone("Moments.__getstate__"):
            held = dict(zip(_STATE, state_of(self._engine), strict=True))
            device = self.device
            where = None if device is None else (device.library, device.name)
            return {"device": where, "follows": self._follows, **held}

    def restore(self, state: dict[str, Any]) -> None:
        """Take on the state of others, before the first row.

        Parameters
        ----------
        state : dict
            From `state`; or made up of the number of rows "folded", their first as "origin", the
            mean less it as "shift", "scatter" or None, and the rows "waiting".
        """
        found = state.get("device") and library_devices.device_named(*state["device"])
        if isinstance(found, Device):  # else this process goes on where it can
            self._engine = self._new_engine(found)
        self._follows = state.get("follows", self._follows)
        self._engine.restore(*(state[name] for name in _STATE))

    def _new_engine(self, device: Device | None) -> Any:
        if device is not None:
            return DeviceScatter(self._d, device)
        return core.Scatter(self._d, instruction_set("Moments"), self._threads)

    @contextmanager
    def _settled(self, device: Device | None) -> Iterator[None]:
        """Go where the first rows are, and back if the work fails."""
        engine, follows = self._engine, self._follows
        try:
            if follows and device is not None:
                self._engine = self._new_engine(device)
                self._engine.restore(*state_of(engine))
            self._follows = False
            yield
        except BaseException:
            self._engine, self._follows = engine, follows
            raise

    @contextmanager
    def _alone(self, function: str) -> Iterator[None]:
        """Keep other threads out, and this one from a second piece of work within the first."""
        with self._lock:
            if self._busy:
                got = "a call from within"
                fail(function, "progress", "to leave the moments alone", got, error=RuntimeError)
            try:
                self._busy = True
                yield
            finally:
                self._engine.rollback()
                self._busy = False

    def _flushed(self, function: str) -> int:
        """Take in the rows that wait, for now, and return the number of all."""
        count = self._require(function, 2)
        self._engine.begin_flush(False)
        drive(self._engine)
        return count

    def _require(self, function: str, rows: int) -> int:
        if self.count < rows:
            fail(function, "count", f"of at least {rows}", str(self.count))
        return self.count
