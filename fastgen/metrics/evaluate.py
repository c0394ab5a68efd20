"""Several metrics of one pair of sets, sharing their passes."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import overload

import numpy as np
import numpy.typing as npt

from fastgen import balls, densities, pairwise, sums
from fastgen._errors import fail
from fastgen.balls import Neighbourhood
from fastgen.bandwidths import RULES, as_bandwidths
from fastgen.estimators import KernelSums
from fastgen.kernels import Kernel
from fastgen.metrics import cmmd, cross_validation, kid, likelihood, mmd, prdc, precision_recall
from fastgen.progress import ProgressLike
from fastgen.results import Report, Result
from fastgen.session import Rows, Session

Floats = npt.NDArray[np.float64]

#: Metrics of balls, which reduce the same counts.
OF_BALLS: dict[str, Callable[[Neighbourhood], Result]] = {
    "prdc": prdc.summarise,
    "precision_recall": precision_recall.summarise,
}

#: Metrics of sums, each as its own function computes it by default.
OF_SUMS: dict[str, Callable[[KernelSums], Result]] = {
    "kid": kid.summarise,
    "mmd": mmd.summarise,
    "cmmd": cmmd.summarise,
}

#: The kernel of each, and whether its rows are normalised. What agrees in both shares a pass.
PASSES: dict[str, tuple[Kernel, bool]] = {
    "kid": (pairwise.DEFAULT_KERNEL, False),
    "mmd": (pairwise.DEFAULT_KERNEL, False),
    "cmmd": (cmmd.KERNEL, True),
}

#: The metric of densities, and the word for a bandwidth from cross-validation.
KDE, CV = "kde", "cv"

#: What `evaluate` knows, and what it computes unless told otherwise.
METRICS = (*OF_SUMS, *OF_BALLS, KDE)
DEFAULT = ("kid", "prdc")


@overload
def evaluate(
    *,
    real: object,
    fake: object,
    metrics: Sequence[str] | None = None,
    k: int = 5,
    ties: str = "closed",
    bandwidth: str | float = CV,
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
    bandwidth: str | float = CV,
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
    bandwidth: str | float = CV,
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
        Of "kid", "mmd", "cmmd", "prdc" and "precision_recall", each as the function of that name
        computes it by default, and "kde", the log-likelihood of the real rows under the kernel
        density of the fake ones (`fastgen.heldout_log_likelihood`). Default: "kid" and "prdc".
    k : int or sequence of int, default 5
        The radius of a row is its distance to the k-th nearest other row of its set; 1 to
        min(n, m) - 1. A sequence costs one pass and gives a list of reports. Only "prdc" and
        "precision_recall" look at it.
    ties : {"closed", "open"}, default "closed"
        Whether a row at exactly the radius is inside the ball; for the same two.
    bandwidth : "cv", "scott", "silverman" or float, default "cv"
        Of the density of "kde". "cv" chooses it by leaving out one fake row after the other
        (`fastgen.select_bandwidth` with its default grid).
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
        Results by metric name with sizes, options and seconds. What does not depend on k is
        computed once and stands in every report; k, ties and bandwidth are None where nothing
        depends on them, and bandwidth is the number that "cv" or a rule came to.

    Raises
    ------
    TypeError
        If an argument has the wrong type or dtype.
    ValueError
        If the sets are not matrices of finite numbers with the same number of columns and enough
        rows, a metric is not known, `k`, `ties`, `bandwidth` or another option is out of bounds, or
        all fake rows are equal where "cv" has to choose.
    BackendUnavailableError
        If a GPU is needed.

    Warns
    -----
    DensityWarning
        If at more than half of the real rows one fake row has more than half of the density.

    Notes
    -----
    The metrics of balls share their joins, for every k; kid and mmd share a pass over the pairs;
    cmmd has one of its own, since it normalises the rows, and kde has one more to choose a
    bandwidth. Time that is shared is counted once, in the first of the metrics that share it and in
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
        with_balls = any(name in OF_BALLS for name in names)
        counts: list[int] = []
        if with_balls:
            rows, others, counts, many = balls.real_and_fake(session, real, fake, k, ties)
        else:
            # The biased estimate takes single rows, and so does a density.
            at_least = 1 if {*names} <= {"cmmd", KDE} else 2
            rows, others = pairwise.two_samples(session, "real", real, "fake", fake, at_least)
            many = np.ndim(k) == 1
        reports = len(counts) if with_balls else np.size(k)
        passes = with_balls + len({PASSES[name] for name in names if name in PASSES})
        session.expect(*[(rows, rows), (others, others), (rows, others)] * passes)
        width: float | None = None
        if KDE in names:
            candidates = _candidates(session, bandwidth, rows, others)

        @functools.cache
        def found() -> list[Neighbourhood]:
            return balls.neighbourhoods(session, rows, others, counts, ties)

        @functools.cache
        def sums_of(kernel: Kernel, normalise: bool) -> KernelSums:
            median = functools.partial(sums.median_distance, session, rows, others, 0)
            resolved = [kernel.resolved(rows.d, median)]
            return sums.kernel_sums(session, rows, others, resolved, normalise=normalise)[0]

        results: dict[str, list[Result]] = {}
        seconds: dict[str, float] = {}
        began = time.perf_counter()
        for name in names:
            if name in OF_BALLS:
                results[name] = [OF_BALLS[name](one) for one in found()]
            elif name == KDE:
                if len(candidates) > 1:
                    chosen, _ = cross_validation.choose(session, others, candidates)
                    candidates = np.array([chosen.bandwidth])
                width = float(candidates[0])
                values, dominated = densities.log_densities(session, rows, others, candidates)
                results[name] = [likelihood.summarise(values[:, 0], rows.d)] * reports
            else:
                results[name] = [OF_SUMS[name](sums_of(*PASSES[name]))] * reports
            now = time.perf_counter()
            seconds[name], began = now - began, now
        listed = [
            Report(
                {name: results[name][place] for name in names},
                n=rows.n,
                m=others.n,
                d=rows.d,
                k=counts[place] if with_balls else None,
                ties=ties if with_balls else None,
                bandwidth=width,
                seconds=seconds if place == 0 else dict.fromkeys(names, 0.0),
            )
            for place in range(reports)
        ]
    if KDE in names:
        densities.warn_if_dominated("evaluate", dominated, rows.n)
    return listed if many else listed[0]


def _candidates(session: Session, bandwidth: object, real: Rows, fake: Rows) -> Floats:
    """Return the bandwidths to choose from, or the given one; check that there is memory for it."""
    if isinstance(bandwidth, str) and bandwidth == CV:
        cross_validation.check_can_leave_out("evaluate", fake)
        candidates = cross_validation.default_candidates("evaluate", fake, "another `bandwidth`")
        densities.require_memory(session, None, fake, len(candidates))
        session.progress.expect(float(fake.n) * fake.n)
    else:
        if isinstance(bandwidth, str) and bandwidth not in RULES:
            condition = 'to be a number, "cv", "scott" or "silverman"'
            fail("evaluate", "bandwidth", condition, repr(bandwidth))
        candidates, several = as_bandwidths("evaluate", bandwidth, fake.d, float(fake.n))
        if several or bandwidth is None:
            fail("evaluate", "bandwidth", "to be one number", repr(bandwidth), error=TypeError)
    densities.require_memory(session, real, fake, 1)
    session.progress.expect(float(real.n) * fake.n)
    return candidates


def _names(metrics: object) -> list[str]:
    """Check the names; repetition adds nothing."""
    if metrics is None:
        return list(DEFAULT)
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
