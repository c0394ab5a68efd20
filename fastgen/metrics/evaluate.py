"""Several metrics of one pair of sets, sharing their joins."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import overload

from fastgen._errors import fail
from fastgen.metrics import prdc, precision_recall
from fastgen.pairwise import Neighbourhood, neighbourhoods, real_and_fake
from fastgen.progress import ProgressLike
from fastgen.results import Report, Result
from fastgen.session import Session

#: What `evaluate` knows, in its default order: each reduces the same counts.
METRICS: dict[str, Callable[[Neighbourhood], Result]] = {
    "prdc": prdc.summarise,
    "precision_recall": precision_recall.summarise,
}


@overload
def evaluate(
    *,
    real: object,
    fake: object,
    metrics: Sequence[str] | None = None,
    k: int = 5,
    ties: str = "closed",
    threads: int | None = None,
    device: object = None,
    progress: ProgressLike = False,
    memory: int | str | None = None,
) -> Report: ...
@overload
def evaluate(
    *,
    real: object,
    fake: object,
    metrics: Sequence[str] | None = None,
    k: Sequence[int],
    ties: str = "closed",
    threads: int | None = None,
    device: object = None,
    progress: ProgressLike = False,
    memory: int | str | None = None,
) -> list[Report]: ...
def evaluate(
    *,
    real: object,
    fake: object,
    metrics: Sequence[str] | None = None,
    k: int | Sequence[int] = 5,
    ties: str = "closed",
    threads: int | None = None,
    device: object = None,
    progress: ProgressLike = False,
    memory: int | str | None = None,
) -> Report | list[Report]:
    """Compute several metrics at once.

    Parameters
    ----------
    real : array of shape (n, d)
        Reference features: float16, float32, float64 or integers, or the path of a file.
    fake : array of shape (m, d)
        Generated features, as `real`.
    metrics : sequence of str, optional
        Of "prdc" and "precision_recall". Default: all of them.
    k : int or sequence of int, default 5
        The radius of a row is its distance to the k-th nearest other row of its set; 1 to
        min(n, m) - 1. A sequence costs one pass and gives a list of reports.
    ties : {"closed", "open"}, default "closed"
        Whether a row at exactly the radius is inside the ball.
    threads : int, optional
        Number of threads. Default: ``FASTGEN_NUM_THREADS``, else the CPUs this process may use.
    device : str, optional
        "cpu" or None.
    progress : bool or callable, default False
        True shows a bar (needs rich); a callable gets the fraction done.
    memory : int or str, optional
        Budget for memory beyond the inputs, in bytes or as "4GB". Default: no limit.

    Returns
    -------
    Report or list of Report
        Results by metric name with sizes, options and seconds.

    Raises
    ------
    TypeError
        If an argument has the wrong type or dtype.
    ValueError
        If the sets are not matrices of finite numbers with the same number of columns, or `k`,
        `ties` or another option is out of bounds.
    BackendUnavailableError
        If a GPU is needed.

    Notes
    -----
    All metrics and all k share the same joins. Their time is counted once, in the first metric of
    the first report.

    Examples
    --------
    >>> import numpy as np
    >>> import fastgen
    >>> real, fake = np.array([[0.0], [1.0], [2.0]]), np.array([[0.5], [9.0]])
    >>> fastgen.evaluate(real=real, fake=fake, k=1).metrics["prdc"]
    PRDC(precision=0.5, recall=1.0, density=1.0, coverage=0.6666666666666666)
    """
    with Session(
        "evaluate", threads=threads, device=device, progress=progress, memory=memory
    ) as session:
        names = _names(metrics)
        rows, others, counts, many = real_and_fake(session, real, fake, k, ties)
        session.expect((rows, rows), (others, others), (rows, others))
        began = time.perf_counter()
        reports = []
        for one in neighbourhoods(session, rows, others, counts, ties):
            results: dict[str, Result] = {}
            seconds: dict[str, float] = {}
            for name in names:
                results[name] = METRICS[name](one)
                now = time.perf_counter()
                seconds[name], began = now - began, now
            sizes = {"n": rows.n, "m": others.n, "d": rows.d}
            reports.append(Report(results, **sizes, k=one.k, ties=ties, seconds=seconds))
        return reports if many else reports[0]


def _names(metrics: object) -> list[str]:
    """Check the names; repetition adds nothing."""
    if metrics is None:
        return list(METRICS)
    condition = f"to be a sequence of {', '.join(METRICS)}"
    if isinstance(metrics, str) or not isinstance(metrics, Sequence):
        got = f"{type(metrics).__name__} {metrics!r}"
        fail("evaluate", "metrics", condition, got, error=TypeError)
    if not metrics:
        fail("evaluate", "metrics", condition, "an empty sequence")
    for name in metrics:
        if not isinstance(name, str) or name not in METRICS:
            fail("evaluate", "metrics", condition, repr(name))
    return list(dict.fromkeys(metrics))
