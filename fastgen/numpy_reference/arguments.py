"""What the functions of the reference check, and no more than that."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def as_rows(function: str, argument: str, x: npt.ArrayLike) -> npt.NDArray[Any]:
    """Return a matrix with at least one row and one column."""
    rows = np.asarray(x)
    if rows.ndim != 2 or 0 in rows.shape:
        raise ValueError(
            f"{function}: expected `{argument}` of shape (n, d), n and d at least 1, "
            f"got {rows.shape}"
        )
    return rows


def as_finite(function: str, argument: str, values: npt.ArrayLike) -> Floats:
    """Return float64 numbers, none of them infinite or NaN."""
    numbers = np.asarray(values).astype(np.float64, copy=False)
    wrong = ~np.isfinite(numbers)
    if wrong.any():
        raise ValueError(
            f"{function}: expected `{argument}` to be finite, got {numbers[wrong].flat[0]}"
        )
    return numbers


def as_pair(
    function: str, first: str, x: npt.ArrayLike, second: str, y: npt.ArrayLike, at_least: int = 1
) -> tuple[Floats, Floats]:
    """Return two matrices of the same width as float64."""
    rows, others = as_rows(function, first, x), as_rows(function, second, y)
    if rows.shape[1] != others.shape[1]:
        raise ValueError(
            f"{function}: expected `{second}` with {rows.shape[1]} columns as `{first}`, "
            f"got {others.shape[1]}"
        )
    for argument, values in ((first, rows), (second, others)):
        if len(values) < at_least:
            raise ValueError(
                f"{function}: expected `{argument}` with at least {at_least} rows, "
                f"got {len(values)}"
            )
    return rows.astype(np.float64, copy=False), others.astype(np.float64, copy=False)


def as_neighbour_counts(function: str, k: int | Sequence[int], most: int) -> list[int]:
    """Return every k that is asked for, each in [1, most]."""
    counts = [operator.index(c) for c in k] if isinstance(k, Sequence) else [operator.index(k)]
    for count in counts:
        if not 1 <= count <= most:
            raise ValueError(f"{function}: expected `k` in [1, {most}], got {count}")
    if not counts:
        raise ValueError(f"{function}: expected `k` with at least one value, got none")
    return counts


def as_radii(argument: str, radii: npt.ArrayLike | None, columns: int) -> Floats:
    """Return the radii as a matrix, which has no rows where none were given."""
    values = np.asarray(np.empty((0, columns)) if radii is None else radii, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != columns:
        raise ValueError(
            f"expected `{argument}` with {columns} radii in a row, got shape {values.shape}"
        )
    return values


def tie_rule(function: str, ties: str) -> np.ufunc:
    """Return the comparison of a squared distance with a squared radius."""
    rules = {"closed": np.less_equal, "open": np.less}
    if ties not in rules:
        raise ValueError(f'{function}: expected `ties` "closed" or "open", got {ties!r}')
    return rules[ties]


def as_seed(seed: int | None) -> int:
    """Return the seed; None is 0, so that every call can be repeated."""
    return 0 if seed is None else operator.index(seed)
