"""Rows of a classifier's answers: probabilities, entropies, and the grids of their sums."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from fastgen._errors import fail

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

#: How far from 1 a row may add up to: float16 rounds as much.
ROW_SUM = 1e-3

#: Logits count as no further below the row's largest: e^-600 is below all grids, and still no
#: subnormal number for any number of classes.
FAR = -600.0

#: Sums are multiples of 1 over the first grid, and of 1 over the second for what is left.
GRIDS = (2.0**31, 2.0**63)

#: A float64 next to 1.5 * 2^52 / grid is a multiple of 1 / grid: adding and subtracting rounds.
ROUNDERS = tuple(1.5 * 2.0**52 / grid for grid in GRIDS)

#: The logarithm of 2^31 classes is 21.5: entropies over this are below 1.
ENTROPY_UNIT = 32.0


class Source(Protocol):
    """Where rows come from, for messages."""

    @property
    def function(self) -> str:
        """The public function."""

    @property
    def argument(self) -> str:
        """The word "logits" or "probabilities", which is what they are."""


def turned(source: Source, place: slice | Integers, values: Floats) -> tuple[Floats, Floats]:
    """Return the probabilities of every row, and its entropy.

    Parameters
    ----------
    source : Source
        Says what the rows are.
    place : slice or array of int64
        Their numbers, for messages.
    values : array of shape (b, c), float64
        Overwritten.

    Returns
    -------
    p : array of shape (b, c), float64
        Each row adds up to 1.
    entropies : array of shape (b,), float64
        In nats.

    Raises
    ------
    ValueError
        If a number is not finite, or a row holds no probabilities.
    """
    turn = _from_logits if source.argument == "logits" else _from_probabilities
    with np.errstate(all="ignore"):  # of numbers that are refused, or too small to count
        return turn(source, place, values)


def sum_runs(values: Floats, starts: Integers, sums: Integers) -> None:
    """Sum runs of rows of numbers in [0, 1] on both grids; float64 is exact for 2^22 rows.

    Parameters
    ----------
    values : array of shape (b, k), float64
        The numbers.
    starts : array of shape (s,), int64
        The first row of each run.
    sums : array of shape (s, 2, k), int64
        Written to.
    """
    rest = values
    for limb, (grid, rounder) in enumerate(zip(GRIDS, ROUNDERS, strict=True)):
        rounded = rest + rounder
        rounded -= rounder
        sums[:, limb] = np.add.reduceat(rounded, starts, axis=0) * grid
        if limb == 0:
            rest = np.subtract(rest, rounded, out=rounded)  # exact


def _from_logits(source: Source, place: slice | Integers, values: Floats) -> tuple[Floats, Floats]:
    """Return the softmax of every row and its entropy; `values` are overwritten."""
    largest = values.max(axis=1, keepdims=True)
    if not (np.isfinite(largest).all() and np.isfinite(values.min())):
        hint = "for a class that is ruled out take a number such as -1e9"
        _fail_at(source, place, values, ~np.isfinite(values), "to be finite", hint)
    values -= largest
    np.maximum(values, FAR, out=values)
    p = np.exp(values)
    totals = p.sum(axis=1, keepdims=True)
    values *= p
    entropies = np.log(totals[:, 0]) - values.sum(axis=1) / totals[:, 0]
    p /= totals
    return p, entropies


def _from_probabilities(
    source: Source, place: slice | Integers, values: Floats
) -> tuple[Floats, Floats]:
    """Return every row over its sum, in place, and its entropy."""
    least, totals = values.min(), values.sum(axis=1, keepdims=True)
    off = np.abs(totals[:, 0] - 1)
    if not (least >= 0 and off.max() <= ROW_SUM):
        _fail_at(source, place, values, ~np.isfinite(values), "to be finite")
        _fail_at(source, place, values, values < 0, "of at least 0")
        row = int(np.argmax(off > ROW_SUM))
        condition = f"with rows that add up to 1 to within {ROW_SUM}"
        hint = "answers before the softmax are `logits`"
        got = f"{totals[row, 0]} in row {_number(place, row)}"
        fail(source.function, source.argument, condition, got, hint)
    values /= totals
    return values, entropies_of(values)


def entropies_of(p: Floats) -> Floats:
    """Return ``-sum p log p`` of every row, where ``0 log 0 = 0``.

    Parameters
    ----------
    p : array of shape (b, c), float64
        Probabilities.

    Returns
    -------
    array of shape (b,), float64
        At least 0.
    """
    terms = np.log(np.maximum(p, np.finfo(np.float64).tiny))
    terms *= p
    entropies: Floats = np.maximum(-terms.sum(axis=1), 0.0)
    return entropies


def _fail_at(
    source: Source,
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
        fail(source.function, source.argument, condition, got, hint)


def _number(place: slice | Integers, row: int) -> int:
    return int(place.start + row if isinstance(place, slice) else place[row])
