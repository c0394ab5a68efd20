"""How one call runs: its options, its sets, and the joins it drives.

A join on the CPU chooses a path, then either asks the tree or drives a compiled engine: begin,
advance by a fifth of a second, finish. `gpu` has those of GPUs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Sequence
from types import TracebackType
from typing import Any, Self, TypedDict, TypeVar

import numpy as np
import numpy.typing as npt

from fastgen import arrays, backend, plan, tree
from fastgen.backend import core
from fastgen.gpu import Gpu
from fastgen.groups import suits
from fastgen.intake import Intake
from fastgen.progress import Progress, ProgressLike
from fastgen.reductions import Counts, LargestRatio, Nearest, Reduction
from fastgen.sets import Rows
from fastgen.workers import drive

__all__ = ["Options", "Rows", "Session", "drive"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
T = TypeVar("T")


class Options(TypedDict, total=False):
    """Keyword options of `Session`, for the functions that pass them on."""

    threads: int | None
    device: object
    progress: ProgressLike
    memory: int | str | None
    isa: str | None
    path: str | None
    counters: dict[str, int] | None


class Session(Intake):
    """How one call runs, and the joins it runs.

    Parameters
    ----------
    function : str
        The public function, for messages.
    threads : int, optional
        Number of threads; default see `backend.thread_count`.
    device : str or device object, optional
        See `devices.as_target`.
    progress : bool or callable, default False
        See `progress.Progress`.
    memory : int or str, optional
        Budget for memory beyond the inputs; on a GPU, of each GPU's memory.
    isa : str, optional
        Instruction set; default see `backend.instruction_set`.
    path : str, optional
        One of `paths`; None lets the planner choose.
    counters : dict, optional
        The engines' counters are added to it.
    paths : collection of str, default plan.PATHS
        Those that serve this function.

    Raises
    ------
    TypeError, ValueError, BackendUnavailableError
        If an option is not usable.
    """

    def __init__(
        self,
        function: str,
        *,
        threads: int | None = None,
        device: object = None,
        progress: ProgressLike = False,
        memory: int | str | None = None,
        isa: str | None = None,
        path: str | None = None,
        counters: dict[str, int] | None = None,
        paths: Collection[str] = plan.PATHS,
    ) -> None:
        super().__init__(function, device)
        self._gpu: Gpu | None = None
        self.threads = backend.thread_count(function, threads)
        self.memory = plan.parse_memory(function, memory)
        self.isa = backend.instruction_set(function, isa)
        if path != "direct" or not self.wants_gpu:  # which joins on GPUs have
            plan.check_path(function, path, paths)
        self.path = path
        self.progress = Progress(function, progress)
        self.counters = counters

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the progress display."""
        try:
            self.progress.__exit__(kind, error, trace)
        finally:
            if kind is not None and self._gpu is not None:
                with contextlib.suppress(RuntimeError):  # the first error is the one to tell
                    self._gpu.synchronize()  # what it reads may be freed now

    @property
    def gpu(self) -> Gpu | None:
        """The GPUs that the call computes on, None for the CPU; settled by the first use."""
        if self._gpu is None and (used := self.gpus()):
            self._gpu = Gpu(self.function, used, self.stream, self.memory, self.counters)
        return self._gpu

    def check_values(self, *sets: Rows) -> None:
        """Check that all numbers are finite and at most 2^500 in magnitude, where the sets are.

        Parameters
        ----------
        *sets : Rows
            Those that have been checked before are passed over.

        Raises
        ------
        ValueError
            Naming the first bad row and column.
        """
        for rows in sets:
            if rows.checked:
                continue
            if self.gpu is None or not self.gpu.check_values(rows):
                arrays.check_values(self.function, rows.name, rows.host, self.threads)
            rows.checked = True

    def require_memory(self, sets: Sequence[Rows], k: int = 0) -> None:
        """Raise if the memory cannot hold joins of these sets.

        Parameters
        ----------
        sets : sequence of Rows
            All that take part in the call.
        k : int, default 0
            Neighbours kept per row.

        Raises
        ------
        ValueError
            If the budget is too small.
        MemoryError
            If a GPU has not so much free.
        """
        if self.gpu is not None:
            self.gpu.memory.make_room(sets, k)
            return
        n = max(rows.n for rows in sets)
        path = self.path or plan.choose_path(n, n, sets[0].d, k)
        needed = plan.bytes_needed([(rows.n, rows.d) for rows in sets], k, path, self.threads)
        plan.require_memory(self.function, self.memory, needed)

    def expect(self, *joins: tuple[Rows, Rows]) -> None:
        """Announce joins, so that progress knows the whole.

        Parameters
        ----------
        *joins : pair of Rows
            Twice the same for a set against itself, which costs half.
        """
        self.progress.expect(sum(_work(x, y) for x, y in joins))

    def sq_knn(
        self, x: Rows, y: Rows | None, ranks: Sequence[int], *, indices: bool = False
    ) -> tuple[Floats, Integers | None]:
        """See `pairwise.sq_knn`; `ranks` are the neighbours to return, ascending and distinct."""
        other, k = x if y is None else y, ranks[-1]

        def by_tree(tell: Callable[[float], None]) -> tuple[Floats, Integers | None]:
            groups = None if y is None else y.groups
            options: dict[str, Any] = {"indices": indices, **self._options(tell)}
            squares, found = tree.knn(x.groups, groups, k, **options)
            if len(ranks) == k:
                return squares, found
            columns = [rank - 1 for rank in ranks]
            return squares[:, columns], None if found is None else found[:, columns]

        def by_engine(path: str, tell: Callable[[float], None]) -> tuple[Floats, Integers | None]:
            pool = None if y is None else self._prepare(y, path)
            engine = core.Knn(self._prepare(x, path), pool, list(ranks), indices, self.threads)
            self._drive(engine, tell)
            return engine.finish()

        if self.gpu is not None:
            reduction = Nearest(x.n, y is None, ranks, indices, self.gpu.whole)
            self._join_on_gpu(reduction, x, other, k)
            return reduction.result()
        return self._join(x, other, k, by_tree, by_engine)

    def ball_counts(
        self,
        x: Rows,
        y: Rows,
        sq_radii_x: Floats | None,
        sq_radii_y: Floats | None,
        *,
        ties: str = "closed",
    ) -> dict[str, Integers]:
        """See `pairwise.ball_counts`."""
        closed = ties == "closed"

        def by_tree(tell: Callable[[float], None]) -> dict[str, Integers]:
            counts: dict[str, Integers] = {}
            both = sq_radii_x is not None and sq_radii_y is not None
            options: dict[str, Any] = {"closed": closed, **self._options(tell)}
            if both:
                options["tell"] = lambda done: tell(done / 2)
            if sq_radii_x is not None:
                found = tree.ball_counts(x.groups, y.groups, sq_radii_x, **options)
                counts["y_in_x"], counts["x_balls_of_y"] = found
            if both:
                options["tell"] = lambda done: tell(0.5 + done / 2)
            if sq_radii_y is not None:
                found = tree.ball_counts(y.groups, x.groups, sq_radii_y, **options)
                counts["x_in_y"], counts["y_balls_of_x"] = found
            return counts

        def by_engine(path: str, tell: Callable[[float], None]) -> dict[str, Integers]:
            left, right = self._prepare(x, path), self._prepare(y, path)
            engine = core.Balls(left, right, sq_radii_x, sq_radii_y, closed, self.threads)
            self._drive(engine, tell)
            return engine.finish()

        if self.gpu is not None:
            reduction = Counts(x.n, y.n, sq_radii_x, sq_radii_y, closed)
            self._join_on_gpu(reduction, x, y, 0)
            return reduction.result()
        return self._join(x, y, 0, by_tree, by_engine)

    def sq_realism(self, x: Rows, y: Rows, sq_radii_x: Floats) -> Floats:
        """See `pairwise.sq_realism`."""

        def by_tree(tell: Callable[[float], None]) -> Floats:
            return tree.sq_realism(x.groups, y.groups, sq_radii_x, **self._options(tell))

        def by_engine(path: str, tell: Callable[[float], None]) -> Floats:
            left, right = self._prepare(x, path), self._prepare(y, path)
            engine = core.Realism(left, right, sq_radii_x, self.threads)
            self._drive(engine, tell)
            return engine.finish()

        if self.gpu is not None:
            reduction = LargestRatio(y.n, sq_radii_x)
            self._join_on_gpu(reduction, x, y, 0)
            return reduction.result()
        return self._join(x, y, 0, by_tree, by_engine)

    def _join(
        self,
        x: Rows,
        y: Rows,
        k: int,
        by_tree: Callable[[Callable[[float], None]], T],
        by_engine: Callable[[str, Callable[[float], None]], T],
    ) -> T:
        """Choose between tree and engine, and fall back where the tree declines."""
        work = _work(x, y)

        def tell(fraction: float) -> None:
            # A tree that declines reports less than all: its work is not done.
            self.progress.update(work, min(fraction, 1.0 - 1e-9))

        path = self.path or plan.choose_path(x.n, y.n, x.d, k)
        if path == "tree":
            try:
                if suits(x.groups, y.groups):
                    result = by_tree(tell)
                    self.progress.update(work, 1.0)
                    return result
            except tree.TooManyPairsError:
                pass
            path = "auto" if k <= plan.LARGEST_LIST_K else "scan"
        result = by_engine(path, tell)
        self.progress.update(work, 1.0)
        return result

    def _join_on_gpu(self, reduction: Reduction, x: Rows, y: Rows, k: int) -> None:
        assert self.gpu is not None
        work = _work(x, y)

        def tell(fraction: float) -> None:
            self.progress.update(work, min(fraction, 1.0 - 1e-9))

        self.gpu.join(reduction, x, y, self.path, k, tell)
        self.progress.update(work, 1.0)

    def _prepare(self, rows: Rows, path: str) -> core.Prepared:
        return rows.prepared(path, self.isa, self.threads)

    def _drive(self, engine: core.Knn | core.Balls | core.Realism, tell: Any) -> None:
        drive(engine, tell)
        if self.counters is not None:
            for name, count in engine.counters.items():
                self.counters[name] = self.counters.get(name, 0) + count

    def _options(self, tell: Callable[[float], None]) -> dict[str, Any]:
        return {"isa": self.isa, "threads": self.threads, "tell": tell}


def _work(x: Rows, y: Rows) -> float:
    """Pairs of a join; a set against itself has each pair once."""
    return x.n * y.n / (2.0 if x is y else 1.0)
