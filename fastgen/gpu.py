"""The GPUs of one call: the copies of its sets there, and the joins that run on them.

With one GPU an engine sees all pairs. Several GPUs have a copy of both sets each, and a share of
the tiles; sets that fit on none are joined by blocks, dealt to the GPUs. Results are put together
exactly (`reductions`), so neither the number of GPUs nor blocks change a bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fastgen import backend, blocks, gpu_plan, plan
from fastgen._errors import fail
from fastgen.arrays import LARGEST, Rows2D, fail_if_bad
from fastgen.gpu_memory import GpuMemory
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
    function, devices
        As given.
    memory : GpuMemory
        Of all of them, and what is to be there.
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
        self.memory = GpuMemory(function, devices, budget)
        self._counters = counters
        self._streams: dict[int, _cuda.Stream] = {}
        for device in devices:
            if stream is not None and stream.device == device:
                self._streams[device] = stream
            else:
                self._streams[device] = self.module.Stream(device)

    @cached_property
    def alike(self) -> list[int]:
        """The GPUs of the first one's compute capability, which share sums and densities.

        Joins end in integers and float64 and do not mind. Tensor cores of two generations round
        sums of float16 products differently (Ampere keeps 24 bits and adds 8 at a time, Hopper 25
        and 16: MMA-Sim), so that bits would depend on who does which part.
        """
        kinds = {one["index"]: (one["major"], one["minor"]) for one in self.module.devices()}
        return [device for device in self.devices if kinds[device] == kinds[self.first]]

    @property
    def whole(self) -> bool:
        """Whether one engine sees all pairs of a join."""
        return len(self.devices) == 1 and not self.memory.block_rows

    @property
    def first(self) -> int:
        """The GPU of what runs on one alone."""
        return self.devices[0]

    def synchronize(self) -> None:
        """Wait for everything that the call has given to its GPUs."""
        for stream in self._streams.values():
            stream.synchronize()

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
        return rows.host if self.memory.streams(rows) else self.handle(rows, device)

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
        if not self.memory.streams(rows):
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

    def check_values(self, rows: Rows) -> bool:
        """Check on a GPU that all numbers are finite and at most 2^500 in magnitude.

        Parameters
        ----------
        rows : Rows
            Copied to the first GPU, if it is to be there as a whole.

        Returns
        -------
        bool
            False if nothing has been checked: the rows stay on the host.

        Raises
        ------
        ValueError
            Naming the first bad row and column.
        """
        if not self.memory.comes_whole(rows):
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
        if size := self.memory.block_rows:
            left, right = (blocks.blocks_of(rows, size) for rows in (x, y))
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

    def _prepared(self, rows: Rows, device: int, path: str) -> _cuda.Prepared:
        self.handle(rows, device)
        return rows.prepared_on(device, path, self.module)

    def _count(self, counters: dict[str, int]) -> None:
        if self._counters is not None:
            for name, count in counters.items():
                self._counters[name] = self._counters.get(name, 0) + count
