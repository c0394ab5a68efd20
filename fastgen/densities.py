"""Passes of the density engine: logarithms of Gaussian-kernel densities and of their sums."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastgen import arrays, covariances, density_passes, plan
from fastgen._errors import DensityWarning, fail
from fastgen.backend import core
from fastgen.bandwidths import as_bandwidths, as_weights, effective_size
from fastgen.covariances import Whitening, whitening
from fastgen.session import Rows, Session
from fastgen.workers import drive

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LogDensities:
    """What a density says about points.

    Attributes
    ----------
    values : array of shape (n, b), float64
        Log-densities in nats.
    dominated : array of shape (b,), int64
        Points at which one sample has more than half of the density.
    several : bool
        Whether the caller gave an array of bandwidths.
    d : int
        Features.
    """

    values: Floats
    dominated: Integers
    several: bool
    d: int


def of_arrays(
    session: Session,
    points: object,
    samples: object,
    bandwidth: object,
    covariance: object,
    weights: object,
    leave_one_out: bool = False,
) -> LogDensities:
    """Validate what a density takes, and compute it: see `fastgen.log_density`.

    Parameters
    ----------
    session : Session
        Names the function.
    points, samples, bandwidth, covariance, weights, leave_one_out
        As the caller gave them.

    Returns
    -------
    LogDensities
        At the points.

    Raises
    ------
    TypeError, ValueError, BackendUnavailableError
        If an argument does not fit.
    """
    function = session.function
    rows, others = _two_sets(session, points, samples, leave_one_out)
    relative, _ = as_weights(function, weights, others.n, leave_one_out)
    size = effective_size(others.n, relative)
    widths, several = as_bandwidths(function, bandwidth, others.d, size)
    whitened = covariance is not None
    require_memory(session, rows, others, len(widths), whitened=whitened, weights=relative)
    session.check_values(*((others,) if rows is None else (others, rows)))
    white = whitening(function, covariance, others.values, relative) if whitened else None
    values, dominated = log_densities(session, rows, others, widths, relative, white)
    return LogDensities(values, dominated, several, others.d)


def log_densities(
    session: Session,
    points: Rows | None,
    samples: Rows,
    bandwidths: Floats,
    weights: Floats | None = None,
    white: Whitening | None = None,
) -> tuple[Floats, Integers]:
    """Return the logarithms of a density, exactly normalised.

    Parameters
    ----------
    session : Session
        How to run.
    points : Rows of shape (n, d), optional
        Where it is asked for. Default: at each of the samples, which is left out there.
    samples : Rows of shape (m, d)
        What the density is made of.
    bandwidths : array of shape (b,), float64
        All in one pass; in units of whitened rows where they are.
    weights : array of shape (m,), float64, optional
        From `bandwidths.as_weights`.
    white : Whitening, optional
        Of the kernel's covariance.

    Returns
    -------
    values : array of shape (n, b), float64
        In nats.
    dominated : array of shape (b,), int64
        Points at which one sample has more than half of the density.

    Raises
    ------
    ValueError
        If a whitened row is beyond 2^500 in magnitude.
    """
    log_volume = 0.5 * samples.d * math.log(2 * math.pi)
    if white is not None:
        log_volume += white.log_volume
        samples = _whitened(session, white, samples)
        points = points and _whitened(session, white, points)
    values, dominated = log_sums(session, points, samples, bandwidths, weights)
    values -= np.log(_total(samples.n, weights, points is None))
    values -= samples.d * np.log(bandwidths) + log_volume
    return values, dominated


def log_sums(
    session: Session,
    points: Rows | None,
    samples: Rows,
    bandwidths: Floats,
    weights: Floats | None = None,
) -> tuple[Floats, Integers]:
    """Return the logarithms of the sums of Gaussian kernels, see `pairwise.log_kernel_sums`.

    Parameters
    ----------
    session : Session
        How to run.
    points : Rows of shape (n, d), optional
        One sum for each. Default: the samples, each without itself.
    samples : Rows of shape (m, d)
        Rows to sum over.
    bandwidths : array of shape (b,), float64
        All in one pass.
    weights : array of shape (m,), float64, optional
        From `bandwidths.as_weights`.

    Returns
    -------
    values : array of shape (n, b), float64
        Natural logarithms.
    dominated : array of shape (b,), int64
        Points at which one sample has more than half of the sum.
    """
    if weights is None or weights.all():
        return _run(session, points, samples, bandwidths, weights)
    # What has no weight may be nobody's nearest sample, from which the engine counts exponents.
    weighty = weights > 0
    kept, weights = samples.picked(weighty), weights[weighty]
    if points is not None:
        return _run(session, points, kept, bandwidths, weights)
    rest = samples.picked(~weighty)  # in no sum, so that nothing is to be left out of theirs
    session.progress.expect(float(samples.n) * kept.n)
    values = np.empty((samples.n, len(bandwidths)))
    values[weighty], dominated = _run(session, None, kept, bandwidths, weights)
    values[~weighty], more = _run(session, rest, kept, bandwidths, weights)
    return values, dominated + more


def require_memory(
    session: Session,
    points: Rows | None,
    samples: Rows,
    bandwidths: int,
    *,
    whitened: bool = False,
    weights: Floats | None = None,
    folds: bool = False,
) -> None:
    """Raise if the memory cannot hold a pass and the copies of rows it needs.

    Parameters
    ----------
    session : Session
        Has the budget.
    points : Rows of shape (n, d), optional
        Default: the samples.
    samples : Rows of shape (m, d)
        Validated but for their numbers.
    bandwidths : int
        Of the pass.
    whitened : bool, default False
        Whether rows are whitened.
    weights : array of shape (m,), float64, optional
        From `bandwidths.as_weights`.
    folds : bool, default False
        Whether the samples are split into points and samples.
    """
    if session.gpu is not None:
        sizes = itemsize_of(points, samples, whitened), bandwidths
        density_passes.make_room(session.gpu, points, samples, *sizes, whitened=whitened)
        return
    n, m, d = samples.n if points is None else points.n, samples.n, samples.d
    sets = [samples.values] if points is None else [samples.values, points.values]
    size = itemsize_of(points, samples, whitened)
    copied = sum(size * rows.size for rows in sets if whitened or rows.itemsize < size)
    if whitened:
        copied += 4 * covariances.BLOCK_BYTES + 32 * d * d
    if weights is not None:
        copied += 24 * m
    if folds or (weights is not None and not weights.all()):
        copied += m * (size * d + 32 + 8 * bandwidths)
    needed = plan.density_bytes_needed(n, m, d, bandwidths, session.threads, session.path, copied)
    plan.require_memory(session.function, session.memory, needed)


def itemsize_of(points: Rows | None, samples: Rows, whitened: bool) -> int:
    """Return the bytes of a number in a pass.

    Parameters
    ----------
    points : Rows of shape (n, d), optional
        Default: the samples.
    samples : Rows of shape (m, d)
        Of any dtype.
    whitened : bool
        Whether rows are whitened, in float64.

    Returns
    -------
    int
        Of the wider dtype.
    """
    sets = [samples] if points is None else [samples, points]
    return 8 if whitened else max(rows.values.itemsize for rows in sets)


def mean(values: Floats) -> float:
    """Return a mean of log-densities, whose sum may be beyond float64 where it is not.

    Parameters
    ----------
    values : array of shape (n,), float64
        In nats.

    Returns
    -------
    float
        The bits of ``values.mean()`` where that does not overflow.
    """
    return math.ldexp(float(np.ldexp(values, -40).mean()), 40)


def warn_if_dominated(function: str, dominated: Integers, points: int) -> None:
    """Warn the caller's caller if one sample decides more than half of the values.

    Parameters
    ----------
    function : str
        Named in the message.
    dominated : array of shape (b,), int64
        Points at which one sample has more than half of the density.
    points : int
        How many there are.
    """
    several = int(np.count_nonzero(2 * dominated > points))
    if not several:
        return
    where = f"at {dominated.max()} of {points} points"
    if len(dominated) > 1:
        where = f"under {several} of {len(dominated)} bandwidths, {where} in the worst case"
    warnings.warn(
        f"{function}: one sample has more than half of the density {where}; such values tell more "
        "about the bandwidth than about the samples",
        DensityWarning,
        stacklevel=3,
    )


def _run(
    session: Session,
    points: Rows | None,
    samples: Rows,
    bandwidths: Floats,
    weights: Floats | None,
) -> tuple[Floats, Integers]:
    work = float((points or samples).n) * samples.n

    def tell(done: float) -> None:
        session.progress.update(work, done)

    if session.gpu is not None:
        path = session.path
        found = density_passes.run(session.gpu, points, samples, bandwidths, weights, path, tell)
    else:
        rows, others = samples.host, samples.host
        if points is not None:
            rows, others = arrays.as_one_dtype(points.host, samples.host)
        engine = core.LogSums(
            rows,
            others,
            bandwidths.tolist(),
            weights=weights,
            leave_one_out=points is None,
            path=session.path or "auto",
            isa=session.isa,
            threads=session.threads,
        )
        drive(engine, tell)
        found = None if engine.too_narrow else engine.finish()
    if found is None:
        condition = "not so small beside the rows that exponents leave float64"
        fail(session.function, "bandwidth", condition, f"{bandwidths.min():g}")
    return found["log_sums"], found["dominated"]


def _two_sets(
    session: Session, points: object, samples: object, leave_one_out: bool
) -> tuple[Rows | None, Rows]:
    """Return points, None for the samples, and samples; their numbers are not looked at yet."""
    if not leave_one_out:
        others, rows = session.pair("samples", samples, "points", points)
        session.give_results_to(rows)  # they are of the points
        return rows, others
    if not (points is None or points is samples):
        condition = "to be `samples` or None with `leave_one_out`"
        fail(session.function, "points", condition, "another array")
    return None, session.rows("samples", samples)


def _whitened(session: Session, white: Whitening, rows: Rows) -> Rows:
    whitened = Rows(white.apply(rows.values), rows.name, checked=False)
    session.check_values(whitened)
    return whitened


def _total(n: int, weights: Floats | None, leave_one_out: bool) -> float | Floats:
    """Return the weight of all samples, or for each one that of the others, as a column."""
    if weights is None:
        return float(n - 1 if leave_one_out else n)
    total = weights.sum()
    if not leave_one_out:
        return float(total)
    others: Floats = total - weights
    heaviest = int(np.argmax(weights))  # the one row for which this cancels
    others[heaviest] = weights[:heaviest].sum() + weights[heaviest + 1 :].sum()
    return others[:, np.newaxis]
