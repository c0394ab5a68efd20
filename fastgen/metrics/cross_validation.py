"""The bandwidth of a kernel density, by cross-validation."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from fastgen import densities, draws
from fastgen._errors import fail
from fastgen.bandwidths import as_widths, scott
from fastgen.covariances import mean_variance
from fastgen.plan import as_int
from fastgen.progress import ProgressLike
from fastgen.results import BandwidthSelection
from fastgen.session import Rows, Session

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

#: The default grid in units of Scott's rule: 1/256 to 16 in ratio sqrt 2.
GRID: Floats = 2.0 ** (np.arange(-16, 9) / 2)


def select_bandwidth(
    samples: object,
    candidates: npt.ArrayLike | None = None,
    folds: int | None = None,
    seed: int | None = 0,
    *,
    threads: int | None = None,
    device: object = None,
    progress: ProgressLike = False,
    memory: int | str | None = None,
) -> BandwidthSelection:
    """Return the bandwidth under which rows that are left out are likeliest.

    Parameters
    ----------
    samples : array of shape (n, d)
        What the density is made of, n >= 2: float16, float32, float64 or integers, in CPU memory or
        on a GPU, or the path of a file.
    candidates : array of shape (c,), optional
        Bandwidths to choose from, in units of the features. Default: ``s 2^(i/2)`` for i = -16 ..
        8, where s is Scott's factor ``n^(-1/(d+4))`` times the root of the features' mean variance
        (divisor n - 1).
    folds : int, optional
        Number of folds, 2 to n: row ``default_rng(seed).permutation(n)[p]`` is in fold
        ``p mod folds``, and its density is that of the rows in other folds. Default: each row's
        density is that of all other rows.
    seed : int, default 0
        Seed of the folds, at least 0; None is 0.
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
    BandwidthSelection
        The winner (the first of equals), the candidates, and their mean log-densities in nats.

    Raises
    ------
    TypeError
        If an argument has the wrong type or dtype.
    ValueError
        If `samples` is not a matrix of finite numbers with at least two rows, a candidate is not
        positive, all rows are equal and no candidates are given, or another option is out of
        bounds.
    BackendUnavailableError
        If a GPU is asked for, or has an array, that cannot be used.
    MemoryError
        If a GPU has not enough free memory.

    Warns
    -----
    DensityWarning
        If under the winner, at more than half of the rows, one of the others has more than half of
        the density.

    Notes
    -----
    The score of a bandwidth is the mean over rows of the log-density that the rows left after
    leaving out give it [1]_ [2]_; see `fastgen.log_density` for that and its error. The whole grid
    costs one pass over the pairs, leaving one out as well as with folds.

    Repeated rows ruin the criterion: a row whose copy is left finds its density there grow without
    bound as the bandwidth shrinks, so that the smallest candidate wins. Samples of a collapsed
    generator are like that. A winner at either end of the grid asks for other candidates.

    References
    ----------
    .. [1] J. D. F. Habbema, J. Hermans and K. van den Broek, "A stepwise discriminant analysis
       program using density estimation", Compstat 1974.
    .. [2] R. P. W. Duin, "On the choice of smoothing parameters for Parzen estimators of
       probability density functions", IEEE Transactions on Computers 25, 1976.

    Examples
    --------
    >>> import numpy as np
    >>> import fastgen
    >>> samples = np.array([[-2.1], [-1.3], [-0.4], [1.9], [5.1], [6.2]])
    >>> fastgen.select_bandwidth(samples, candidates=[0.5, 1.0, 2.0, 4.0]).bandwidth
    2.0
    """
    name = "select_bandwidth"
    with Session(name, threads=threads, device=device, progress=progress, memory=memory) as session:
        rows = session.rows("samples", samples)
        check_can_leave_out(name, rows)
        widths = None if candidates is None else _as_candidates(candidates)
        count = None if folds is None else _as_folds(folds, rows.n)
        start = draws.as_seed(name, seed)
        bandwidths = len(GRID) if widths is None else len(widths)
        densities.require_memory(session, None, rows, bandwidths, folds=count is not None)
        session.check_values(rows)
        if widths is None:
            widths = default_candidates(name, rows, "`candidates`")
        chosen, dominated = choose(session, rows, widths, count, start)
    densities.warn_if_dominated(name, dominated, rows.n)
    return chosen


def check_can_leave_out(function: str, samples: Rows) -> None:
    """Check that there is a sample to leave out and one to keep.

    Parameters
    ----------
    function : str
        Named in the message.
    samples : Rows of shape (n, d)
        The set.

    Raises
    ------
    ValueError
        If it has one row only.
    """
    if samples.n < 2:
        fail(function, samples.name, "with at least 2 rows", str(samples.n))


def default_candidates(function: str, samples: Rows, instead: str) -> Floats:
    """Return the grid that `select_bandwidth` takes unless told otherwise.

    Parameters
    ----------
    function : str
        Named in the message.
    samples : Rows of shape (n, d)
        Validated, with at least two rows.
    instead : str
        What the caller may give in its place, for the message.

    Returns
    -------
    array of shape (25,), float64
        Ascending.

    Raises
    ------
    ValueError
        If all rows are equal.
    """
    spread = math.sqrt(mean_variance(samples.values))
    if spread == 0.0:
        fail(function, samples.name, f"that differ, or {instead}", "equal rows")
    widths: Floats = scott(float(samples.n), samples.d) * spread * GRID
    return widths


def choose(
    session: Session, samples: Rows, candidates: Floats, folds: int | None = None, seed: int = 0
) -> tuple[BandwidthSelection, Integers]:
    """Score all candidates, see `select_bandwidth`.

    Parameters
    ----------
    session : Session
        How to run.
    samples : Rows of shape (n, d)
        Validated, with at least two rows.
    candidates : array of shape (c,), float64
        Bandwidths to choose from.
    folds : int, optional
        Number of folds.
    seed : int, default 0
        Of the folds.

    Returns
    -------
    chosen : BandwidthSelection
        The winner and all scores.
    dominated : array of shape (1,), int64
        Rows for which, under the winner, one sample has more than half of the density.
    """
    if folds is None:
        values, dominated = densities.log_densities(session, None, samples, candidates)
    else:
        values, dominated = _of_folds(session, samples, candidates, folds, seed)
    scores = np.array([densities.mean(column) for column in values.T])
    best = int(np.argmax(scores))
    selection = BandwidthSelection(float(candidates[best]), candidates, scores)
    return selection, dominated[best : best + 1]


def _of_folds(
    session: Session, samples: Rows, candidates: Floats, folds: int, seed: int
) -> tuple[Floats, Integers]:
    order = np.random.default_rng(seed).permutation(samples.n)
    sizes = [len(order[fold::folds]) for fold in range(folds)]
    session.progress.expect(float(sum(size * (samples.n - size) for size in sizes)))
    values = np.empty((samples.n, len(candidates)))
    dominated = np.zeros(len(candidates), dtype=np.int64)
    for fold in range(folds):
        held = np.zeros(samples.n, dtype=np.bool_)
        held[order[fold::folds]] = True
        values[held], some = densities.log_densities(
            session,
            samples.picked(held),
            samples.picked(~held),
            candidates,
        )
        dominated += some
    return values, dominated


def _as_candidates(candidates: object) -> Floats:
    widths = as_widths("select_bandwidth", "candidates", candidates)
    if widths.ndim != 1:
        fail("select_bandwidth", "candidates", "of shape (c,)", f"shape {widths.shape}")
    return widths


def _as_folds(folds: object, n: int) -> int:
    count = as_int("select_bandwidth", "folds", folds, "to be an int or None")
    if not 2 <= count <= n:
        fail("select_bandwidth", "folds", f"in [2, n] = [2, {n}]", str(count))
    return count
