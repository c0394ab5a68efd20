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

from fastgen import device_answers, library_devices, library_rows, plan
from fastgen._errors import fail
from fastgen.answer_rows import ENTROPY_UNIT, GRIDS, entropies_of, sum_runs, turned
from fastgen.arrays import Rows2D
from fastgen.library_devices import Device
from fastgen.library_rows import LibraryRows
from fastgen.results import InceptionScore
from fastgen.session import Session
from fastgen.workers import by_parts

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

#: Of int64 sums that are held at a time, where there are many splits.
TOTALS_BYTES = 64 << 20

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
    rows : ndarray of shape (n, c) or LibraryRows
        As `library_rows.as_rows` returns them.
    device : Device or None
        Where they are summed; None for the CPU.
    """

    function: str
    argument: str
    rows: Rows2D | LibraryRows
    device: Device | None = None


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
        means = (upper / GRIDS[0] + lower / GRIDS[1]) / self.counts[split]
        return ENTROPY_UNIT * float(means[-1]), float(entropies_of(means[np.newaxis, :-1])[0])


def as_answers(
    function: str, logits: object, probabilities: object, asked: Device | str | None = None
) -> Answers:
    """Validate a classifier's answers, but for their numbers.

    Parameters
    ----------
    function : str
        Named in messages.
    logits, probabilities : array of shape (n, c)
        One of them; the other is None.
    asked : None, str or Device
        What `library_devices.asked_for` made of `device`.

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
    rows = library_rows.as_rows(function, argument, given)
    there = rows.device if isinstance(rows, LibraryRows) else None
    device = asked.unless(there) if isinstance(asked, Device) else None
    if isinstance(rows, LibraryRows):
        if asked == library_devices.HOST:
            rows = rows.on_host()
        else:
            device = device or rows.device
    return Answers(function, argument, rows, device)


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
    if answers.device is not None:  # the memory of the device
        block = max(device_answers.BLOCK_BYTES, 8 * (classes + 1))
        needed = _FIXED_BYTES + 12 * block + 16 * splits * (classes + 1) + 40 * n
        plan.require_memory(session.function, session.memory, needed)
        return
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
    if answers.device is not None:
        _add_up_on_device(answers, answers.device, labels, chosen, totals, tell)
        return
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


def _add_up_on_device(
    answers: Answers,
    device: Device,
    labels: Integers,
    chosen: Integers | None,
    totals: Totals,
    tell: Callable[[float, float], None] | None,
) -> None:
    if chosen is None and np.any(labels[1:] < labels[:-1]):
        chosen = np.argsort(labels, kind="stable")
    elif chosen is not None:
        chosen = chosen[np.argsort(labels[chosen], kind="stable")]
    n, rows = len(labels) if chosen is None else len(chosen), answers.rows
    step = device_answers.rows_of_block(rows.shape[1])
    for begin in range(0, n, step):
        here = slice(begin, min(begin + step, n))
        place = here if chosen is None else chosen[here]
        block = rows.picked(place) if isinstance(rows, LibraryRows) else rows[place]
        splits = labels[place]
        starts = np.append([0], np.flatnonzero(splits[1:] != splits[:-1]) + 1)
        sums = device_answers.sum_block(device, block, answers.argument == "logits", starts)
        if sums is None:  # the CPU says what is wrong
            host = block.on_host() if isinstance(block, LibraryRows) else block
            turned(answers, place, host.astype(np.float64))
            got = "rows that the CPU accepts"
            fail(answers.function, answers.argument, "to be alike everywhere", got)
        counts = np.diff(starts, append=len(splits))
        totals.add_blocks([[BlockSums(splits[starts], counts, sums)]])
        if tell is not None:
            tell(len(splits), 1.0)


def _of_block(answers: Answers, place: slice | Integers, labels: Integers) -> BlockSums:
    assert not isinstance(answers.rows, LibraryRows)
    values = answers.rows[place].astype(np.float64)
    with np.errstate(all="ignore"):  # of numbers that are refused, or too small to count
        p, entropies = turned(answers, place, values)
        splits = labels[place]
        if np.any(splits[1:] < splits[:-1]):
            order = np.argsort(splits, kind="stable")
            p, entropies, splits = p[order], entropies[order], splits[order]
        edges = np.flatnonzero(splits[1:] != splits[:-1]) + 1
        starts = np.concatenate([[0], edges])
        counts = np.diff(starts, append=len(splits))
        sums = np.empty((len(starts), 2, p.shape[1] + 1), dtype=np.int64)
        sum_runs(p, starts, sums[:, :, :-1])
        sum_runs(entropies[:, np.newaxis] / ENTROPY_UNIT, starts, sums[:, :, -1:])
    return BlockSums(splits[starts], counts, sums)
