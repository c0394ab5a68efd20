"""How one call runs: its options, what it prepared, and the joins it drives.

A join chooses a path, then either asks the tree or drives a compiled engine: begin, advance by a
fifth of a second, finish.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from types import TracebackType
from typing import Any, Protocol, Self, TypedDict, TypeVar

import numpy as np
import numpy.typing as npt

from fastgen import backend, plan, tree
from fastgen.arrays import Rows2D
from fastgen.backend import core
from fastgen.groups import Groups, suits
from fastgen.progress import Progress, ProgressLike

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
T = TypeVar("T")

_ADVANCE_SECONDS = 0.2  # Ctrl-C and progress are served in between


class Options(TypedDict, total=False):
    """Keyword options of `Session`, for the functions that pass them on."""

    threads: int | None
    device: object
    progress: ProgressLike
    memory: int | str | None
    isa: str | None
    path: str | None
    counters: dict[str, int] | None


class Engine(Protocol):
    """A compiled piece of work."""

    def advance(self, seconds: float) -> float:
        """Work for about that long and return the fraction done."""


class Rows:
    """A validated set and what has been prepared of it, so that several joins share it.

    Parameters
    ----------
    values : ndarray of shape (n, d)
        As `arrays.as_rows` returns it.
    name : str, default "x"
        The argument it came by, for messages.
    """

    __slots__ = ("_groups", "_prepared", "name", "values")

    def __init__(self, values: Rows2D, name: str = "x") -> None:
        self.values = values
        self.name = name
        self._prepared: dict[tuple[str, str], Any] = {}
        self._groups: Groups | None = None

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.values)

    @property
    def d(self) -> int:
        """Number of features."""
        return int(self.values.shape[1])

    @property
    def groups(self) -> Groups:
        """Distinct rows and their tree, made on first use."""
        if self._groups is None:
            self._groups = Groups(self.values)
        return self._groups

    def prepared(self, path: str, isa: str, threads: int) -> core.Prepared:
        """Centred, rotated and quantised rows, made on first use.

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
            engine = core.Prepared(self.values, path, isa, threads)
            drive(engine)
            self._prepared[path, isa] = engine
        ready: core.Prepared = self._prepared[path, isa]
        return ready


def drive(engine: Engine, tell: Callable[[float], None] | None = None) -> None:
    """Run an engine to its end.

    Parameters
    ----------
    engine : Engine
        Begun.
    tell : callable, optional
        Takes the fraction done after every step.
    """
    while (done := engine.advance(_ADVANCE_SECONDS)) < 1.0:
        if tell is not None:
            tell(done)
    if tell is not None:
        tell(1.0)


class Session:
    """How one call runs, and the joins it runs.

    Parameters
    ----------
    function : str
        The public function, for messages.
    threads : int, optional
        Number of threads; default see `backend.thread_count`.
    device : str, optional
        None or "cpu".
    progress : bool or callable, default False
        See `progress.Progress`.
    memory : int or str, optional
        Budget for memory beyond the inputs.
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
        self.function = function
        backend.require_cpu(function, device)
        self.threads = backend.thread_count(function, threads)
        self.memory = plan.parse_memory(function, memory)
        self.isa = backend.instruction_set(function, isa)
        self.path = plan.check_path(function, path, paths)
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
        self.progress.__exit__(kind, error, trace)

    def require_memory(self, sets: Sequence[Rows2D], k: int = 0) -> None:
        """Raise ValueError if the budget cannot hold joins of these sets.

        Parameters
        ----------
        sets : sequence of ndarray
            All that take part in the call.
        k : int, default 0
            Neighbours kept per row.
        """
        n = max(len(rows) for rows in sets)
        path = self.path or plan.choose_path(n, n, sets[0].shape[1], k)
        needed = plan.bytes_needed([rows.shape for rows in sets], k, path, self.threads)
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
