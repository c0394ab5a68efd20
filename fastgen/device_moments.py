"""Streamed moments on a device: the same work as `core.Scatter`, as products of its library.

The chunks are those of the CPU. A chunk is centred on its own mean, and one more row beside it, ::

    (n k / (n + k))^(1/2) (mean of the chunk - mean so far),   n rows so far, k in the chunk,

makes Chan's rule for joining two parts a part of one product ``Z'Z``. Rows that do not fill a chunk
wait. So every product has the same shape and the same layout, whatever the batches are: its bits
are those of one matrix product on that device.

Work makes the next state beside the present one, and `commit` puts it in its place.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fastgen import namespaces
from fastgen.arrays import Rows2D
from fastgen.backend import core
from fastgen.library_devices import Device
from fastgen.library_rows import LibraryRows

Floats = npt.NDArray[np.float64]

# Batches that wait for a chunk are joined when there are so many: a row at a time costs little.
_MOST_PIECES = 64


@dataclass
class _State:
    """Moments of the rows that do not wait, on the device; all relative to the first row.

    Attributes
    ----------
    count : int
        Rows.
    origin, mean : array of shape (d,), float64
        The first row of all, waiting or not, and the mean less that row.
    scatter : array of shape (d, d), float64, or None
        Sums of products of deviations; None stands for 0.
    """

    count: int
    origin: Any
    mean: Any
    scatter: Any


class DeviceScatter:
    """Mean and scatter matrix of rows that come in batches, on a device.

    It is driven as `core.Scatter`: begin, `advance` until that returns 1.0, then `commit` or read
    what was found, then `rollback`.

    Parameters
    ----------
    d : int
        Number of features.
    device : Device
        Where the sums are made and kept.
    """

    def __init__(self, d: int, device: Device) -> None:
        self._d = d
        self.device = device
        self._chunk = core.Scatter.chunk_rows(d)
        with device.context():
            self._now = _State(0, device.zeros(d), device.zeros(d), None)
        self._stream = device.stream()
        self._pieces: list[Any] = []  # what waits, float64
        # The work: rows, or another one's state.
        self._batch: LibraryRows | Rows2D | None = None
        self._other: DeviceScatter | None = None
        self._chunks = self._done = 0
        self._means_only = False
        self._next = self._now

    @property
    def count(self) -> int:
        """Rows so far."""
        return self._now.count + self.waiting

    @property
    def waiting(self) -> int:
        """Rows that do not fill a chunk."""
        return sum(len(piece) for piece in self._pieces)

    @property
    def folded(self) -> int:
        """Rows that do not wait; after work, of the next state."""
        return self._found.count

    def origin(self) -> Floats:
        """Return the first row, on the host."""
        return self._on_host(self._found.origin)

    def shift(self) -> Floats:
        """Return the mean less the first row, on the host."""
        return self._on_host(self._found.mean)

    def matrix(self, divisor: float) -> Any:
        """Return the scatter matrix over a divisor, symmetric to the bit, on the device."""
        with self.device.context():
            half = self._found.scatter / (2.0 * divisor)
            return half + half.T

    def scatter(self, divisor: float) -> Floats:
        """Return the scatter matrix over a divisor, symmetric to the bit, on the host."""
        return self._on_host(self.matrix(divisor))

    def raw_scatter(self) -> Floats | None:
        """Return the scatter matrix, perhaps not symmetric to the bit, if there is one."""
        scatter = self._found.scatter
        return None if scatter is None else self._on_host(scatter)

    def waiting_rows(self) -> Floats:
        """Return the rows that wait, on the host."""
        return np.concatenate([np.empty((0, self._d)), *map(self._on_host, self._pieces)])

    def begin_update(self, batch: LibraryRows | Rows2D) -> None:
        """Begin to take in rows.

        Parameters
        ----------
        batch : LibraryRows or ndarray of shape (n, d)
            Anywhere, its numbers checked; stays as it is until `commit`.
        """
        if isinstance(batch, LibraryRows) and not batch.device.is_same(self.device):
            values = namespaces.moved(batch.values, self.device)
            batch = LibraryRows(values, self.device)
        rows = self.waiting + len(batch)
        self._begin(batch, rows // self._chunk)
        if self.count == 0:
            self._next.origin = self._batch_rows(0, 1)[0]

    def begin_flush(self, means_only: bool) -> None:
        """Begin to take in the rows that wait, as a short chunk.

        Parameters
        ----------
        means_only : bool
            Whether the scatter matrix may stay behind.
        """
        self._begin(None, int(bool(self._pieces)))
        self._means_only = means_only

    def begin_merge(self, other: core.Scatter | DeviceScatter) -> None:
        """Begin to take in the rows that another one has seen.

        Parameters
        ----------
        other : core.Scatter or DeviceScatter
            Of as many features; stays as it is.
        """
        there = self._brought(other)
        self._begin(None, 1)
        self._other = there

    def advance(self, seconds: float) -> float:
        """Work for about that long, and return the fraction done.

        Parameters
        ----------
        seconds : float
            At most the time of one chunk more.

        Returns
        -------
        float
            1.0 at the end. The device may still be at work.
        """
        until = time.monotonic() + seconds
        with self.device.context():
            while self._done < self._chunks:
                if self._other is not None:
                    self._join(self._other)
                else:
                    first = self._done * self._chunk
                    total = self.waiting + (0 if self._batch is None else len(self._batch))
                    self._fold(self._rows(first, min(first + self._chunk, total)))
                self._done += 1
                if time.monotonic() >= until:
                    break
        return self._done / self._chunks if self._chunks else 1.0

    def commit(self) -> None:
        """Put the next state in the place of the present one, after `advance` has returned 1."""
        if self._batch is not None:
            used, waited = self._chunks * self._chunk, self.waiting
            with self.device.context():
                if self._chunks:
                    self._pieces = []
                first = max(used - waited, 0)
                if first < len(self._batch):
                    self._pieces.append(self._batch_rows(first, len(self._batch)))
                if len(self._pieces) > _MOST_PIECES:
                    self._pieces = [self.device.xp.concat(self._pieces)]
        self._now = self._next
        self.rollback()

    def rollback(self) -> None:
        """Forget what was begun and not committed."""
        self._begin(None, 0)

    def restore(
        self,
        folded: int,
        origin: Floats,
        shift: Floats,
        scatter: Floats | None,
        waiting_rows: Floats,
    ) -> None:
        """Take on the state of another one, on a new object; the inverse of the accessors.

        Parameters
        ----------
        folded : int
            Rows that do not wait.
        origin, shift : array of shape (d,)
            The first row, and the mean less that row.
        scatter : array of shape (d, d) or None
            Over 1; None where no row is folded.
        waiting_rows : array of shape (k, d)
            Fewer than a chunk has.
        """
        with self.device.context():
            held = [None if a is None else self._uploaded(a) for a in (origin, shift, scatter)]
            self._now = _State(folded, *held)
            self._pieces = [self._uploaded(waiting_rows)] if len(waiting_rows) else []
        self.rollback()

    @property
    def _found(self) -> _State:
        """The next state where work is over, else the present one."""
        return self._next if self._chunks and self._done == self._chunks else self._now

    def _begin(self, batch: LibraryRows | Rows2D | None, chunks: int) -> None:
        self._follow_stream()
        self._batch, self._other = batch, None
        self._chunks, self._done = chunks, 0
        self._means_only = False
        self._next = replace(self._now)

    def _follow_stream(self) -> None:
        """Wait for what another stream has left to do, and leave none of its memory behind."""
        stream, before = self.device.stream(), self._stream
        if before is None or stream == before:
            return
        before.synchronize()
        with self.device.context():
            # Memory of a stream is given to its next work, whatever another stream still reads.
            copied = self.device.floats
            now = self._now
            held = (now.origin, now.mean, now.scatter)
            self._now = _State(
                now.count, *(None if one is None else copied(one, copy=True) for one in held)
            )
            self._pieces = [copied(piece, copy=True) for piece in self._pieces]
        stream.synchronize()
        self._stream = stream

    def _uploaded(self, array: Floats) -> Any:
        return self.device.floats(self.device.upload(array), copy=True)

    def _on_host(self, array: Any) -> Floats:
        with self.device.context():
            return np.array(namespaces.to_host(array), dtype=np.float64, order="C")

    def _batch_rows(self, begin: int, end: int) -> Any:
        """Return rows of the batch as new rows of float64 on the device."""
        with self.device.context():
            if isinstance(self._batch, LibraryRows):
                return self.device.floats(self._batch.values[begin:end, :], copy=True)
            assert self._batch is not None
            return self.device.floats(self.device.upload(self._batch[begin:end]), copy=True)

    def _rows(self, begin: int, end: int) -> Any:
        """Return rows, counted from the first that waits."""
        waiting = self.waiting
        parts = list(self._pieces) if begin < waiting else []
        if end > waiting:
            parts.append(self._batch_rows(max(begin - waiting, 0), end - waiting))
        return parts[0] if len(parts) == 1 else self.device.xp.concat(parts)

    def _fold(self, rows: Any) -> None:
        """Take a chunk in."""
        xp, state = self.device.xp, self._next
        n, k = state.count, len(rows)
        rows = rows - state.origin
        mean = xp.sum(rows, axis=0) / k
        step = mean - state.mean
        if not self._means_only:
            joining = step * math.sqrt(n * (k / (n + k)))
            z = xp.concat([rows - mean, xp.reshape(joining, (1, -1))])
            del rows
            self._add(z.T @ z)
        state.mean = state.mean + step * (k / (n + k))
        state.count = n + k

    def _join(self, other: DeviceScatter) -> None:
        """Take in another's state, and then the rows that wait there."""
        state, there = self._next, other._now
        if self.count == 0:
            state.origin = there.origin
        if there.count:
            n, k = state.count, there.count
            step = (there.origin - state.origin) + there.mean - state.mean
            between = (step[:, None] * step[None, :]) * (n * (k / (n + k)))
            self._add(there.scatter + between)
            state.mean = state.mean + step * (k / (n + k))
            state.count = n + k
        if other._pieces:
            self._fold(other._rows(0, other.waiting))

    def _add(self, product: Any) -> None:
        """Add a new matrix to the next state's: in place where that is not the present one's."""
        state, now = self._next, self._now
        if state.scatter is None:
            state.scatter = product
        elif state.scatter is now.scatter:
            state.scatter = state.scatter + product
        else:
            state.scatter += product

    def _brought(self, other: core.Scatter | DeviceScatter) -> DeviceScatter:
        """Return another one on this device."""
        if isinstance(other, DeviceScatter):
            other._follow_stream()
            if other.device.is_same(self.device):
                return other
        copy = DeviceScatter(self._d, self.device)
        copy.restore(*state_of(other))
        return copy


def state_of(
    engine: core.Scatter | DeviceScatter,
) -> tuple[int, Floats, Floats, Floats | None, Floats]:
    """Return all that an engine knows, on the host, as `restore` of either kind takes it.

    Parameters
    ----------
    engine : core.Scatter or DeviceScatter
        At rest.

    Returns
    -------
    tuple
        Rows that are folded; first row and shift; scatter matrix or None; waiting rows.
    """
    scatter = None
    if isinstance(engine, DeviceScatter):
        scatter = engine.raw_scatter()
    elif engine.folded:
        scatter = engine.scatter(1.0)
    return engine.folded, engine.origin(), engine.shift(), scatter, engine.waiting_rows()
