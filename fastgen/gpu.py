"""The GPUs of one call: what is there of its sets, and the joins that run on them.

With one GPU an engine sees all pairs. Several GPUs have a copy of both sets each, and a share of
the tiles; sets that fit on none are joined by blocks, dealt to the GPUs. Results are put together
exactly (`reductions`), so neither the number of GPUs nor blocks change a bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fastgen import backend, blocks, gpu_plan, library_devices, plan
from fastgen._errors import fail
from fastgen.arrays import LARGEST, Rows2D, fail_if_bad
from fastgen.gpu_plan import JoinSize, SumSize
from fastgen.reductions import Answering, Part, Reduction
from fastgen.sets import Rows
from fastgen.workers import Tell, drive, side_by_side

if TYPE_CHECKING:
    from fastgen import _cuda

Integers = npt.NDArray[np.int64]


class Gpu:
    """The GPUs that a call computes on.

    Parameters
    ----------
    function : str
        Named in messages.
    devices : sequence of int
        CUDA's indices, the first one first.
    stream : _cuda.Stream, optional
        Of the caller, on the first of them. Default: one of our own.
    budget : int, optional
        Bytes of each GPU's memory; default what is free there.
    counters : dict, optional
        The engines' counters are added to it.

    Attributes
    ----------
    function, devices, budget
        As given.
    module : module
        `backend.cuda()`.
    """

    def __init__(
        self,
        function: str,
        devices: Sequence[int],
        stream: _cuda.Stream | None,
        budget: int | None,
        counters: dict[str, int] | None = None,
    ) -> None:
        self.module = backend.cuda()
        self.devices = list(devices)
        self.function = function
        self.budget = budget
        self._counters = counters
        self._block_rows = 0  # 0: sets are on the GPUs as a whole
        self._points = 0  # 0: as many as there are
        self._most_rows = 0  # of sets for the density engine that are on the GPUs; 0: any
        self._streams_sums = False  # whether sets stay on the host while kernels are summed
        self._released = False  # whether torch and CuPy have been asked for memory
        self._streams: dict[int, _cuda.Stream] = {}
        for device in devices:
            if stream is not None and stream.device == device:
                self._streams[device] = stream
            else:
                self._streams[device] = self.module.Stream(device)

    @property
    def whole(self) -> bool:
        """Whether one engine sees all pairs of a join."""
        return len(self.devices) == 1 and not self._block_rows

    @property
    def first(self) -> int:
        """The GPU of what runs on one alone."""
        return self.devices[0]

    def synchronize(self) -> None:
        """Wait for everything that the call has given to its GPUs."""
        for stream in self._streams.values():
            stream.synchronize()

    def available(self, wanted: int = 0) -> int:
        """Return the bytes that the call may take of each GPU's memory.

        Parameters
        ----------
        wanted : int, default 0
            Bytes that would be of use: where fewer are free, torch and CuPy are made to give back
            what they keep for later.

        Returns
        -------
        int
            The budget, or less where less is free; a sixteenth of that is left to others.
        """
        wanted = wanted if self.budget is None else min(self.budget, wanted)
        free = min(map(self._free, self.devices))
        if free < wanted and not self._released:
            self._released = True
            library_devices.release_caches(self.devices)
            free = min(map(self._free, self.devices))
        return free if self.budget is None else min(self.budget, free)

    def make_room(self, sets: Sequence[Rows], k: int) -> None:
        """Decide whether joins see their sets as a whole, or in blocks.

        Parameters
        ----------
        sets : sequence of Rows
            All that take part in the call.
        k : int
            Neighbours kept per row.

        Raises
        ------
        ValueError
            If the budget holds no blocks of useful size.
        MemoryError
            If the free memory does not.
        """
        size = self._join_size(sets, k)
        needed = size.bytes_needed()
        available = self.available(needed)
        if needed <= available:
            self._block_rows = 0
            return
        self._block_rows = size.block_rows(available)
        if not self._block_rows:
            self.require(size.least_bytes())

    def make_room_for_sums(self, size: SumSize, *, require: bool = True) -> None:
        """Decide whether sets of the host are copied for sums of kernels, or stay there.

        Parameters
        ----------
        size : SumSize
            Of the pass.
        require : bool, default True
            Whether to raise if neither is possible.

        Raises
        ------
        ValueError
            If the budget holds no windows of useful size.
        MemoryError
            If the free memory does not.
        """
        needed, least = size.bytes_needed(), size.least_bytes()
        available = self.available(needed)
        self._streams_sums = needed > available
        if require and min(needed, least) > available:
            self.require(least)

    def streams(self, rows: Rows) -> bool:
        """Return whether sums of kernels take a set from the host, part by part.

        Parameters
        ----------
        rows : Rows
            A set.

        Returns
        -------
        bool
            False for any set that is on a GPU.
        """
        return self._streams_sums and not rows.copies

    def source(self, rows: Rows, device: int) -> _cuda.Rows | Rows2D:
        """Return a set as sums of kernels take it.

        Parameters
        ----------
        rows : Rows
            The set.
        device : int
            A GPU.

        Returns
        -------
        _cuda.Rows or ndarray
            The array of the host if it stays there.
        """
        return rows.host if self.streams(rows) else self.handle(rows, device)

    def some(self, rows: Rows, indices: Integers) -> tuple[_cuda.Rows, Integers]:
        """Return the rows of some indices on the first GPU, perhaps among others.

        Parameters
        ----------
        rows : Rows
            The set.
        indices : int64 array
            Which, any number of times.

        Returns
        -------
        handle : _cuda.Rows
            Ready for work on the call's stream.
        places : int64 array
            Where they are in it.
        """
        if not self.streams(rows):
            return self.handle(rows), indices
        chosen, places = np.unique(indices, return_inverse=True)
        few = np.ascontiguousarray(rows.host[chosen])
        return self.module.Rows.from_host(few, self.stream(self.first)), places.astype(np.int64)

    def stream(self, device: int) -> _cuda.Stream:
        """Return the stream that the call works on.

        Parameters
        ----------
        device : int
            A GPU.

        Returns
        -------
        _cuda.Stream
            The caller's, or one of our own.
        """
        return self._streams[device]

    def require(self, needed: int) -> None:
        """Raise if the memory does not hold what is needed.

        Parameters
        ----------
        needed : int
            Bytes.

        Raises
        ------
        ValueError
            If the caller's budget is smaller.
        MemoryError
            If a GPU has not so much free.
        """
        plan.require_memory(self.function, self.budget, needed)
        if self.available(needed) >= needed:
            return
        device = min(self.devices, key=self._free)
        raise MemoryError(
            f"{self.function}: needs {needed} bytes of the memory of cuda:{device}, "
            f"where {self._free(device)} are free"
        )

    def take_turns(self, points: int) -> None:
        """Let passes of the density engine have fewer points than there are.

        Parameters
        ----------
        points : int
            How many at a time; larger sets stay on the host until then.
        """
        self._points = points

    def keep_on_host(self, more_than: int) -> None:
        """Let large sets for the density engine come to the GPUs by blocks.

        Parameters
        ----------
        more_than : int
            Rows that a set may have to be there as a whole.
        """
        self._most_rows = more_than

    def stays(self, rows: Rows, device: int) -> bool:
        """Return whether a set is not to be on a GPU as a whole.

        Parameters
        ----------
        rows : Rows
            For the density engine.
        device : int
            One of the GPUs.

        Returns
        -------
        bool
            False also where it is there already.
        """
        return 0 < self._most_rows < rows.n and device not in rows.copies

    def points(self, n: int) -> int:
        """Return how many points a pass of the density engine may have.

        Parameters
        ----------
        n : int
            How many there are.

        Returns
        -------
        int
            At most `n`.
        """
        return min(n, self._points or n)

    def absent(self, sets: Sequence[Rows]) -> int:
        """Return how many rows of some sets have to be copied to a GPU.

        Parameters
        ----------
        sets : sequence of Rows
            Each counts once.

        Returns
        -------
        int
            Rows, on the GPU that has least of them.
        """
        distinct = {id(rows): rows for rows in sets}.values()
        return max(
            sum(rows.n for rows in distinct if device not in rows.copies) for device in self.devices
        )

    def check_values(self, rows: Rows) -> bool:
        """Check on a GPU that all numbers are finite and at most 2^500 in magnitude.

        Parameters
        ----------
        rows : Rows
            Copied to the first GPU, if it is not to come there by blocks.

        Returns
        -------
        bool
            False if nothing has been checked: the rows stay on the host.

        Raises
        ------
        ValueError
            Naming the first bad row and column.
        """
        by_blocks = self._block_rows or self._streams_sums or self.stays(rows, self.first)
        stays = by_blocks or self.points(rows.n) < rows.n
        if stays and self.first not in rows.copies:
            return False
        infinite, large = self.handle(rows).first_bad(LARGEST)
        fail_if_bad(self.function, rows.name, rows.values, infinite, large)
        return True

    def handle(self, rows: Rows, device: int | None = None) -> _cuda.Rows:
        """Return the rows as engines take them, copied to a GPU if they are not there.

        Parameters
        ----------
        rows : Rows
            A set.
        device : int, optional
            Default: the first GPU.

        Returns
        -------
        _cuda.Rows
            Ready for work on the call's stream.
        """
        device = self.first if device is None else device
        stream = self._streams[device]
        if device not in rows.copies:
            if rows.copies:
                rows.copies[device] = next(iter(dict(rows.copies).values())).copied(stream)
            else:
                upload = self.module.Upload(rows.values, stream, stream)
                drive(upload)
                rows.copies[device] = upload.rows()
        if rows.copies[device].stream.handle != stream.handle:  # from a call before this one
            rows.copies[device] = rows.copies[device].on(stream)
        return rows.copies[device]

    def join(
        self, reduction: Reduction, x: Rows, y: Rows, path: str | None, k: int, tell: Tell
    ) -> None:
        """Let engines look at all pairs of two sets.

        Parameters
        ----------
        reduction : Reduction
            What they are asked; gets their answers.
        x, y : Rows
            The sets; the same object for a set against itself.
        path : str or None
            One of `gpu_plan.PATHS`.
        k : int
            Neighbours sought.
        tell : callable
            Takes the fraction done.
        """
        plan.check_path(self.function, path, gpu_plan.PATHS)
        if path == "direct" and x.d > gpu_plan.DIRECT_D:
            condition = f'other than "direct" beyond {gpu_plan.DIRECT_D} features'
            fail(self.function, "path", condition, f"d = {x.d}")
        name, lock = gpu_plan.join_path(path, k), Lock()
        if self._block_rows:
            left, right = (blocks.blocks_of(rows, self._block_rows) for rows in (x, y))
            count = min(len(self.devices), len(left))

            def walk(place: int, tell: Tell) -> None:
                stream = self._streams[self.devices[place]]
                mine = left[place::count]
                blocks.join(
                    reduction, mine, right, self.module, stream, name, lock, tell, self._count
                )

            side_by_side([partial(walk, place) for place in range(count)], tell)
            return

        def share(place: int, tell: Tell) -> tuple[Answering, Part]:
            device = self.devices[place]
            left, right = (self._prepared(rows, device, name) for rows in (x, y))
            divided = place, len(self.devices)
            part = Part(left, right, slice(0, x.n), slice(0, y.n), divided)
            engine = reduction.begin(self.module, part)
            assert engine is not None  # whole sets have pairs
            drive(engine, tell)
            return engine, part

        calls = [partial(share, place) for place in range(len(self.devices))]
        for engine, part in side_by_side(calls, tell):
            reduction.take(engine.finish(), part)
            self._count(engine.counters)

    def _free(self, device: int) -> int:
        """Return the bytes to be had of a GPU's memory, but for a sixteenth."""
        free = int(self.module.free_memory(device))
        return free - free // 16

    def _prepared(self, rows: Rows, device: int, path: str) -> _cuda.Prepared:
        self.handle(rows, device)
        return rows.prepared_on(device, path, self.module)

    def _count(self, counters: dict[str, int]) -> None:
        if self._counters is not None:
            for name, count in counters.items():
                self._counters[name] = self._counters.get(name, 0) + count

    def _join_size(self, sets: Sequence[Rows], k: int) -> JoinSize:
        distinct = list({id(rows): rows for rows in sets}.values())
        return JoinSize(
            tuple(rows.n for rows in distinct),
            self.absent(distinct),
            distinct[0].d,
            max(rows.values.itemsize for rows in distinct),
            k,
        )
