"""The nearest rows: radii, distances and indices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fastgen.numpy_reference.arguments import Floats, Integers, as_neighbour_counts, as_rows
from fastgen.numpy_reference.distances import blocks
from fastgen.numpy_reference.results import Neighbors


def sq_knn_radii(x: npt.ArrayLike, k: int | Sequence[int] = 3) -> Floats | list[Floats]:
    """Return the squared distance of every row to its k-th nearest other row.

    Parameters
    ----------
    x : array of shape (n, d)
        Rows. The row itself is left out by its index; an equal row elsewhere counts.
    k : int or sequence of int, default 3
        Which neighbour, 1 to n - 1. A sequence gives a list, in the same order.

    Returns
    -------
    array of shape (n,), float64, or a list of them
        Canonical squared distances.

    Raises
    ------
    ValueError
        If `k` is not in [1, n - 1], or `x` is not a matrix.

    Examples
    --------
    >>> from fastgen import numpy_reference
    >>> numpy_reference.sq_knn_radii([[0.0], [1.0], [3.0]], k=1)
    array([1., 1., 4.])
    """
    rows = as_rows("sq_knn_radii", "x", x)
    counts = as_neighbour_counts("sq_knn_radii", k, len(rows) - 1)
    radii = [np.empty(len(rows)) for _ in counts]
    for first, block in blocks(rows, rows, leave_out_self=True):
        smallest = np.partition(block, sorted({count - 1 for count in counts}), axis=1)
        for radius, count in zip(radii, counts, strict=True):
            radius[first : first + len(block)] = smallest[:, count - 1]
    return radii if isinstance(k, Sequence) else radii[0]


def knn_radii(x: npt.ArrayLike, k: int | Sequence[int] = 3) -> Floats | list[Floats]:
    """Return the distance of every row to its k-th nearest other row.

    Parameters
    ----------
    x : array of shape (n, d)
        Rows. The row itself is left out by its index; an equal row elsewhere counts.
    k : int or sequence of int, default 3
        Which neighbour, 1 to n - 1. A sequence gives a list, in the same order.

    Returns
    -------
    array of shape (n,), float64, or a list of them
        Distances, the roots of :func:`sq_knn_radii`.

    Raises
    ------
    ValueError
        If `k` is not in [1, n - 1], or `x` is not a matrix.

    Examples
    --------
    >>> from fastgen import numpy_reference
    >>> numpy_reference.knn_radii([[0.0], [1.0], [3.0]], k=[1, 2])
    [array([1., 1., 2.]), array([3., 2., 3.])]
    """
    squares = sq_knn_radii(x, k)
    return [np.sqrt(r) for r in squares] if isinstance(squares, list) else np.sqrt(squares)


def nearest(
    x: npt.ArrayLike, y: npt.ArrayLike | None = None, k: int | Sequence[int] = 1
) -> Neighbors | list[Neighbors]:
    """Return the k nearest rows of `y` for every row of `x`.

    Parameters
    ----------
    x : array of shape (n, d)
        Rows to look from.
    y : array of shape (m, d), optional
        Rows to look among. By default `x`, where a row is not its own neighbour; an array that
        is passed excludes nothing, even if it is `x` itself.
    k : int or sequence of int, default 1
        How many, 1 to m (n - 1 without `y`). A sequence gives a list, in the same order.

    Returns
    -------
    Neighbors or list of Neighbors
        `distances` ascending and `indices`; equal squared distances are ordered by index.

    Raises
    ------
    ValueError
        If `k` is out of range, the inputs are no matrices, or their widths differ.

    Examples
    --------
    >>> from fastgen import numpy_reference
    >>> numpy_reference.nearest([[0.0], [1.0], [2.0]], k=2).indices
    array([[1, 2],
           [0, 2],
           [1, 0]])
    """
    found = sq_nearest(x, y, k)
    results = [
        Neighbors(np.sqrt(sq), i) for sq, i in (found if isinstance(found, list) else [found])
    ]
    return results if isinstance(k, Sequence) else results[0]


def sq_nearest(
    x: npt.ArrayLike, y: npt.ArrayLike | None = None, k: int | Sequence[int] = 1
) -> tuple[Floats, Integers] | list[tuple[Floats, Integers]]:
    """Return what :func:`nearest` does, as squared distances and indices.

    Parameters
    ----------
    x : array of shape (n, d)
        Rows to look from.
    y : array of shape (m, d), optional
        Rows to look among; by default `x` without the row itself.
    k : int or sequence of int, default 1
        How many, 1 to m (n - 1 without `y`). A sequence gives a list, in the same order.

    Returns
    -------
    pair of arrays of shape (n, k), float64 and int64, or a list of them
        Canonical squared distances, ascending, and the rows they belong to.

    Raises
    ------
    ValueError
        If `k` is out of range, the inputs are no matrices, or their widths differ.

    Examples
    --------
    >>> from fastgen import numpy_reference
    >>> numpy_reference.sq_nearest([[0.0], [3.0]])
    (array([[9.],
           [9.]]), array([[1],
           [0]]))
    """
    rows = as_rows("nearest", "x", x)
    others = rows if y is None else as_rows("nearest", "y", y)
    counts = as_neighbour_counts("nearest", k, len(others) - (y is None))
    sq = np.empty((len(rows), max(counts)))
    indices = np.empty(sq.shape, dtype=np.int64)
    for first, block in blocks(rows, others, leave_out_self=y is None):
        # A stable sort keeps equal distances in the order of their columns.
        order = np.argsort(block, axis=1, kind="stable")[:, : sq.shape[1]]
        indices[first : first + len(block)] = order
        sq[first : first + len(block)] = np.take_along_axis(block, order, axis=1)
    results = [(sq[:, :count].copy(), indices[:, :count].copy()) for count in counts]
    return results if isinstance(k, Sequence) else results[0]
