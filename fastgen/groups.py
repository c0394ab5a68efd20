"""The distinct rows of a set in float64, and a k-d tree over them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastgen.workers import interruptible

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_MANY = 1 << 18  # rows from which building a tree takes a noticeable part of a second
_SMALLEST_SPREAD = 2.0**-450  # far above where squares underflow


class Groups:
    """Distinct rows of a set, the rows that share each, and the tree over them.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
        A validated set.

    Attributes
    ----------
    values : array of shape (g, d), float64
        The distinct rows, -0 as +0 (no distance tells them apart).
    members : array of shape (n,), int64
        Row indices by group, ascending inside each.
    starts, counts : arrays of shape (g,), int64
        Where a group begins in `members`, and how many rows it has.
    group_of : array of shape (n,), int64
        Group of every row.
    """

    def __init__(self, rows: npt.NDArray[np.floating[Any]]) -> None:
        values = rows.astype(np.float64) + 0.0
        order = np.arange(len(values), dtype=np.int64)
        for column in values.T[::-1]:  # a lexsort, one interruptible column at a time
            order = order[np.argsort(column[order], kind="stable")]
        new = np.ones(len(values), dtype=bool)
        new[1:] = False
        for column in values.T:  # by columns, so that no second sorted copy is needed
            ordered = column[order]
            new[1:] |= ordered[1:] != ordered[:-1]
        self.starts: Integers = np.flatnonzero(new).astype(np.int64)
        self.counts: Integers = np.diff(self.starts, append=len(values))
        self.members: Integers = order
        self.group_of: Integers = np.empty(len(values), dtype=np.int64)
        self.group_of[order] = np.cumsum(new) - 1
        self.values: Floats = np.ascontiguousarray(values[order[self.starts]])
        self._tree: Any = None

    @property
    def size(self) -> int:
        """Number of distinct rows."""
        return len(self.starts)

    @property
    def tree(self) -> Any:
        """The k-d tree over `values`, built on first use."""
        if self._tree is None:
            from scipy.spatial import cKDTree

            # Sliding midpoints: medians are slow to build where a column repeats few values.
            def build() -> Any:
                return cKDTree(self.values, balanced_tree=False)

            self._tree = interruptible(build) if self.size > _MANY else build()
        return self._tree


def suits(*sets: Groups) -> bool:
    """Tell whether a tree can represent the sets' differences.

    Parameters
    ----------
    *sets : Groups
        The sets of one join.

    Returns
    -------
    bool
        False if all rows differ by so little that most squares vanish; the pair engine rescales.
    """
    lowest = np.min([rows.values.min(axis=0) for rows in sets], axis=0)
    highest = np.max([rows.values.max(axis=0) for rows in sets], axis=0)
    spread = float(np.max(highest - lowest))
    return spread == 0.0 or spread > _SMALLEST_SPREAD
