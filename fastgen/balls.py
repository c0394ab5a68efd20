"""What the metrics of balls share: their arguments, radii, and who lies in whose balls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastgen import arrays
from fastgen.session import Rows, Session

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """Who lies in whose balls, for one k: all that precision, recall and their kin rest on.

    Attributes
    ----------
    k : int
        Radii are distances to the k-th nearest row of the same set.
    sq_radii_real : array of shape (n,), float64
        Squared radii of the balls around real rows.
    fakes_in_real_ball : array of shape (n,), int64
        Fake rows in the ball around each real row.
    real_balls_of_fake : array of shape (m,), int64
        Real balls that hold each fake row.
    fake_balls_of_real : array of shape (n,), int64
        Fake balls that hold each real row.
    """

    k: int
    sq_radii_real: Floats
    fakes_in_real_ball: Integers
    real_balls_of_fake: Integers
    fake_balls_of_real: Integers


def neighbourhoods(
    session: Session, real: Rows, fake: Rows, counts: Sequence[int], ties: str
) -> list[Neighbourhood]:
    """Compute radii of both sets and what their balls hold of each other: three joins.

    Parameters
    ----------
    session : Session
        How to run.
    real : Rows of shape (n, d)
        Reference set.
    fake : Rows of shape (m, d)
        Generated set.
    counts : sequence of int
        Values of k, all served by the same joins.
    ties : {"closed", "open"}
        Whether a row at exactly the radius is inside.

    Returns
    -------
    list of Neighbourhood
        One for each entry of `counts`, in that order.
    """
    distinct = sorted(set(counts))
    radii = []
    for rows in (real, fake):
        squares, _ = session.sq_knn(rows, None, distinct)
        radii.append(np.ascontiguousarray(squares.T))
    balls = session.ball_counts(real, fake, radii[0], radii[1], ties=ties)
    by_k = {
        k: Neighbourhood(
            k=k,
            sq_radii_real=radii[0][row],
            fakes_in_real_ball=balls["y_in_x"][row],
            real_balls_of_fake=balls["x_balls_of_y"][row],
            fake_balls_of_real=balls["y_balls_of_x"][row],
        )
        for row, k in enumerate(distinct)
    }
    return [by_k[k] for k in counts]


def real_and_fake(
    session: Session, real: object, fake: object, k: object, ties: object
) -> tuple[Rows, Rows, list[int], bool]:
    """Validate what every metric of balls takes.

    Parameters
    ----------
    session : Session
        Names the function.
    real, fake : array of shape (n, d) and (m, d)
        The two sets.
    k : int or sequence of int
        Neighbours, from 1 to min(n, m) - 1.
    ties : {"closed", "open"}
        Rule for rows at exactly the radius.

    Returns
    -------
    real, fake : Rows
        Validated.
    counts : list of int
        Values of k.
    many : bool
        Whether `k` was a sequence.

    Raises
    ------
    TypeError, ValueError, BackendUnavailableError
        If an argument does not fit.
    """
    function = session.function
    rows, others = session.pair("real", real, "fake", fake)
    arrays.check_has_neighbours(function, "real", rows.n)
    arrays.check_has_neighbours(function, "fake", others.n)
    upper = min(rows.n, others.n) - 1
    counts, many = arrays.as_neighbour_counts(function, k, upper, "min(n, m)-1")
    arrays.check_ties(function, ties)
    session.require_memory([rows, others], max(counts))
    session.check_values(rows, others)
    return rows, others, counts, many
