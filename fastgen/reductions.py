"""Joins by parts: what engines on GPUs find in some of the pairs, put together exactly.

Parts come in any order, of shares of the pairs and of blocks of rows: counts add up, largest ratios
and nearest rows are those of all parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from fastgen.workers import Engine

if TYPE_CHECKING:
    from fastgen import _cuda

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_BLOCK_NUMBERS = 1 << 20  # 8 MB of distances sorted at a time


class Part(NamedTuple):
    """Some of the pairs of two sets, as an engine sees them.

    Attributes
    ----------
    x, y : _cuda.Prepared
        Some rows of each set; the same object where the sets and the rows are the same.
    rows, others : slice
        Which rows of the first and of the second set they are.
    share : pair of int
        Index and number of the shares that their pairs are divided into.
    """

    x: _cuda.Prepared
    y: _cuda.Prepared
    rows: slice
    others: slice
    share: tuple[int, int] = (0, 1)


class Answering(Engine, Protocol):
    """An engine on a GPU that answers a reduction."""

    def finish(self) -> Any:
        """Return what it has found."""

    @property
    def counters(self) -> dict[str, int]:
        """What it has looked at."""


class Reduction(Protocol):
    """What is asked of all pairs of two sets, `x` of n rows and `y` of m."""

    def begin(self, module: Any, part: Part) -> Answering | None:
        """Return an engine for some of the pairs; None where there is nothing to do.

        Parameters
        ----------
        module : module
            `backend.cuda()`.
        part : Part
            Which pairs.
        """

    def take(self, found: Any, part: Part) -> None:
        """Add what that engine's ``finish()`` returned."""


class Nearest:
    """The k nearest rows of `y` for every row of `x`.

    Parameters
    ----------
    n : int
        Rows of `x`.
    alone : bool
        Whether `y` is `x`, where no row is its own neighbour.
    ranks : sequence of int
        Neighbours to return, ascending and distinct.
    indices : bool
        Whether to return which rows they are.
    whole : bool
        Whether one engine sees all pairs, so that its answer is the answer.
    """

    def __init__(
        self, n: int, alone: bool, ranks: Sequence[int], indices: bool, whole: bool
    ) -> None:
        self._alone = alone
        self._ranks = list(ranks)
        self._wants = indices
        self._k = self._ranks[-1]
        self._whole = whole
        self._answer: tuple[Floats, Integers | None] | None = None
        if not whole:
            self._squares = np.full((n, self._k), np.inf)
            self._found = np.full((n, self._k), -1, dtype=np.int64) if indices else None

    def begin(self, module: Any, part: Part) -> _cuda.Knn | None:
        """See `Reduction`."""
        own = self._alone and part.x is part.y
        there = part.others.stop - part.others.start - (1 if own else 0)
        if there == 0:
            return None
        # Those before the k-th of a part may be the k-th of all.
        ranks = self._ranks if self._whole else list(range(1, min(self._k, there) + 1))
        engine: _cuda.Knn = module.Knn(
            part.x, None if own else part.y, ranks, self._wants, part.share
        )
        return engine

    def take(self, found: Any, part: Part) -> None:
        """See `Reduction`."""
        if self._whole:
            self._answer = found
            return
        squares, indices = found
        step = max(1, _BLOCK_NUMBERS // (2 * self._k))
        for start in range(0, len(squares), step):
            few = slice(start, min(start + step, len(squares)))
            here = slice(part.rows.start + few.start, part.rows.start + few.stop)
            both = np.concatenate([self._squares[here], squares[few]], axis=1)
            if self._found is None:
                both.sort(axis=1)
                self._squares[here] = both[:, : self._k]
                continue
            new = indices[few]
            new = np.where(new >= 0, new + part.others.start, -1)
            listed = np.concatenate([self._found[here], new], axis=1)
            order = np.lexsort((listed, both), axis=1)[:, : self._k]
            self._squares[here] = np.take_along_axis(both, order, axis=1)
            self._found[here] = np.take_along_axis(listed, order, axis=1)

    def result(self) -> tuple[Floats, Integers | None]:
        """Return squared distances of shape (n, ranks), and indices if they are wanted."""
        if self._answer is not None:
            return self._answer
        if len(self._ranks) == self._k:
            return self._squares, self._found
        columns = [rank - 1 for rank in self._ranks]
        return self._squares[:, columns], None if self._found is None else self._found[:, columns]


class Counts:
    """How many rows lie in balls around the rows of the other set.

    Parameters
    ----------
    n, m : int
        Rows of `x` and of `y`.
    sq_radii_x : array of shape (r, n), float64, optional
        Squared radii around the rows of `x`.
    sq_radii_y : array of shape (r, m), float64, optional
        Squared radii around the rows of `y`.
    closed : bool
        Whether a row at exactly the radius is inside.
    """

    def __init__(
        self, n: int, m: int, sq_radii_x: Floats | None, sq_radii_y: Floats | None, closed: bool
    ) -> None:
        self._radii = sq_radii_x, sq_radii_y
        self._closed = closed
        self._counts: dict[str, Integers] = {}
        self._of_x = ("y_in_x", "y_balls_of_x")
        for radii, names in (
            (sq_radii_x, ("y_in_x", "x_balls_of_y")),
            (sq_radii_y, ("x_in_y", "y_balls_of_x")),
        ):
            if radii is not None:
                for name in names:
                    size = n if name in self._of_x else m
                    self._counts[name] = np.zeros((len(radii), size), dtype=np.int64)

    def begin(self, module: Any, part: Part) -> _cuda.Balls:
        """See `Reduction`."""
        radii = [
            None if radii is None else np.ascontiguousarray(radii[:, place])
            for radii, place in zip(self._radii, (part.rows, part.others), strict=True)
        ]
        engine: _cuda.Balls = module.Balls(part.x, part.y, *radii, self._closed, part.share)
        return engine

    def take(self, found: Any, part: Part) -> None:
        """See `Reduction`."""
        for name, counts in found.items():
            self._counts[name][:, part.rows if name in self._of_x else part.others] += counts

    def result(self) -> dict[str, Integers]:
        """Return the counts as `pairwise.ball_counts` does."""
        return self._counts


class LargestRatio:
    """The largest squared ratio of radius to distance for every row of `y`.

    Parameters
    ----------
    m : int
        Rows of `y`.
    sq_radii_x : array of shape (n,), float64
        Squared radii of the rows of `x`; rows with NaN are left out.
    """

    def __init__(self, m: int, sq_radii_x: Floats) -> None:
        self._radii = sq_radii_x
        self._largest = np.zeros(m)

    def begin(self, module: Any, part: Part) -> _cuda.Realism:
        """See `Reduction`."""
        engine: _cuda.Realism = module.Realism(
            part.x, part.y, self._radii[part.rows].copy(), part.share
        )
        return engine

    def take(self, found: Any, part: Part) -> None:
        """See `Reduction`."""
        largest = self._largest[part.others]
        np.maximum(largest, found, out=largest)

    def result(self) -> Floats:
        """Return the ratios, of shape (m,)."""
        return self._largest
