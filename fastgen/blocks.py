"""Joins of sets that do not fit into the memory of a GPU: by pairs of blocks of their rows.

Blocks are uploaded and prepared as they are needed. The order of pairs goes back and forth, so that
one block of each pair is there already, and the other one is uploaded, on a stream of its own,
while the engine works on the pair before.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

from fastgen.reductions import Part, Reduction
from fastgen.sets import Rows
from fastgen.workers import Pending, Tell, drive

if TYPE_CHECKING:
    from fastgen import _cuda


class Block(NamedTuple):
    """Consecutive rows of one of the sets of a join.

    Attributes
    ----------
    rows : Rows
        The set.
    start, stop : int
        Which of its rows.
    """

    rows: Rows
    start: int
    stop: int

    @property
    def place(self) -> slice:
        """The rows as a slice."""
        return slice(self.start, self.stop)

    @property
    def key(self) -> tuple[int, int]:
        """What tells it from other blocks."""
        return id(self.rows), self.start


def blocks_of(rows: Rows, size: int) -> list[Block]:
    """Cut a set into blocks.

    Parameters
    ----------
    rows : Rows of shape (n, d)
        The set.
    size : int
        Rows of a block at most.

    Returns
    -------
    list of Block
        As few as can be, of nearly equal size.
    """
    count = -(-rows.n // size)
    edges = [rows.n * part // count for part in range(count + 1)]
    return [Block(rows, *pair) for pair in itertools.pairwise(edges)]


def walk(x: list[Block], y: list[Block]) -> Iterator[tuple[Block, Block]]:
    """Yield all pairs of blocks, each with a block of the pair before.

    Parameters
    ----------
    x, y : list of Block
        Of the two sets.

    Yields
    ------
    pair of Block
        One of `x` and one of `y`.
    """
    for turn, block in enumerate(x):
        for other in y if turn % 2 == 0 else y[::-1]:
            yield block, other


def join(
    reduction: Reduction,
    x: list[Block],
    y: list[Block],
    module: Any,
    stream: _cuda.Stream,
    path: str,
    lock: Lock,
    tell: Tell,
    count: Callable[[dict[str, int]], None],
) -> None:
    """Join all pairs of some blocks on one GPU.

    Parameters
    ----------
    reduction : Reduction
        Gets what is found.
    x, y : list of Block
        Of the two sets.
    module : module
        `backend.cuda()`.
    stream : _cuda.Stream
        Where the work goes.
    path : str
        Path of the engine.
    lock : Lock
        Held while `reduction` or `count` is told something.
    tell : callable
        Takes the fraction done.
    count : callable
        Takes the engine's counters.
    """
    loader = _Loader(module, stream, path)
    pairs = list(walk(x, y))
    total = sum(_work(*pair) for pair in pairs)
    done = 0.0

    def run(pair: tuple[Block, Block], following: tuple[Block, ...]) -> None:
        # In a function of its own, so that the blocks can go before others come.
        part = Part(*loader.load(pair, following), pair[0].place, pair[1].place)
        engine = reduction.begin(module, part)
        if engine is None:
            return
        work = _work(*pair)
        drive(engine, lambda fraction: tell((done + work * fraction) / total))
        with lock:
            reduction.take(engine.finish(), part)
            count(engine.counters)

    try:
        for place, pair in enumerate(pairs):
            run(pair, pairs[place + 1] if place + 1 < len(pairs) else ())
            done += _work(*pair)
    except BaseException:
        with contextlib.suppress(RuntimeError):  # the first error is the one to tell
            loader.close()
        raise
    loader.close()


class _Loader:
    """Keeps the blocks of the pair at hand, and fetches the one that is next."""

    def __init__(self, module: Any, stream: _cuda.Stream, path: str) -> None:
        self._module = module
        self._stream = stream
        self._copies = module.Stream(stream.device)
        self._path = path
        self._there: dict[tuple[int, int], _cuda.Prepared] = {}
        self._fetched: dict[tuple[int, int], Pending[_cuda.Rows]] = {}

    def load(
        self, pair: tuple[Block, Block], following: tuple[Block, ...]
    ) -> tuple[_cuda.Prepared, _cuda.Prepared]:
        """Return the blocks of a pair, ready for joins, and start fetching those that follow."""
        keys = {block.key for block in pair}
        self._there = {key: ready for key, ready in self._there.items() if key in keys}
        for block in pair:
            if block.key not in self._there:
                self._fetch(block)
                rows = self._fetched[block.key].result()
                del self._fetched[block.key]
                engine = self._module.Prepared(rows, self._path)
                drive(engine)
                self._there[block.key] = engine
        for block in following:
            if block.key not in self._there:
                self._fetch(block)
        return self._there[pair[0].key], self._there[pair[1].key]

    def close(self) -> None:
        """Let everything go, when nothing on the GPU uses it any more."""
        for pending in self._fetched.values():
            pending.stop()
        self._stream.synchronize()
        self._copies.synchronize()
        self._fetched.clear()
        self._there.clear()

    def _fetch(self, block: Block) -> None:
        if block.key in self._fetched:
            return
        if block.rows.copies:
            rows = self._there_already(block)
            self._fetched[block.key] = Pending(lambda _: rows)
            return
        upload = self._module.Upload(block.rows.host[block.place], self._stream, self._copies)

        def call(check: Callable[[], None]) -> _cuda.Rows:
            drive(upload, lambda _: check())
            fetched: _cuda.Rows = upload.rows()
            return fetched

        self._fetched[block.key] = Pending(call)

    def _there_already(self, block: Block) -> _cuda.Rows:
        """Return rows of a set that is on a GPU, perhaps another one."""
        copies, device = dict(block.rows.copies), self._stream.device
        there = copies.get(device, next(iter(copies.values())))
        rows = there.part(block.start, block.stop)
        if rows.device != device:
            return rows.copied(self._stream)
        return rows if rows.stream.handle == self._stream.handle else rows.on(self._stream)


def _work(block: Block, other: Block) -> float:
    return float(block.stop - block.start) * (other.stop - other.start)
