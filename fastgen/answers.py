"""A classifier's answers to rows, summed split by split: what Inception Scores are made of.

Sums over rows are made of whole numbers. A class probability p, and an entropy over 32, is put on
the grid of 2^-31, and what is left of it on that of 2^-63; both are added as int64, which holds
2^31 rows. So no order of the rows, and no cut into blocks, threads, batches or states, changes a
bit, and the error does not grow with the number of rows.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastgen import arrays, plan
from fastgen._errors import fail
from fastgen.arrays import Rows2D
from fastgen.results import InceptionScore
from fastgen.session import Session
from fastgen.workers import by_parts

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

#: Of int64 sums that are held at a time, where there are many splits.
TOTALS_BYTES = 64 << 20

_ROW_SUM = 1e-3  # how far from 1 a row may add up to: float16 rounds as much
_FAR = -600.0  # e^-600 is below all grids, and still no subnormal number for any number of classes
_GRIDS = (2.0**31, 2.0**63)
# A float64 next to 1.5 * 2^52 / grid is a multiple of 1 / grid: adding and subtracting rounds.
_ROUNDERS = tuple(1.5 * 2.0**52 / grid for grid in _GRIDS)
_ENTROPY_UNIT = 32.0  # the logarithm of 2^31 classes is 21.5: entropies over this are below 1

# Of float64. At 50,000 x 1,000 and two threads, a quarter of it costs 1.6 times as much, as threads
# then wait for the interpreter; twice as much leaves the cache.
_BLOCK_BYTES = 1 << 20
_BLOCKS = 8  # of one thread, some 0.1 s: Ctrl-C and progress are served in between
_FIXED_BYTES = 32 << 20  # interpreter objects and thread stacks


class Answers(NamedTuple):
    """Rows of answers, validated but for their numbers.

    Attributes
    ----------
    function : str
        Named in messages.
    argument : str
        "logits" or "probabilities", which is what they are.
    rows : ndarray of shape (n, c)
        As `arrays.as_rows` returns them.
    """

    function: str
    argument: str
    rows: Rows2D


class BlockSums(NamedTuple):
    """Sums over a block of rows.

    Attributes
    ----------
    splits : array of shape (s,), int64
        Those that the rows are in, each once.
    counts, sums : arrays of shape (s,) and (s, 2, c + 1), int64
        As of `Totals`.
    """

    splits: Integers
    counts: Integers
    sums: Integers


class Totals:
    """Exact sums over the rows of consecutive splits.

    Parameters
    ----------
    first : int
        The first of the splits.
    splits : int
        Their number.
    classes : int
        Number of classes.

    Attributes
    ----------
    first : int
        As given.
    counts : array of shape (splits,), int64
        Rows of each.
    sums : array of shape (splits, 2, classes + 1), int64
        Class probabilities, and entropies in units of 32, on the two grids.
    """

    __slots__ = ("counts", "first", "sums")

    def __init__(self, first: int, splits: int, classes: int) -> None:
        self.first = first
        self.counts: Integers = np.zeros(splits, dtype=np.int64)
        self.sums: Integers = np.zeros((splits, 2, classes + 1), dtype=np.int64)

    def add(self, other: Totals) -> None:
        """Add the sums of splits that are all among these.

        Parameters
        ----------
        other : Totals
            Of as many classes.
        """
        place = slice(other.first - self.first, other.first - self.first + len(other.counts))
        self.counts[place] += other.counts
        self.sums[place] += other.sums

    def add_blocks(self, parts: list[list[BlockSums]]) -> None:
        """Add the sums of blocks whose splits are all among these.

        Parameters
        ----------
        parts : list of lists of BlockSums
            What several threads found.
        """
        for splits, counts, sums in itertools.chain.from_iterable(parts):
            self.counts[splits - self.first] += counts
            self.sums[splits - self.first] += sums

    def joined(self) -> Totals:
        """Return those of all rows, as split 0.

        Returns
        -------
        Totals
            Of one split.
        """
        whole = Totals(0, 1, self.sums.shape[2] - 1)
        whole.counts[0] = self.counts.sum()
        whole.sums[0] = self.sums.sum(axis=0)
        return whole

    def scores(self) -> list[float]:
        """Return the score of every split.

        Returns
        -------
        list of float
            ``exp(H(q) - mean_i H(p_i))``.
        """
        most = self.sums.shape[2] - 1.0
        pairs = map(self._halves, range(len(self.counts)))
        # Rounding takes a score neither below 1 nor above the number of classes.
        return [min(most, math.exp(max(0.0, varied - sure))) for sure, varied in pairs]

    def summary(self, scores: list[float]) -> InceptionScore:
        """Reduce scores to the metric; these are the totals of all rows, as split 0.

        Parameters
        ----------
        scores : list of float
            Of all splits.

        Returns
        -------
        InceptionScore
            Mean, standard deviation, and the two halves.
        """
        mean = math.fsum(scores) / len(scores)
        mean = min(max(mean, min(scores)), max(scores))  # so that equal scores do not deviate
        variance = math.fsum((score - mean) ** 2 for score in scores) / len(scores)
        return InceptionScore(mean, math.sqrt(variance), *self._halves(0))

    def _halves(self, split: int) -> tuple[float, float]:
        """Return mean entropy of the rows and entropy of their mean."""
        upper, lower = self.sums[split]
        # At most some 2^-53 of a sum is lost as the limbs become floats.
        means = (upper / _GRIDS[0] + lower / _GRIDS[1]) / self.counts[split]
        return _ENTROPY_UNIT * float(means[-1]), float(_entropies(means[np.newaxis, :-1])[0])


def as_answers(function: str, logits: object, probabilities: object) -> Answers:
    """Validate a classifier's answers, but for their numbers.

    Parameters
    ----------
    function : str
        Named in messages.
    logits, probabilities : array of shape (n, c)
        One of them; the other is None.

    Returns
    -------
    Answers
        Which, and the rows.

    Raises
    ------
    TypeError, ValueError, BackendUnavailableError
        As `arrays.as_rows`; ValueError also if not one of them is given.
    """
    if (logits is None) == (probabilities is None):
        fail(function, "logits", "or `probabilities`", "none" if logits is None else "both")
    argument, given = ("probabilities", probabilities) if logits is None else ("logits", logits)
    return Answers(function, argument, arrays.as_rows(function, argument, given, values=False))


def splits_of(places: Integers, rows: int, splits: int) -> Integers:
    """Return the split of each place: the last s with ``floor(s rows / splits) <= place``.

    Parameters
    ----------
    places : array of shape (n,), int64
        From 0 to `rows` - 1.
    rows, splits : int
        Number of both; splits <= rows < 2^31.

    Returns
    -------
    array of shape (n,), int64
        From 0 to `splits` - 1.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgen.answers import splits_of
    >>> splits_of(np.arange(7), 7, 3)
    array([0, 0, 1, 1, 2, 2, 2])
    """
    labels: Integers = ((places + 1) * splits - 1) // rows
    return labels


def require_memory(session: Session, answers: Answers, splits: int) -> None:
    """Raise ValueError if the budget cannot hold a pass.

    Parameters
    ----------
    session : Session
        Has the budget.
    answers : Answers
        That are summed.
    splits : int
        Summed at a time.
    """
    n, classes = answers.rows.shape
    block = max(_BLOCK_BYTES, 8 * (classes + 1))
    # A thread has six arrays of a block's size, and the sums of its blocks: on both grids, of at
    # most every row. Then totals, those of all rows as floats, and three numbers for every row.
    needed = _FIXED_BYTES + session.threads * (6 + 2 * _BLOCKS) * block
    needed += (16 * splits + 64) * (classes + 1) + 40 * n
    plan.require_memory(session.function, session.memory, needed)


def add_up(
    answers: Answers,
    labels: Integers,
    chosen: Integers | None,
    totals: Totals,
    threads: int,
    tell: Callable[[float, float], None] | None = None,
) -> None:
    """Add rows to the splits that their labels name.

    Parameters
    ----------
    answers : Answers
        All rows.
    labels : array of shape (n,), int64
        The split of each row.
    chosen : array of int64, optional
        Rows to add; their splits are among those of `totals`. Default: all.
    totals : Totals
        Added to.
    threads : int
        Threads that share the blocks.
    tell : callable, optional
        Takes the number of rows that were added, and 1.0, some times a second.

    Raises
    ------
    ValueError
        If a number is not finite, or a row holds no probabilities; some rows may have been added.
    """
    n = len(labels) if chosen is None else len(chosen)
    step = max(1, _BLOCK_BYTES // (8 * answers.rows.shape[1]))

    def of_blocks(blocks: slice) -> list[BlockSums]:
        found = []
        for place in range(begin + blocks.start * step, begin + blocks.stop * step, step):
            here = slice(place, min(place + step, n))
            found.append(_of_block(answers, here if chosen is None else chosen[here], labels))
        return found

    for begin in range(0, n, step * _BLOCKS * threads):
        end = min(begin + step * _BLOCKS * threads, n)
        totals.add_blocks(by_parts(of_blocks, -(-(end - begin) // step), threads))
        if tell is not None:
            tell(end - begin, 1.0)


def _of_block(answers: Answers, place: slice | Integers, labels: Integers) -> BlockSums:
    values = answers.rows[place].astype(np.float64)
    turn = _from_logits if answers.argument == "logits" else _from_probabilities
    with np.errstate(all="ignore"):  # of numbers that are refused, or too small to count
        p, entropies = turn(answers, place, values)
        splits = labels[place]
        if np.any(splits[1:] < splits[:-1]):
            order = np.argsort(splits, kind="stable")
            p, entropies, splits = p[order], entropies[order], splits[order]
        edges = np.flatnonzero(splits[1:] != splits[:-1]) + 1
        starts = np.concatenate([[0], edges])
        counts = np.diff(starts, append=len(splits))
        sums = np.empty((len(starts), 2, p.shape[1] + 1), dtype=np.int64)
        _sum_runs(p, starts, sums[:, :, :-1])
        _sum_runs(entropies[:, np.newaxis] / _ENTROPY_UNIT, starts, sums[:, :, -1:])
    return BlockSums(splits[starts], counts, sums)


def _sum_runs(values: Floats, starts: Integers, sums: Integers) -> None:
    """Sum runs of rows of numbers in [0, 1] on both grids; float64 is exact for 2^22 rows."""
    rest = values
    for limb, (grid, rounder) in enumerate(zip(_GRIDS, _ROUNDERS, strict=True)):
        rounded = rest + rounder
        rounded -= rounder
        sums[:, limb] = np.add.reduceat(rounded, starts, axis=0) * grid
        if limb == 0:
            rest = np.subtract(rest, rounded, out=rounded)  # exact


def _from_logits(
    answers: Answers, place: slice | Integers, values: Floats
) -> tuple[Floats, Floats]:
    """Return the softmax of every row and its entropy; `values` are overwritten."""
    largest = values.max(axis=1, keepdims=True)
    if not (np.isfinite(largest).all() and np.isfinite(values.min())):
        hint = "for a class that is ruled out take a number such as -1e9"
        _fail_at(answers, place, values, ~np.isfinite(values), "to be finite", hint)
    values -= largest
    np.maximum(values, _FAR, out=values)
    p = np.exp(values)
    totals = p.sum(axis=1, keepdims=True)
    values *= p
    entropies = np.log(totals[:, 0]) - values.sum(axis=1) / totals[:, 0]
    p /= totals
    return p, entropies


def _from_probabilities(
    answers: Answers, place: slice | Integers, values: Floats
) -> tuple[Floats, Floats]:
    """Return every row over its sum, in place, and its entropy."""
    least, totals = values.min(), values.sum(axis=1, keepdims=True)
    off = np.abs(totals[:, 0] - 1)
    if not (least >= 0 and off.max() <= _ROW_SUM):
        _fail_at(answers, place, values, ~np.isfinite(values), "to be finite")
        _fail_at(answers, place, values, values < 0, "of at least 0")
        row = int(np.argmax(off > _ROW_SUM))
        condition = f"with rows that add up to 1 to within {_ROW_SUM}"
        hint = "answers before the softmax are `logits`"
        got = f"{totals[row, 0]} in row {_number(place, row)}"
        fail(answers.function, answers.argument, condition, got, hint)
    values /= totals
    return values, _entropies(values)


def _entropies(p: Floats) -> Floats:
    """Return ``-sum p log p`` of every row, where ``0 log 0 = 0``."""
    terms = np.log(np.maximum(p, np.finfo(np.float64).tiny))
    terms *= p
    entropies: Floats = np.maximum(-terms.sum(axis=1), 0.0)
    return entropies


def _fail_at(
    answers: Answers,
    place: slice | Integers,
    values: Floats,
    wrong: npt.NDArray[np.bool_],
    condition: str,
    hint: str = "",
) -> None:
    """Raise for the first number that is wrong, if there is one."""
    if wrong.any():
        row, column = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
        got = f"{values[row, column]} in row {_number(place, int(row))}, column {column}"
        fail(answers.function, answers.argument, condition, got, hint)


def _number(place: slice | Integers, row: int) -> int:
    return int(place.start + row if isinstance(place, slice) else place[row])
