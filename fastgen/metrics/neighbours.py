"""Distances to, and indices of, the nearest rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar, overload

import numpy as np
import numpy.typing as npt

from fastgen import arrays
from fastgen.progress import ProgressLike
from fastgen.results import Neighbors
from fastgen.session import Session

Floats = npt.NDArray[np.float64]
T = TypeVar("T", bound=np.generic)

_BLOCK_NUMBERS = 1 << 22  # 32 MB: Ctrl-C is served between blocks


@overload
def knn_radii(
    x: object,
    k: int = 3,
    *,
    threads: int | None = None,
    device: object = None,
    progress: ProgressLike = False,
    memory: int | str | None = None,
) -> Floats: ...
@overload
def knn_radii(
    x: object,
    k: Sequence[int],
    *,
    threads: int | None = None,
    device: object = None,
    progress: ProgressLike = False,
    memory: int | str | None = None,
) -> list[Floats]: ...
def knn_radii(
    x: object,
    k: int | Sequence[int] = 3,
    *,
    threads: int | None = None,
    device: object = None,
    progress: ProgressLike = False,
    memory: int | str | None = None,
) -> Floats | list[Floats]:
    """Return the distance of every row to its k-th nearest other row.

    Parameters
    ----------
    x : array of shape (n, d)
        Feature vectors: float16, float32, float64 or integers, in CPU memory or on a GPU, or the
        path of a file.
    k : int or sequence of int, default 3
        Which neighbour, from 1 to n - 1. A sequence costs one pass and gives a list.
    threads : int, optional
        Number of threads. Default: ``FASTGEN_NUM_THREADS``, else the CPUs this process may use.
    device : str or device object, optional
        Where to compute: "cpu", "cuda", "cuda:1" or "cuda:all" (every GPU). Default: where the
        arrays are. Arrays in CPU memory are copied to the GPU that is named; "cuda" is the arrays'
        own GPU, else the current one.
    progress : bool or callable, default False
        True shows a bar (needs rich); a callable gets the fraction done.
    memory : int or str, optional
        Budget for memory beyond the input, in bytes or as "4GB"; on a GPU, of its memory.
        Default: no limit.

    Returns
    -------
    array of shape (n,), float64, or list of such arrays
        Euclidean distances in feature space: a NumPy array, or where `x` is on a GPU one of its
        library, on the same GPU (of JAX only with ``jax_enable_x64``).

    Raises
    ------
    TypeError
        If an argument has the wrong type or dtype.
    ValueError
        If `x` is not a matrix of finite numbers, or `k` or another option is out of bounds.
    BackendUnavailableError
        If a GPU is asked for, or has an array, that cannot be used.
    MemoryError
        If a GPU has not enough free memory.

    Notes
    -----
    The row itself is left out by its index, not by its distance: of two equal rows each is the
    other's nearest neighbour, at 0. Results are the roots of squared distances that equal direct
    float64 arithmetic bit for bit, for any number of threads.

    Examples
    --------
    >>> import numpy as np
    >>> import fastgen
    >>> fastgen.knn_radii(np.array([[0.0], [1.0], [3.0]]), k=1)
    array([1., 1., 2.])
    """
    with Session(
        "knn_radii", threads=threads, device=device, progress=progress, memory=memory
    ) as session:
        rows = session.rows("x", x)
        arrays.check_has_neighbours("knn_radii", "x", rows.n)
        counts, many = arrays.as_neighbour_counts("knn_radii", k, rows.n - 1)
        session.require_memory([rows], max(counts))
        session.check_values(rows)
        distinct = sorted(set(counts))
        squares, _ = session.sq_knn(rows, None, distinct)
        columns = (squares[:, distinct.index(count)] for count in counts)
        radii: list[Floats] = [session.results(np.sqrt(column)) for column in columns]
        return radii if many else radii[0]


@overload
def nearest(
    x: object,
    y: object = None,
    k: int = 1,
    *,
    threads: int | None = None,
    device: object = None,
    progress: ProgressLike = False,
    memory: int | str | None = None,
) -> Neighbors: ...
@overload
def nearest(
    x: object,
    y: object = None,
    *,
    k: Sequence[int],
    threads: int | None = None,
    device: object = None,
    progress: ProgressLike = False,
    memory: int | str | None = None,
) -> list[Neighbors]: ...
@overload
def nearest(
    x: object,
    y: object,
    k: Sequence[int],
    *,
    threads: int | None = None,
    device: object = None,
    progress: ProgressLike = False,
    memory: int | str | None = None,
) -> list[Neighbors]: ...
def nearest(
    x: object,
    y: object = None,
    k: int | Sequence[int] = 1,
    *,
    threads: int | None = None,
    device: object = None,
    progress: ProgressLike = False,
    memory: int | str | None = None,
) -> Neighbors | list[Neighbors]:
    """Return the k nearest rows of `y` for every row of `x`.

    Parameters
    ----------
    x : array of shape (n, d)
        Rows to look from: float16, float32, float64 or integers, in CPU memory or on a GPU, or the
        path of a file.
    y : array of shape (m, d), optional
        Rows to look among, as `x`. Default: `x` itself, where a row is left out by its index. A `y`
        that is passed excludes nothing, even if it is the same array.
    k : int or sequence of int, default 1
        How many, from 1 to m (n - 1 without `y`). A sequence costs one pass and gives a list.
    threads : int, optional
        Number of threads. Default: ``FASTGEN_NUM_THREADS``, else the CPUs this process may use.
    device : str or device object, optional
        Where to compute: "cpu", "cuda", "cuda:1" or "cuda:all" (every GPU). Default: where the
        arrays are. Arrays in CPU memory are copied to the GPU that is named; "cuda" is the arrays'
        own GPU, else the current one.
    progress : bool or callable, default False
        True shows a bar (needs rich); a callable gets the fraction done.
    memory : int or str, optional
        Budget for memory beyond the inputs, in bytes or as "4GB"; on a GPU, of its memory.
        Default: no limit.

    Returns
    -------
    Neighbors or list of Neighbors
        Distances ascending, and indices; equal distances are ordered by index. NumPy arrays, or
        where an array is on a GPU those of its library, on the same GPU (of JAX only with
        ``jax_enable_x64``).

    Raises
    ------
    TypeError
        If an argument has the wrong type or dtype.
    ValueError
        If the sets are not matrices of finite numbers with the same number of columns, or `k` or
        another option is out of bounds.
    BackendUnavailableError
        If a GPU is asked for, or has an array, that cannot be used.
    MemoryError
        If a GPU has not enough free memory.

    Notes
    -----
    Neighbours are ordered by squared distances that equal direct float64 arithmetic bit for bit, so
    the answer does not depend on the number of threads, and ties are real ties.

    Examples
    --------
    >>> import numpy as np
    >>> import fastgen
    >>> x = np.array([[0.0], [1.0], [3.0]])
    >>> fastgen.nearest(x, k=2).indices
    array([[1, 2],
           [0, 2],
           [1, 0]])
    """
    with Session(
        "nearest", threads=threads, device=device, progress=progress, memory=memory
    ) as session:
        if y is None:
            rows = others = session.rows("x", x)
            arrays.check_has_neighbours("nearest", "x", rows.n)
            counts, many = arrays.as_neighbour_counts("nearest", k, rows.n - 1)
        else:
            rows, others = session.pair("x", x, "y", y)
            counts, many = arrays.as_neighbour_counts("nearest", k, others.n, "m")
        session.require_memory([rows] if y is None else [rows, others], max(counts))
        session.check_values(rows, others)
        pool = None if y is None else others
        ranks = range(1, max(counts) + 1)
        squares, indices = session.sq_knn(rows, pool, ranks, indices=True)
        assert indices is not None
        for rows_of_block in _blocks(squares):
            np.sqrt(squares[rows_of_block], out=squares[rows_of_block])
        results = session.results
        if not many:
            return Neighbors(results(squares), results(indices))
        return [
            Neighbors(results(_leading(squares, count)), results(_leading(indices, count)))
            for count in counts
        ]


def _blocks(array: npt.NDArray[Any]) -> Iterator[slice]:
    """Split rows so that each block takes a small part of a second."""
    step = max(1, _BLOCK_NUMBERS // array.shape[1])
    for start in range(0, len(array), step):
        yield slice(start, start + step)


def _leading(array: npt.NDArray[T], count: int) -> npt.NDArray[T]:
    """Copy the first columns, so that no result shares memory with another."""
    out = np.empty((len(array), count), dtype=array.dtype)
    for block in _blocks(out):
        out[block] = array[block, :count]
    return out
