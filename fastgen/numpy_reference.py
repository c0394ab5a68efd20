"""Every public function again, in plain float64 NumPy: the definition that the kernels are held to.

The functions here carry the names, arguments and results of the package's public ones, and are
written to be read: no bounds, no tricks, one distance for every pair. Tests compare the compiled
engines with this module bit for bit; it is also the place to look up what a number means. It
imports NumPy and the standard library only, so that nothing it is compared with can leak into it.

The canonical squared distance of two rows (:func:`sq_distances`) fixes the order of additions::

    for i = 0 .. d-1:   t = x[i] - y[i];  p = t * t;  acc[i mod 32] += p
    for w = 16, 8, 4, 2, 1:   acc[j] += acc[j + w]   for j < w
    result = acc[0]

in float64, each operation rounded on its own (no fused multiply-add). NumPy's own reductions
(``sum``, ``dot``, ``einsum``) add in an order that depends on the version, the shape and the
machine, so none of them is used. Decisions compare squared distances, never their roots.

Cost: 3 float64 operations per pair and feature, about 1.5 ns together; memory O(n + m) for a block
of rows at a time, except in :func:`sq_distances`, which returns the whole matrix.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "PRDC",
    "Membership",
    "Neighbors",
    "PrecisionRecall",
    "ball_counts",
    "evaluate",
    "knn_radii",
    "membership",
    "nearest",
    "prdc",
    "precision_recall",
    "sq_distances",
    "sq_knn_radii",
    "sq_nearest",
    "sq_realism",
]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_LANES = 32
_TILE_PAIRS = 2048  # pairs summed together: two buffers of 32 lanes, 1 MB, stay in the L2 cache
_BLOCK_PAIRS = 1 << 22  # pairs whose distances are held at a time: 32 MB


@dataclass(frozen=True)
class Neighbors:
    """The k nearest rows: `distances` (n, k) ascending, and their `indices` (n, k) int64."""

    distances: Floats
    indices: Integers


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision, recall and their harmonic mean, each in [0, 1]."""

    precision: float
    recall: float
    f_score: float


@dataclass(frozen=True)
class PRDC:
    """Precision, recall and coverage in [0, 1]; density is 0 or more, and about 1 for a match."""

    precision: float
    recall: float
    density: float
    coverage: float


@dataclass(frozen=True)
class Membership:
    """What :func:`precision_recall` counts, row by row, and the realism of every fake row."""

    fake_in_real: npt.NDArray[np.bool_]
    real_in_fake: npt.NDArray[np.bool_]
    fake_counts: Integers
    realism: Floats


Metric = PRDC | PrecisionRecall


def sq_distances(x: npt.ArrayLike, y: npt.ArrayLike) -> Floats:
    """Return the canonical squared Euclidean distance of every row of `x` to every row of `y`.

    Parameters
    ----------
    x : array of shape (n, d)
        Rows; float16, float32, float64 or integers. Converted to float64 first.
    y : array of shape (m, d)
        Rows, as `x`.

    Returns
    -------
    array of shape (n, m), float64
        Squared distances, to the last bit those of the formula at the top of this module.

    Raises
    ------
    ValueError
        If `x` or `y` is not two-dimensional, has no rows or no columns, or the widths differ.

    Examples
    --------
    >>> from fastgen import numpy_reference
    >>> numpy_reference.sq_distances([[0.0, 0.0], [3.0, 0.0]], [[0.0, 4.0]])
    array([[16.],
           [25.]])
    """
    xt, yt = _transposed("sq_distances", x, y)
    n, m = xt.shape[1], yt.shape[1]
    out = np.empty((n, m))
    columns = min(m, _TILE_PAIRS)
    rows = min(n, max(1, _TILE_PAIRS // columns))
    lanes = min(xt.shape[0], _LANES)
    sums, terms = np.empty(lanes * rows * columns), np.empty(lanes * rows * columns)
    for top in range(0, n, rows):
        for left in range(0, m, columns):
            tile = out[top : top + rows, left : left + columns]
            _sq_tile(xt[:, top : top + rows], yt[:, left : left + columns], sums, terms, tile)
    return out


def _sq_tile(xt: Floats, yt: Floats, sums: Floats, terms: Floats, out: Floats) -> None:
    """Write the distances of the columns of `xt` (d, a) to those of `yt` (d, b) to `out` (a, b).

    Lanes come first in the buffers, so that all but the subtraction run over contiguous memory.
    Lanes that no feature reaches hold +0, which changes no sum of squares: they are left out.
    """
    d, a = xt.shape
    b = yt.shape[1]
    lanes = min(d, _LANES)
    acc = sums[: lanes * a * b].reshape(lanes, a, b)
    square = terms[: lanes * a * b].reshape(lanes, a, b)
    acc[:] = 0.0
    for start in range(0, d, _LANES):
        width = min(_LANES, d - start)
        part, total = square[:width], acc[:width]
        features = slice(start, start + width)
        np.subtract(xt[features, :, np.newaxis], yt[features, np.newaxis, :], out=part)
        np.multiply(part, part, out=part)
        np.add(total, part, out=total)
    for width in (16, 8, 4, 2, 1):
        if lanes > width:
            upper = acc[width:lanes]
            lower = acc[: len(upper)]
            np.add(lower, upper, out=lower)
            lanes = width
    out[:] = acc[0]


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
    rows = _rows("sq_knn_radii", "x", x)
    counts = _neighbours("sq_knn_radii", k, len(rows) - 1)
    radii = [np.empty(len(rows)) for _ in counts]
    for first, block in _blocks(rows, rows, leave_out_self=True):
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
    rows = _rows("nearest", "x", x)
    others = rows if y is None else _rows("nearest", "y", y)
    counts = _neighbours("nearest", k, len(others) - (y is None))
    sq = np.empty((len(rows), max(counts)))
    indices = np.empty(sq.shape, dtype=np.int64)
    for first, block in _blocks(rows, others, leave_out_self=y is None):
        # A stable sort keeps equal distances in the order of their columns.
        order = np.argsort(block, axis=1, kind="stable")[:, : sq.shape[1]]
        indices[first : first + len(block)] = order
        sq[first : first + len(block)] = np.take_along_axis(block, order, axis=1)
    results = [(sq[:, :count].copy(), indices[:, :count].copy()) for count in counts]
    return results if isinstance(k, Sequence) else results[0]


def ball_counts(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    sq_radii_x: npt.ArrayLike | None = None,
    sq_radii_y: npt.ArrayLike | None = None,
    ties: str = "closed",
) -> dict[str, Integers]:
    """Count which rows lie in which balls, for balls around the rows of either set.

    Parameters
    ----------
    x : array of shape (n, d)
        Centres of the x-balls, and points of the y-balls.
    y : array of shape (m, d)
        Centres of the y-balls, and points of the x-balls.
    sq_radii_x : array of shape (r, n), optional
        Squared radii of r families of balls around `x`.
    sq_radii_y : array of shape (r, m), optional
        Squared radii of r families of balls around `y`.
    ties : {"closed", "open"}, default "closed"
        Whether a point on the edge is inside.

    Returns
    -------
    dict of int64 arrays
        With `sq_radii_x`: ``y_in_x`` (r, n), the rows of y in each x-ball, and ``x_balls_of_y``
        (r, m), the x-balls that hold each row of y. With `sq_radii_y`: ``x_in_y`` (r, m) and
        ``y_balls_of_x`` (r, n), the same with the roles exchanged.

    Raises
    ------
    ValueError
        If `ties` is neither word, a shape does not fit, or the inputs are no matrices.

    Examples
    --------
    >>> from fastgen import numpy_reference
    >>> counts = numpy_reference.ball_counts([[0.0], [4.0]], [[1.0]], sq_radii_x=[[1.0, 1.0]])
    >>> counts["y_in_x"], counts["x_balls_of_y"]
    (array([[1, 0]]), array([[1]]))
    """
    inside = _tie_rule("ball_counts", ties)
    rows, others = _rows("ball_counts", "x", x), _rows("ball_counts", "y", y)
    counts: dict[str, Integers] = {}
    x_radii = _radii("sq_radii_x", sq_radii_x, len(rows))
    y_radii = _radii("sq_radii_y", sq_radii_y, len(others))
    if sq_radii_x is not None:
        counts["y_in_x"] = np.zeros(x_radii.shape, dtype=np.int64)
        counts["x_balls_of_y"] = np.zeros((len(x_radii), len(others)), dtype=np.int64)
    if sq_radii_y is not None:
        counts["x_in_y"] = np.zeros(y_radii.shape, dtype=np.int64)
        counts["y_balls_of_x"] = np.zeros((len(y_radii), len(rows)), dtype=np.int64)
    for first, block in _blocks(rows, others):
        part = slice(first, first + len(block))
        for family in range(len(x_radii)):
            held = inside(block, x_radii[family, part, np.newaxis])
            counts["y_in_x"][family, part] = np.count_nonzero(held, axis=1)
            counts["x_balls_of_y"][family] += np.count_nonzero(held, axis=0)
        for family in range(len(y_radii)):
            held = inside(block, y_radii[family])
            counts["x_in_y"][family] += np.count_nonzero(held, axis=0)
            counts["y_balls_of_x"][family, part] = np.count_nonzero(held, axis=1)
    return counts


def sq_realism(x: npt.ArrayLike, y: npt.ArrayLike, sq_radii_x: npt.ArrayLike) -> Floats:
    """Return the largest squared ratio of radius to distance, over `x`, for every row of `y`.

    Parameters
    ----------
    x : array of shape (n, d)
        Centres.
    y : array of shape (m, d)
        Points to judge.
    sq_radii_x : array of shape (n,)
        Squared radii of the centres; those with NaN are left out.

    Returns
    -------
    array of shape (m,), float64
        ``max_i sq_radii_x[i] / d2_ij``; a positive radius over 0 is infinite, and 0 over 0 is 1.

    Raises
    ------
    ValueError
        If a shape does not fit, or the inputs are no matrices.

    Examples
    --------
    >>> from fastgen import numpy_reference
    >>> numpy_reference.sq_realism([[0.0], [4.0]], [[2.0], [4.0]], [1.0, 0.0])
    array([0.25, 1.  ])
    """
    rows, others = _rows("sq_realism", "x", x), _rows("sq_realism", "y", y)
    radii = _radii("sq_radii_x", np.asarray(sq_radii_x, dtype=np.float64)[np.newaxis], len(rows))
    largest = np.zeros(len(others))
    for first, block in _blocks(rows, others):
        radius = radii[0, first : first + len(block), np.newaxis]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            ratio = radius / block
        ratio[(radius == 0) & (block == 0)] = 1.0
        ratio[np.isnan(radius[:, 0])] = 0.0
        np.maximum(largest, ratio.max(axis=0), out=largest)
    return largest


def precision_recall(
    *,
    real: npt.ArrayLike,
    fake: npt.ArrayLike,
    k: int | Sequence[int] = 3,
    ties: str = "closed",
) -> PrecisionRecall | list[PrecisionRecall]:
    """Return improved precision and recall.

    Parameters
    ----------
    real : array of shape (n, d)
        Features of the real set.
    fake : array of shape (m, d)
        Features of the generated set.
    k : int or sequence of int, default 3
        Neighbours that set a radius, 1 to min(n, m) - 1. A sequence gives a list.
    ties : {"closed", "open"}, default "closed"
        Whether a point at exactly the radius is inside.

    Returns
    -------
    PrecisionRecall or list of PrecisionRecall
        Fractions, and ``f_score = 2 P R / (P + R)``, 0 when both are 0.

    Raises
    ------
    ValueError
        If `k` or `ties` is out of range, the inputs are no matrices, or their widths differ.

    References
    ----------
    .. [1] Kynkaanniemi et al., "Improved precision and recall metric for assessing generative
       models", NeurIPS 2019.

    Examples
    --------
    >>> from fastgen import numpy_reference
    >>> numpy_reference.precision_recall(real=[[0.0], [1.0]], fake=[[1.5], [9.0]], k=1)
    PrecisionRecall(precision=0.5, recall=1.0, f_score=0.6666666666666666)
    """
    results = []
    for _, counts in _all_balls("precision_recall", real, fake, k, ties):
        precision = _fraction(counts["x_balls_of_y"] > 0)
        recall = _fraction(counts["y_balls_of_x"] > 0)
        total = precision + recall
        f_score = 2 * precision * recall / total if total > 0 else 0.0
        results.append(PrecisionRecall(precision, recall, f_score))
    return results if isinstance(k, Sequence) else results[0]


def prdc(
    *,
    real: npt.ArrayLike,
    fake: npt.ArrayLike,
    k: int | Sequence[int] = 5,
    ties: str = "closed",
) -> PRDC | list[PRDC]:
    """Return precision, recall, density and coverage.

    Parameters
    ----------
    real : array of shape (n, d)
        Features of the real set.
    fake : array of shape (m, d)
        Features of the generated set.
    k : int or sequence of int, default 5
        Neighbours that set a radius, 1 to min(n, m) - 1. A sequence gives a list.
    ties : {"closed", "open"}, default "closed"
        Whether a point at exactly the radius is inside.

    Returns
    -------
    PRDC or list of PRDC
        Precision: the fake rows in some real ball. Recall: the real rows in some fake ball.
        Density: pairs of a fake row and a real ball that holds it, over k m. Coverage: the real
        balls that hold a fake row.

    Raises
    ------
    ValueError
        If `k` or `ties` is out of range, the inputs are no matrices, or their widths differ.

    References
    ----------
    .. [1] Naeem et al., "Reliable fidelity and diversity metrics for generative models",
       ICML 2020.

    Examples
    --------
    >>> from fastgen import numpy_reference
    >>> numpy_reference.prdc(real=[[0.0], [1.0]], fake=[[1.5], [9.0]], k=1)
    PRDC(precision=0.5, recall=1.0, density=0.5, coverage=0.5)
    """
    results = []
    for count, counts in _all_balls("prdc", real, fake, k, ties):
        holding = counts["x_balls_of_y"]
        results.append(
            PRDC(
                precision=_fraction(holding > 0),
                recall=_fraction(counts["y_balls_of_x"] > 0),
                density=int(holding.sum()) / (count * len(holding)),
                coverage=_fraction(counts["y_in_x"] > 0),
            )
        )
    return results if isinstance(k, Sequence) else results[0]


def membership(
    *,
    real: npt.ArrayLike,
    fake: npt.ArrayLike,
    k: int | Sequence[int] = 5,
    ties: str = "closed",
) -> Membership | list[Membership]:
    """Return, for every row, whether it lies in the other set's balls, and fake rows' realism.

    Parameters
    ----------
    real : array of shape (n, d)
        Features of the real set.
    fake : array of shape (m, d)
        Features of the generated set.
    k : int or sequence of int, default 5
        Neighbours that set a radius, 1 to min(n, m) - 1. A sequence gives a list.
    ties : {"closed", "open"}, default "closed"
        Whether a point at exactly the radius is inside. Realism does not depend on it.

    Returns
    -------
    Membership or list of Membership
        `fake_in_real` (m,) and `real_in_fake` (n,) bool, `fake_counts` (m,) the real balls that
        hold each fake row, and `realism` (m,): ``max_i r_i / d_ij`` over the real rows whose
        squared radius is at most the median of the squared radii.

    Raises
    ------
    ValueError
        If `k` or `ties` is out of range, the inputs are no matrices, or their widths differ.

    References
    ----------
    .. [1] Kynkaanniemi et al., "Improved precision and recall metric for assessing generative
       models", NeurIPS 2019, eq. 3.

    Examples
    --------
    >>> from fastgen import numpy_reference
    >>> found = numpy_reference.membership(real=[[0.0], [1.0]], fake=[[1.5], [9.0]], k=1)
    >>> found.fake_in_real, found.realism
    (array([ True, False]), array([2.   , 0.125]))
    """
    results = []
    for count, counts in _all_balls("membership", real, fake, k, ties):
        radii = np.asarray(sq_knn_radii(real, count))
        kept = np.where(radii <= np.median(radii), radii, np.nan)
        results.append(
            Membership(
                fake_in_real=counts["x_balls_of_y"] > 0,
                real_in_fake=counts["y_balls_of_x"] > 0,
                fake_counts=counts["x_balls_of_y"],
                realism=np.sqrt(sq_realism(real, fake, kept)),
            )
        )
    return results if isinstance(k, Sequence) else results[0]


def evaluate(
    *,
    real: npt.ArrayLike,
    fake: npt.ArrayLike,
    metrics: Sequence[str] | None = None,
    k: int | Sequence[int] = 5,
    ties: str = "closed",
) -> dict[str, Metric] | list[dict[str, Metric]]:
    """Return several metrics at once, by name.

    Parameters
    ----------
    real : array of shape (n, d)
        Features of the real set.
    fake : array of shape (m, d)
        Features of the generated set.
    metrics : sequence of str, optional
        Of "prdc" and "precision_recall"; all of them by default.
    k : int or sequence of int, default 5
        Neighbours that set a radius, 1 to min(n, m) - 1, for every metric.
    ties : {"closed", "open"}, default "closed"
        Whether a point at exactly the radius is inside.

    Returns
    -------
    dict or list of dict
        The result of each metric under its name; a list of such dicts if `k` is a sequence.

    Raises
    ------
    ValueError
        If a metric is not known, or as the metrics themselves.

    Examples
    --------
    >>> from fastgen import numpy_reference
    >>> report = numpy_reference.evaluate(real=[[0.0], [1.0]], fake=[[1.5], [9.0]], k=1)
    >>> report["prdc"].coverage
    0.5
    """
    known: dict[str, Callable[..., Any]] = {"prdc": prdc, "precision_recall": precision_recall}
    chosen = list(known if metrics is None else metrics)
    for metric in chosen:
        if metric not in known:
            raise ValueError(f"evaluate: expected `metrics` among {list(known)}, got {metric!r}")
    reports: list[dict[str, Metric]] = [
        {metric: known[metric](real=real, fake=fake, k=count, ties=ties) for metric in chosen}
        for count in (k if isinstance(k, Sequence) else [k])
    ]
    return reports if isinstance(k, Sequence) else reports[0]


def _all_balls(
    function: str,
    real: npt.ArrayLike,
    fake: npt.ArrayLike,
    k: int | Sequence[int],
    ties: str,
) -> Iterator[tuple[int, dict[str, Integers]]]:
    """Yield, for each k, that k and what :func:`ball_counts` says of the two sets' own balls."""
    x, y = _rows(function, "real", real), _rows(function, "fake", fake)
    ks = _neighbours(function, k, min(len(x), len(y)) - 1)
    counts = ball_counts(x, y, list(sq_knn_radii(x, ks)), list(sq_knn_radii(y, ks)), ties)
    for place, count in enumerate(ks):
        yield count, {name: values[place] for name, values in counts.items()}


def _blocks(
    rows: npt.NDArray[Any], others: npt.NDArray[Any], leave_out_self: bool = False
) -> Iterator[tuple[int, Floats]]:
    """Yield (first row, squared distances of a block of rows to all others).

    With `leave_out_self` the two sets are one, and a row's distance to itself is infinite.
    """
    step = max(1, _BLOCK_PAIRS // len(others))
    for first in range(0, len(rows), step):
        block = sq_distances(rows[first : first + step], others)
        if leave_out_self:
            own = np.arange(len(block))
            block[own, first + own] = np.inf
        yield first, block


def _rows(function: str, argument: str, x: npt.ArrayLike) -> npt.NDArray[Any]:
    rows = np.asarray(x)
    if rows.ndim != 2 or 0 in rows.shape:
        raise ValueError(
            f"{function}: expected `{argument}` of shape (n, d), n and d at least 1, "
            f"got {rows.shape}"
        )
    return rows


def _transposed(function: str, x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Return both sets as contiguous float64, features first."""
    rows, others = _rows(function, "x", x), _rows(function, "y", y)
    if rows.shape[1] != others.shape[1]:
        raise ValueError(
            f"{function}: expected `y` with {rows.shape[1]} columns as `x`, got {others.shape[1]}"
        )
    xt = np.ascontiguousarray(rows.T, dtype=np.float64)
    yt = np.ascontiguousarray(others.T, dtype=np.float64)
    return xt, yt


def _neighbours(function: str, k: int | Sequence[int], most: int) -> list[int]:
    counts = [operator.index(c) for c in k] if isinstance(k, Sequence) else [operator.index(k)]
    for count in counts:
        if not 1 <= count <= most:
            raise ValueError(f"{function}: expected `k` in [1, {most}], got {count}")
    if not counts:
        raise ValueError(f"{function}: expected `k` with at least one value, got none")
    return counts


def _radii(argument: str, radii: npt.ArrayLike | None, columns: int) -> Floats:
    """Return the radii as a matrix, which has no rows where none were given."""
    values = np.asarray(np.empty((0, columns)) if radii is None else radii, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != columns:
        raise ValueError(
            f"expected `{argument}` with {columns} radii in a row, got shape {values.shape}"
        )
    return values


def _tie_rule(function: str, ties: str) -> np.ufunc:
    rules = {"closed": np.less_equal, "open": np.less}
    if ties not in rules:
        raise ValueError(f'{function}: expected `ties` "closed" or "open", got {ties!r}')
    return rules[ties]


def _fraction(held: npt.NDArray[np.bool_]) -> float:
    return int(np.count_nonzero(held)) / len(held)
