"""Which rows lie in which balls, and how deep."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastgen.numpy_reference.arguments import Floats, Integers, as_radii, as_rows, tie_rule
from fastgen.numpy_reference.distances import blocks


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
    inside = tie_rule("ball_counts", ties)
    rows, others = as_rows("ball_counts", "x", x), as_rows("ball_counts", "y", y)
    counts: dict[str, Integers] = {}
    x_radii = as_radii("sq_radii_x", sq_radii_x, len(rows))
    y_radii = as_radii("sq_radii_y", sq_radii_y, len(others))
    if sq_radii_x is not None:
        counts["y_in_x"] = np.zeros(x_radii.shape, dtype=np.int64)
        counts["x_balls_of_y"] = np.zeros((len(x_radii), len(others)), dtype=np.int64)
    if sq_radii_y is not None:
        counts["x_in_y"] = np.zeros(y_radii.shape, dtype=np.int64)
        counts["y_balls_of_x"] = np.zeros((len(y_radii), len(rows)), dtype=np.int64)
    for first, block in blocks(rows, others):
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
    rows, others = as_rows("sq_realism", "x", x), as_rows("sq_realism", "y", y)
    radii = as_radii("sq_radii_x", np.asarray(sq_radii_x, dtype=np.float64)[np.newaxis], len(rows))
    largest = np.zeros(len(others))
    for first, block in blocks(rows, others):
        radius = radii[0, first : first + len(block), np.newaxis]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            ratio = radius / block
        ratio[(radius == 0) & (block == 0)] = 1.0
        ratio[np.isnan(radius[:, 0])] = 0.0
        np.maximum(largest, ratio.max(axis=0), out=largest)
    return largest
