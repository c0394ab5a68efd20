"""What a seed decides: which rows form a subset, and which rows change sides.

Every draw comes from ``numpy.random.default_rng(seed)`` in the order that the docstrings state, so
that anybody can repeat it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastgen._errors import fail
from fastgen.arrays import on_host
from fastgen.plan import as_int

Integers = npt.NDArray[np.int64]


def as_seed(function: str, seed: object) -> int:
    """Validate a seed.

    Parameters
    ----------
    function : str
        Named in messages.
    seed : int or None
        At least 0; None is 0.

    Returns
    -------
    int
        The seed.

    Raises
    ------
    TypeError
        If it is neither.
    ValueError
        If it is negative.
    """
    condition = "to be an int of at least 0, or None"
    number = 0 if seed is None else as_int(function, "seed", seed, condition)
    if number < 0:
        fail(function, "seed", condition, str(number))
    return number


def relabellings(n: int, m: int, count: int, seed: int) -> npt.NDArray[np.int8]:
    """Draw random splits of n + m pooled rows into n and m.

    Parameters
    ----------
    n, m : int
        Rows of the two sides.
    count : int
        Number of random splits.
    seed : int
        For ``default_rng(seed).permutation(n + m)``, once for each split: the first n entries are
        the rows of the first side.

    Returns
    -------
    array of shape (n + m, 1 + count), int8
        +1 for the first side and -1 for the second. Column 0 is the true split, n rows and then m.

    Examples
    --------
    >>> from fastgen.draws import relabellings
    >>> relabellings(2, 1, 2, seed=0)
    array([[ 1,  1, -1],
           [ 1, -1,  1],
           [-1,  1,  1]], dtype=int8)
    """
    rng = np.random.default_rng(seed)
    rows = np.full((1 + count, n + m), -1, dtype=np.int8)
    rows[0, :n] = 1
    for row in rows[1:]:
        row[rng.permutation(n + m)[:n]] = 1
    return rows.T  # a view: the engine reads one vector after the other


def subsets(n: int, m: int, count: int, size: int, seed: int) -> tuple[Integers, Integers]:
    """Draw subsets of two sets, without replacement inside a subset.

    Parameters
    ----------
    n, m : int
        Rows of the sets.
    count : int
        Number of subsets.
    size : int
        Rows that a subset takes from each set, at most min(n, m).
    seed : int
        For each subset, ``rng.choice(n, size, replace=False)`` and then ``rng.choice(m, size,
        replace=False)``.

    Returns
    -------
    pair of arrays of shape (count, size), int64
        Rows of the first and of the second set.

    Examples
    --------
    >>> from fastgen.draws import subsets
    >>> [drawn.shape for drawn in subsets(9, 7, count=3, size=5, seed=0)]
    [(3, 5), (3, 5)]
    """
    rng = np.random.default_rng(seed)
    first, second = (np.empty((count, size), dtype=np.int64) for _ in range(2))
    for of_first, of_second in zip(first, second, strict=True):
        of_first[:] = rng.choice(n, size, replace=False)
        of_second[:] = rng.choice(m, size, replace=False)
    return first, second


def as_subsets(function: str, indices: Any, n: int, m: int) -> tuple[Integers, Integers]:
    """Validate subsets that the caller chose, as `subset_indices`.

    Parameters
    ----------
    function : str
        Named in messages.
    indices : pair of integer arrays of shape (S, a) and (S, b)
        Rows of `real` and of `fake`; a, b >= 2.
    n, m : int
        Rows of the two sets.

    Returns
    -------
    pair of arrays, int64
        The same indices.

    Raises
    ------
    TypeError
        If it is no pair, or the arrays do not hold integers.
    ValueError
        If shapes do not fit or an index is out of bounds.
    """
    argument = "subset_indices"
    condition = "to be a pair of integer arrays of shape (S, a) and (S, b)"
    if not isinstance(indices, (tuple, list)) or len(indices) != 2:
        fail(function, argument, condition, type(indices).__name__, error=TypeError)
    pair: list[Integers] = []
    for given, rows, name in zip(indices, (n, m), ("real", "fake"), strict=True):
        one = np.asarray(on_host(function, argument, given))
        if one.dtype.kind not in "iu":
            fail(function, argument, condition, f"dtype {one.dtype} for {name}", error=TypeError)
        if one.ndim != 2 or len(one) == 0 or one.shape[1] < 2:
            hint = "S is at least 1, a and b are at least 2"
            fail(function, argument, condition, f"shape {one.shape} for {name}", hint)
        for extreme in (int(one.min()), int(one.max())):
            if not 0 <= extreme < rows:
                fail(function, argument, f"in [0, {rows - 1}] for {name}", str(extreme))
        pair.append(np.ascontiguousarray(one, dtype=np.int64))
    first, second = pair
    if len(first) != len(second):
        fail(function, argument, condition, f"shapes {first.shape} and {second.shape}")
    return first, second
