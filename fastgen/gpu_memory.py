"""The memory of a call's GPUs: what is free there, and which sets come as a whole.

Sets that fit do. Of others the host keeps the rows: joins take them by blocks, sums of kernels
part by part, and densities some points, or a block of samples, at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastgen import backend, library_devices, plan
from fastgen.gpu_plan import JoinSize, SumSize
from fastgen.sets import Rows


class GpuMemory:
    """What a call may take of the memory of its GPUs, and what it has decided to put there.

    Parameters
    ----------
    function : str
        Named in messages.
    devices : sequence of int
        CUDA's indices, the first one first.
    budget : int, optional
        Bytes of each GPU's memory; default what is free there.

    Attributes
    ----------
    function, devices, budget
        As given.
    block_rows : int
        Of sets that are joined by blocks; 0 where they are on the GPUs as a whole.
    """

    def __init__(self, function: str, devices: Sequence[int], budget: int | None) -> None:
        self.function = function
        self.devices = list(devices)
        self.budget = budget
        self.block_rows = 0
        self._points = 0  # 0: as many as there are
        self._most_rows = 0  # of sets for the density engine that are on the GPUs; 0: any
        self._streams_sums = False  # whether sets stay on the host while kernels are summed
        self._released = False  # whether torch and CuPy have been asked for memory

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
            self.block_rows = 0
            return
        self.block_rows = size.block_rows(available)
        if not self.block_rows:
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

    def take_turns(self, points: int) -> None:
        """Let passes of the density engine have fewer points than there are.

        Parameters
        ----------
        points : int
            How many at a time; larger sets stay on the host until then.
        """
        self._points = points

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

    def comes_whole(self, rows: Rows) -> bool:
        """Return whether a set is, or will be, on the first GPU as a whole.

        Parameters
        ----------
        rows : Rows
            Of the call.

        Returns
        -------
        bool
            False if it is to come there part by part.
        """
        first = self.devices[0]
        in_parts = self.block_rows or self._streams_sums or self.stays(rows, first)
        return first in rows.copies or not (in_parts or self.points(rows.n) < rows.n)

    def _free(self, device: int) -> int:
        """Return the bytes to be had of a GPU's memory, but for a sixteenth."""
        free = int(backend.cuda().free_memory(device))
        return free - free // 16

    def _join_size(self, sets: Sequence[Rows], k: int) -> JoinSize:
        distinct = list({id(rows): rows for rows in sets}.values())
        return JoinSize(
            tuple(rows.n for rows in distinct),
            self.absent(distinct),
            distinct[0].d,
            max(rows.values.itemsize for rows in distinct),
            k,
        )
