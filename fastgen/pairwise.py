"""The primitives: one pass over all pairs of rows for each kind of question.

Each takes arrays, or `Rows` that keep what was prepared for the next question. Squared distances
go in and come out, since decisions compare squares and the root of a square is not exact. Where an
array is on a GPU, so are the arrays that come out, and of its library (of JAX only with
jax_enable_x64, or it would round float64).
"""

from __future__ import annotations

import functools
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from fastgen import arrays, densities, plan, sums
from fastgen._errors import fail
from fastgen.bandwidths import as_weights, as_widths
from fastgen.kernels import Polynomial, as_kernels
from fastgen.session import Options, Rows, Session

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

#: The kernel of KID.
DEFAULT_KERNEL = Polynomial()


def sq_knn(
    x: object,
    y: object = None,
    k: int = 1,
    *,
    indices: bool = False,
    **options: Unpack[Options],
) -> tuple[Floats, Integers | None]:
    """Return the squared distances to the k nearest rows.

    Parameters
    ----------
    x : array of shape (n, d) or Rows
        Rows to look from.
    y : array of shape (m, d) or Rows, optional
        Rows to look among. Default: `x` itself, where a row is left out by its index.
    k : int, default 1
        1 to m, or n - 1 without `y`.
    indices : bool, default False
        Whether to return which rows they are.
    **options
        See `session.Session`.

    Returns
    -------
    squares : array of shape (n, k), float64
        Canonical squared distances, ascending.
    indices : array of shape (n, k), int64, or None
        Equal distances by index.

    Raises
    ------
    TypeError, ValueError, BackendUnavailableError
        If an argument does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgen.pairwise import sq_knn
    >>> sq_knn(np.array([[0.0], [1.0], [3.0]]), k=1)[0]
    array([[1.],
           [1.],
           [4.]])
    """
    with Session("sq_knn", **options) as session:
        rows, others = _two_sets(session, x, x if y is None else y)
        upper, formula = (others.n, "m") if y is not None else (rows.n - 1, "n-1")
        counts, many = arrays.as_neighbour_counts("sq_knn", k, upper, formula)
        if many:
            fail("sq_knn", "k", "to be one int", repr(k), error=TypeError)
        count = counts[0]
        session.require_memory([rows] if y is None else [rows, others], count)
        session.check_values(rows, others)
        pool = None if y is None else others
        squares, found = session.sq_knn(rows, pool, range(1, count + 1), indices=indices)
        return session.results(squares), None if found is None else session.results(found)


def ball_counts(
    x: object,
    y: object,
    sq_radii_x: object = None,
    sq_radii_y: object = None,
    *,
    ties: str = "closed",
    **options: Unpack[Options],
) -> dict[str, Integers]:
    """Count which rows lie in balls around the rows of the other set.

    Parameters
    ----------
    x : array of shape (n, d) or Rows
        Centres of x-balls, points for y-balls.
    y : array of shape (m, d) or Rows
        Points for x-balls, centres of y-balls.
    sq_radii_x : array of shape (r, n) or (n,), optional
        Squared radii of r balls around each row of `x`.
    sq_radii_y : array of shape (r, m) or (m,), optional
        Squared radii of r balls around each row of `y`.
    ties : {"closed", "open"}, default "closed"
        Whether a row at exactly the radius is inside.
    **options
        See `session.Session`.

    Returns
    -------
    dict of str to array, int64
        With `sq_radii_x`: "y_in_x" (r, n), the rows of y in each x-ball, and "x_balls_of_y" (r, m),
        the x-balls around each row of y. With `sq_radii_y`: "x_in_y" (r, m) and "y_balls_of_x"
        (r, n), the same with the roles exchanged.

    Raises
    ------
    TypeError, ValueError, BackendUnavailableError
        If an argument does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgen.pairwise import ball_counts
    >>> x, y = np.array([[0.0], [4.0]]), np.array([[1.0], [2.0]])
    >>> counts = ball_counts(x, y, sq_radii_x=np.array([1.0, 9.0]))
    >>> counts["y_in_x"], counts["x_balls_of_y"]
    (array([[1, 2]]), array([[2, 1]]))
    """
    with Session("ball_counts", **options) as session:
        rows, others = _two_sets(session, x, y)
        arrays.check_ties("ball_counts", ties)
        radii_x = _sq_radii("ball_counts", "sq_radii_x", sq_radii_x, rows.n)
        radii_y = _sq_radii("ball_counts", "sq_radii_y", sq_radii_y, others.n)
        if radii_x is None and radii_y is None:
            fail("ball_counts", "sq_radii_x", "or `sq_radii_y`", "neither")
        if radii_x is not None and radii_y is not None and len(radii_x) != len(radii_y):
            condition = f"with as many radii as `sq_radii_x`, {len(radii_x)}"
            fail("ball_counts", "sq_radii_y", condition, str(len(radii_y)))
        session.require_memory([rows, others])
        session.check_values(rows, others)
        counts = session.ball_counts(rows, others, radii_x, radii_y, ties=ties)
        return {name: session.results(found) for name, found in counts.items()}


def sq_realism(x: object, y: object, sq_radii_x: object, **options: Unpack[Options]) -> Floats:
    """Return the largest squared ratio of radius to distance for every row of `y`.

    Parameters
    ----------
    x : array of shape (n, d) or Rows
        Centres.
    y : array of shape (m, d) or Rows
        Rows to judge.
    sq_radii_x : array of shape (n,)
        Squared radii; rows with NaN are left out.
    **options
        See `session.Session`.

    Returns
    -------
    array of shape (m,), float64
        ``max_i sq_radii_x[i] / d2_ij``; a positive radius over 0 is infinite, 0 over 0 counts as 1.

    Raises
    ------
    TypeError, ValueError, BackendUnavailableError
        If an argument does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgen.pairwise import sq_realism
    >>> sq_realism(np.array([[0.0], [4.0]]), np.array([[2.0], [4.0]]), np.array([1.0, np.nan]))
    array([0.25  , 0.0625])
    """
    with Session("sq_realism", **options) as session:
        rows, others = _two_sets(session, x, y)
        radii = _sq_radii("sq_realism", "sq_radii_x", sq_radii_x, rows.n)
        if radii is None or len(radii) != 1:
            fail("sq_realism", "sq_radii_x", f"of shape ({rows.n},)", "no or several radii")
        if (radii < 0).any():
            fail("sq_realism", "sq_radii_x", "of at least 0, or NaN", str(radii.min()))
        session.require_memory([rows, others])
        session.check_values(rows, others)
        ratios: Floats = session.results(session.sq_realism(rows, others, radii[0]))
        return ratios


def kernel_sums(
    x: object, y: object = None, kernel: object = DEFAULT_KERNEL, **options: Unpack[Options]
) -> Floats:
    """Return the sum of a kernel over the pairs of each row.

    Parameters
    ----------
    x : array of shape (n, d) or Rows
        One sum for each row.
    y : array of shape (m, d) or Rows, optional
        Rows to sum over. Default: `x` itself, where a row is left out by its index.
    kernel : Kernel, default Polynomial()
        For example ``Gaussian(2.0)``; "median" is the median distance of the rows, seed 0.
    **options
        See `session.Session`.

    Returns
    -------
    array of shape (n,), float64
        Accurate to about 2^-20 of the largest possible sum for float32 rows, 2^-48 for float64.

    Raises
    ------
    TypeError, ValueError, BackendUnavailableError
        If an argument does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgen import Polynomial
    >>> from fastgen.pairwise import kernel_sums
    >>> kernel_sums(np.array([[0.0], [1.0], [3.0]]), kernel=Polynomial(degree=1)).round(6)
    array([2., 5., 5.])
    """
    with Session("kernel_sums", **options) as session:
        kernels, many = as_kernels("kernel_sums", kernel)
        if many:
            fail("kernel_sums", "kernel", "to be one kernel", repr(kernel), error=TypeError)
        rows, others = _two_sets(session, x, x if y is None else y)
        sums.choose_places(session, [rows] if y is None else [rows, others])
        session.check_values(rows, others)
        pool = None if y is None else others
        median = functools.partial(sums.median_distance, session, rows, pool, 0)
        found = sums.row_sums(session, rows, pool, kernels[0].resolved(rows.d, median))
        added: Floats = session.results(found)
        return added


def log_kernel_sums(
    x: object,
    y: object = None,
    bandwidth: npt.ArrayLike = 1.0,
    *,
    weights: object = None,
    **options: Unpack[Options],
) -> Floats:
    """Return the logarithm of the sum of a Gaussian kernel over the pairs of each row.

    Parameters
    ----------
    x : array of shape (n, d) or Rows
        One sum for each row.
    y : array of shape (m, d) or Rows, optional
        Rows to sum over. Default: `x` itself, where a row is left out by its index.
    bandwidth : float or array of shape (b,), default 1.0
        Positive; all of them in one pass.
    weights : array of shape (m,), optional
        Of the rows to sum over: at least 0 and not all 0. Default: 1 for each.
    **options
        See `session.Session`; `path` is one of `plan.DENSITY_PATHS`.

    Returns
    -------
    array of shape (n,) or (n, b), float64
        ``log sum_j w_j exp(-|x_i - y_j|^2 / 2 h^2)``, natural; accurate to ``1e-5 + 2^-44 E`` for
        float16 and float32 rows and ``1e-10 + 2^-44 E`` for float64, E the nearest row's exponent.

    Raises
    ------
    TypeError, ValueError, BackendUnavailableError
        If an argument does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgen.pairwise import log_kernel_sums
    >>> log_kernel_sums(np.array([[0.0]]), np.array([[300.0], [300.0]]), 3.0).round(6)
    array([-4999.306853])
    """
    with Session("log_kernel_sums", paths=plan.DENSITY_PATHS, **options) as session:
        widths = as_widths("log_kernel_sums", "bandwidth", bandwidth)
        rows, others = _two_sets(session, x, x if y is None else y)
        plan.check_density_path("log_kernel_sums", session.path, rows.d)
        if y is None and rows.n < 2:
            fail("log_kernel_sums", "x", "with at least 2 rows without `y`", str(rows.n))
        relative, largest = as_weights("log_kernel_sums", weights, others.n, y is None)
        points = None if y is None else rows
        densities.require_memory(session, points, others, widths.size, weights=relative)
        session.check_values(rows, others)
        values, _ = densities.log_sums(session, points, others, np.atleast_1d(widths), relative)
        values += np.log(largest)
        sums_: Floats = session.results(values if widths.ndim else values[:, 0])
        return sums_


def two_samples(
    session: Session, first: str, x: object, second: str, y: object, at_least: int
) -> tuple[Rows, Rows]:
    """Validate what every metric of sums takes.

    Parameters
    ----------
    session : Session
        Names the function.
    first, second : str
        Names of the two arguments.
    x, y : array of shape (n, d) and (m, d)
        The two sets.
    at_least : int
        Rows that each must have.

    Returns
    -------
    pair of Rows
        Validated.

    Raises
    ------
    TypeError, ValueError, BackendUnavailableError
        If an argument does not fit.
    """
    rows, others = session.pair(first, x, second, y)
    sums.choose_places(session, [rows, others])
    for one in (rows, others):
        if one.n < at_least:
            condition = f"with at least {at_least} rows"
            fail(session.function, one.name, condition, str(one.n))
        session.check_values(one)
    return rows, others


def _two_sets(session: Session, x: object, y: object) -> tuple[Rows, Rows]:
    """Take arrays or `Rows`; one array for both is one set."""
    if y is x:
        rows = session.rows("x", x)
        return rows, rows
    return session.pair("x", x, "y", y)


def _sq_radii(function: str, argument: str, radii: Any, count: int) -> Floats | None:
    if radii is None:
        return None
    given = arrays.on_host(function, argument, radii)
    values = np.ascontiguousarray(np.atleast_2d(np.asarray(given, dtype=np.float64)))
    if values.ndim != 2 or values.shape[1] != count or len(values) == 0:
        fail(function, argument, f"of shape (r, {count}) or ({count},)", f"shape {values.shape}")
    return values
