"""Joins in low dimension: scipy's k-d tree proposes, the canonical distance decides.

Identical rows come as one group, so that collapsed sets cost as little as their distinct rows. The
tree works in float64 with its own order of additions; whatever lies within ``r (1 + 2^-40)`` of a
row is a candidate, far beyond the rounding of either distance, and candidates are decided by their
canonical squared distances. Differences below 2^-535 square to less than float64 can hold; an
absolute slack of 2^-530 keeps such pairs among the candidates.

Cost: O((n + m) log m) for neighbours and for balls that hold few rows. Where balls hold many
(`TooManyPairsError`) the pair engine is the better choice. Blocks of rows end in Python several
times a second; scratch memory is bounded by `_BLOCK_PAIRS`.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from fastgen.backend import core
from fastgen.groups import Groups
from fastgen.workers import by_parts

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Tell = Callable[[float], None]

_RELATIVE = 1.0 + 2.0**-40
_ABSOLUTE = 2.0**-530
_BLOCK_PAIRS = 1 << 20  # candidates held at a time: about 100 MB with their scratch
_FIRST_BLOCK = 256
_BLOCK_SECONDS = 0.2


class TooManyPairsError(Exception):
    """The balls hold so many rows that a tree gains nothing."""


def knn(
    x: Groups,
    y: Groups | None,
    k: int,
    *,
    indices: bool,
    isa: str,
    threads: int,
    tell: Tell,
) -> tuple[Floats, Integers | None]:
    """Return the k nearest rows of `y` for every row of `x`.

    Parameters
    ----------
    x : Groups
        n rows to look from.
    y : Groups or None
        m rows to look among; None: `x` itself, each row left out by its index.
    k : int
        1 to m, or n - 1 without `y`.
    indices : bool
        Whether to return which rows they are.
    isa, threads : str, int
        Resolved instruction set and number of threads.
    tell : callable
        Takes the fraction done.

    Returns
    -------
    squares : array of shape (n, k), float64
        Canonical squared distances, ascending.
    indices : array of shape (n, k), int64, or None
        Equal distances by index.
    """
    pool = x if y is None else y
    wanted = k + 1 if y is None else k  # a row finds itself first, at distance 0
    squares = np.empty((x.size, wanted))
    found = np.empty((x.size, wanted), dtype=np.int64) if indices else None
    reach = min(pool.size, wanted + 2)  # two more, to see that the k-th has no equal beyond
    for block in _blocks(x.size, max(1, _BLOCK_PAIRS // reach), tell):
        queries = np.arange(block.start, block.stop, dtype=np.int64)
        near, groups = _nearest(x.values[block], pool, reach, threads)
        pairs = _Pairs(np.repeat(queries, reach), groups)
        squares[block], top = _smallest(pairs, x, pool, wanted, indices, isa, threads)
        if found is not None and top is not None:
            found[block] = top
        if reach == pool.size:
            continue
        bound = _search_radius(squares[block, -1])
        open_ = queries[near <= bound]
        for pairs in _within(x.values, open_, bound[open_ - block.start], pool, threads):
            rows = np.unique(pairs.first)
            squares[rows], top = _smallest(pairs, x, pool, wanted, indices, isa, threads)
            if found is not None and top is not None:
                found[rows] = top
    return _to_rows(x, squares, found, leave_out_self=y is None)


def _to_rows(
    x: Groups, squares: Floats, found: Integers | None, leave_out_self: bool
) -> tuple[Floats, Integers | None]:
    """Spread the groups' answers over their rows, each without itself."""
    n, width = len(x.group_of), squares.shape[1]
    k = width - 1 if leave_out_self else width
    out = np.empty((n, k))
    indices = None if found is None else np.empty((n, k), dtype=np.int64)
    step = max(1, _BLOCK_PAIRS // width)
    for start in range(0, n, step):
        block = slice(start, start + step)
        groups = x.group_of[block]
        # The row itself is at distance 0, as the first entry of the list is: dropping either
        # leaves the same distances.
        out[block] = squares[groups, width - k :]
        if found is None or indices is None:
            continue
        listed = found[groups]
        if leave_out_self:
            own = listed == np.arange(start, start + len(groups))[:, np.newaxis]
            own[~own.any(axis=1), -1] = True  # more equal rows than the list holds: the last goes
            listed = listed[~own].reshape(len(groups), k)
        indices[block] = listed
    return out, indices


def ball_counts(
    centres: Groups,
    points: Groups,
    sq_radii: Floats,
    *,
    closed: bool,
    isa: str,
    threads: int,
    tell: Tell,
) -> tuple[Integers, Integers]:
    """Count the points in balls around the rows of another set, both ways.

    Parameters
    ----------
    centres : Groups
        n rows with a ball around each.
    points : Groups
        m rows that may lie in them.
    sq_radii : array of shape (r, n), float64
        Squared radii; NaN is a ball that holds nothing.
    closed : bool
        Whether a point at exactly the radius is inside.
    isa, threads : str, int
        Resolved instruction set and number of threads.
    tell : callable
        Takes the fraction done.

    Returns
    -------
    inside : array of shape (r, n), int64
        Points in each ball.
    holding : array of shape (r, m), int64
        Balls that hold each point.

    Raises
    ------
    TooManyPairsError
        If the balls hold more pairs than a tree is good for.
    """
    families, n = sq_radii.shape
    inside = np.zeros((families, n), dtype=np.int64)
    holding = np.zeros((families, len(points.members)), dtype=np.int64)
    for family in range(families):

        def part(fraction: float, family: int = family) -> None:
            tell((family + fraction) / families)

        # Equal rows with equal radii are one ball; their radii may differ, since callers choose.
        radii = sq_radii[family]
        kept = np.flatnonzero(radii >= 0)
        order = kept[np.lexsort((radii[kept], centres.group_of[kept]))]
        group, radius = centres.group_of[order], radii[order]
        new = np.ones(len(order), dtype=bool)
        new[1:] = (group[1:] != group[:-1]) | (radius[1:] != radius[:-1])
        ball, weight = np.cumsum(new) - 1, np.diff(np.flatnonzero(new), append=len(order))
        group, radius = group[new], radius[new]
        where, bound = centres.values[group], _search_radius(radius)
        lengths = _require_few(where, bound, points, threads)
        held = np.zeros(len(group), dtype=np.int64)
        balls = np.zeros(points.size, dtype=np.int64)
        for block in _blocks(len(group), _BLOCK_PAIRS, part):
            queries = np.arange(block.start, block.stop, dtype=np.int64)
            found = _within(where, queries, bound[block], points, threads, lengths[block])
            for pairs in found:
                sq = core.pair_sq_distances(
                    where, points.values, pairs.first, pairs.second, isa, threads
                )
                limit = radius[pairs.first]
                hit = sq <= limit if closed else sq < limit
                first, second = pairs.first[hit], pairs.second[hit]
                np.add.at(held, first, points.counts[second])
                np.add.at(balls, second, weight[first])
        inside[family, order] = held[ball]
        holding[family] = balls[points.group_of]
    return inside, holding


def sq_realism(
    centres: Groups,
    points: Groups,
    sq_radii: Floats,
    *,
    isa: str,
    threads: int,
    tell: Tell,
) -> Floats:
    """Return the largest squared ratio of radius to distance for every point.

    Parameters
    ----------
    centres : Groups
        n rows with a radius each.
    points : Groups
        m rows to judge.
    sq_radii : array of shape (n,), float64
        Squared radii; rows with NaN are left out.
    isa, threads : str, int
        Resolved instruction set and number of threads.
    tell : callable
        Takes the fraction done.

    Returns
    -------
    array of shape (m,), float64
        ``max_i sq_radii[i] / d2_ij``; 0 over 0 counts as 1.

    Raises
    ------
    TooManyPairsError
        If too many centres have to be compared with too many points.
    """
    # Among equal rows only the largest radius matters.
    largest = np.full(centres.size, -1.0)
    kept = np.flatnonzero(sq_radii >= 0)
    np.maximum.at(largest, centres.group_of[kept], sq_radii[kept])
    best = np.zeros(points.size)
    everyone = np.arange(points.size, dtype=np.int64)

    def propose(pool: Groups, radii: Floats, reach: int, done: float) -> None:
        """Compare every point with its nearest few centres."""
        reach = min(pool.size, reach)
        for block in _blocks(points.size, _BLOCK_PAIRS // reach, lambda now: tell(now * done)):
            second = _nearest(points.values[block], pool, reach, threads)[1]
            compare(_Pairs(np.repeat(everyone[block], reach), second), pool, radii)

    def compare(pairs: _Pairs, pool: Groups, radii: Floats) -> None:
        sq = core.pair_sq_distances(
            points.values, pool.values, pairs.first, pairs.second, isa, threads
        )
        radius = radii[pairs.second]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            ratio = radius / sq
        ratio[(radius == 0) & (sq == 0)] = 1.0
        np.maximum.at(best, pairs.first, ratio)

    alone = np.flatnonzero(largest == 0)  # these matter only to points that coincide with them
    if len(alone):
        propose(Groups(centres.values[alone]), np.zeros(len(alone)), 1, 0.1)
    wide = np.flatnonzero(largest > 0)
    if len(wide):
        # The nearest few give each point a ratio to beat; whoever beats it lies closer than the
        # largest radius over that ratio.
        pool = Groups(centres.values[wide])
        radii = largest[wide][pool.members]  # the new groups are single rows, in sorted order
        propose(pool, radii, 8, 0.5)
        if np.any(best < 2.0**-900):  # ratios this small round on an absolute grid
            raise TooManyPairsError
        with np.errstate(over="ignore"):
            bound = _search_radius(radii.max() / best)
        lengths = _require_few(points.values, bound, pool, threads)
        for block in _blocks(points.size, _BLOCK_PAIRS, lambda now: tell(0.5 + now / 2)):
            queries = everyone[block]
            found = _within(points.values, queries, bound[block], pool, threads, lengths[block])
            for pairs in found:
                compare(pairs, pool, radii)
    return best[points.group_of]


class _Pairs:
    """Candidate pairs: rows of the one side and groups of the other."""

    __slots__ = ("first", "second")

    def __init__(self, first: Integers, second: Integers) -> None:
        self.first = first
        self.second = second


def _search_radius(squares: Floats) -> Floats:
    return np.sqrt(squares) * _RELATIVE + _ABSOLUTE


def _blocks(size: int, largest: int, tell: Tell) -> Iterator[slice]:
    """Split rows into blocks of about a fifth of a second each, at most `largest` rows."""
    start, step = 0, min(_FIRST_BLOCK, largest)
    while start < size:
        began = time.monotonic()
        yield slice(start, min(start + step, size))
        start = min(start + step, size)
        tell(start / size)
        speed = _BLOCK_SECONDS / max(time.monotonic() - began, 1e-9)
        step = max(1, min(largest, int(step * min(max(speed, 0.25), 4.0))))


def _require_few(where: Floats, bound: Floats, pool: Groups, threads: int) -> Integers:
    """Return how many rows each ball holds; raise `TooManyPairsError` when the sum gets large.

    A listed candidate costs about 100 times a pair in a tile of the engine.
    """
    allowed = 32 * (len(where) + pool.size) + len(where) * pool.size // 128
    lengths = np.empty(len(where), dtype=np.int64)
    for block in _blocks(len(where), _BLOCK_PAIRS, lambda _: None):
        lengths[block] = _lengths(where[block], bound[block], pool, threads)
        allowed -= int(lengths[block].sum())
        if allowed < 0:
            raise TooManyPairsError
    return lengths


def _nearest(where: Floats, pool: Groups, k: int, threads: int) -> tuple[Floats, Integers]:
    """Return the distance of the k-th nearest group by the tree's reckoning, and all k of them."""
    kd_tree = pool.tree  # built here, not by the threads

    def call(part: slice) -> tuple[Floats, Integers]:
        distances, groups = kd_tree.query(where[part], k=k)
        return distances.reshape(-1, k)[:, -1], groups.astype(np.int64).ravel()

    parts = by_parts(call, len(where), threads)
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _lengths(where: Floats, bound: Floats, pool: Groups, threads: int) -> Integers:
    kd_tree = pool.tree

    def call(part: slice) -> Integers:
        lengths = kd_tree.query_ball_point(where[part], bound[part], return_length=True)
        return np.asarray(lengths, dtype=np.int64)

    return np.concatenate(by_parts(call, len(where), threads))


def _members(where: Floats, bound: Floats, pool: Groups, threads: int, total: int) -> Integers:
    """Return the groups in each ball, one ball after the other; `total` of them."""
    kd_tree = pool.tree

    def call(part: slice) -> Any:
        return kd_tree.query_ball_point(where[part], bound[part], return_sorted=False)

    lists = itertools.chain.from_iterable(by_parts(call, len(where), threads))
    return np.fromiter(itertools.chain.from_iterable(lists), dtype=np.int64, count=total)


def _within(
    where: Floats,
    queries: Integers,
    bound: Floats,
    pool: Groups,
    threads: int,
    lengths: Integers | None = None,
) -> Iterator[_Pairs]:
    """Yield the candidate pairs of `queries` (rows of `where`), whole rows at a time."""
    if len(queries) == 0:
        return
    if lengths is None:
        lengths = _lengths(where[queries], bound, pool, threads)
    parts = np.cumsum(lengths) // _BLOCK_PAIRS
    for part in np.split(np.arange(len(queries)), np.flatnonzero(np.diff(parts)) + 1):
        total = int(lengths[part].sum())
        second = _members(where[queries[part]], bound[part], pool, threads, total)
        yield _Pairs(np.repeat(queries[part], lengths[part]), second)


def _smallest(
    pairs: _Pairs, x: Groups, y: Groups, k: int, indices: bool, isa: str, threads: int
) -> tuple[Floats, Integers | None]:
    """Return the k smallest squared distances of every query among its candidates, with members.

    Every query has candidates with at least k rows; queries come in ascending order.
    """
    first, second = pairs.first, pairs.second
    sq = core.pair_sq_distances(x.values, y.values, first, second, isa, threads)
    order = np.lexsort((sq, first))
    sq, second = sq[order], second[order]  # `first` ascends already
    counts = y.counts[second]
    # The k-th smallest, counting each group with its rows: nothing beyond it is of interest.
    begin = np.flatnonzero(np.diff(first, prepend=-1))
    before = np.cumsum(counts) - counts
    query = np.repeat(np.arange(len(begin)), np.diff(begin, append=len(first)))
    early = before - before[begin][query] < k
    limit = sq[np.flatnonzero(early & np.append(~early[1:] | (np.diff(query) > 0), True))]
    kept = sq <= limit[query] if indices else early
    first, second, sq = query[kept], second[kept], sq[kept]
    # A group counts with each of its rows, but no list needs more than k of them.
    repeats = np.minimum(y.counts[second], k)
    source = np.repeat(np.arange(len(sq)), repeats)
    first, sq = first[source], sq[source]
    begin = np.flatnonzero(np.diff(first, prepend=-1))
    if not indices:
        return sq[begin[:, np.newaxis] + np.arange(k)], None
    offset = np.arange(len(source)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    member = y.members[y.starts[second[source]] + offset]
    order = np.lexsort((member, sq, first))
    top = order[begin[:, np.newaxis] + np.arange(k)]
    return sq[top], member[top]
