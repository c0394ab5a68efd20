"""Several metrics of one pair of sets, sharing their passes."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Sequence
from typing import cast, overload

import numpy as np
import numpy.typing as npt

from fastgen import (
    answers,
    balls,
    densities,
    files,
    gaussians,
    library_devices,
    library_rows,
    pairwise,
    sums,
)
from fastgen._errors import BackendUnavailableError, fail
from fastgen.answers import Answers
from fastgen.balls import Neighbourhood
from fastgen.bandwidths import RULES, as_bandwidths
from fastgen.estimators import KernelSums
from fastgen.gaussians import Places, Source
from fastgen.kernels import Kernel
from fastgen.library_devices import Device
from fastgen.metrics import cross_validation, frechet, inception, likelihood
from fastgen.metrics.catalogue import FID, IS, KDE, OF_BALLS, OF_SUMS, PASSES, as_names
from fastgen.moments import Moments
from fastgen.namespaces import can_be_computed_with
from fastgen.progress import ProgressLike
from fastgen.results import Frechet, InceptionScore, Report, Result
from fastgen.session import Rows, Session

Floats = npt.NDArray[np.float64]

#: The word for a bandwidth from cross-validation.
CV = "cv"

_SPLITS = 10  # the default of `inception_score`

# Progress counts pairs of rows. In their time, as measured on two cores with AVX-512 and AMX at 256
# to 2048 features: a number of a set whose moments are summed takes 1.4 pairs of kid, as a row's
# d^2 / 2 products of float64 should take about as long as d pairs of d products of float32; so
# `gaussians.work`, which counts numbers, will do. The distance itself takes 20 to 30 d^2 pairs.
# A probability of a classifier takes 6 ns, a pair 3 to 12 ns.
_SOLVE = 20.0


@overload
def evaluate(
    *,
    real: object,
    fake: object,
    metrics: Sequence[str] | None = None,
    k: int = 5,
    ties: str = "closed",
    bandwidth: str | float = CV,
    logits: object = None,
    probabilities: object = None,
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
    logits: object = None,
    probabilities: object = None,
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
    logits: object = None,
    probabilities: object = None,
    threads: int | None = None,
    device: object = None,
    progress: ProgressLike = False,
    memory: int | str | None = None,
) -> Report | list[Report]:
    """Compute several metrics at once.

    Parameters
    ----------
    real : array of shape (n, d), or Moments
        Reference features: float16, float32, float64 or integers, or the path of a file. For "fid"
        and "is" alone their statistics will do: a `fastgen.Moments`, or the path of a .npz file
        with "mu" and "sigma".
    fake : array of shape (m, d), or Moments
        Generated features, as `real`.
    metrics : sequence of str, optional
        Of "fid", "kid", "mmd", "cmmd", "prdc" and "precision_recall", each as the function of that
        name computes it by default; "kde", the log-likelihood of the real rows under the kernel
        density of the fake ones (`fastgen.heldout_log_likelihood`); and "is", the
        `fastgen.inception_score` of `logits` or `probabilities`. Default: "fid", "kid" and "prdc".
    k : int or sequence of int, default 5
        The radius of a row is its distance to the k-th nearest other row of its set; 1 to
        min(n, m) - 1. A sequence costs one pass and gives a list of reports. Only "prdc" and
        "precision_recall" look at it.
    ties : {"closed", "open"}, default "closed"
        Whether a row at exactly the radius is inside the ball; for the same two.
    bandwidth : "cv", "scott", "silverman" or float, default "cv"
        Of the density of "kde". "cv" chooses it by leaving out one fake row after the other
        (`fastgen.select_bandwidth` with its default grid).
    logits : array of shape (r, c), optional
        A classifier's answers to generated images before the softmax, or the path of a file: for
        "is", which needs these or `probabilities`. At least 10 rows, one for each split; they need
        not be as many as those of `fake`.
    probabilities : array of shape (r, c), optional
        Its answers after the softmax, likewise.
    threads : int, optional
        Number of threads. Default: ``FASTGEN_NUM_THREADS``, else the CPUs this process may use.
    device : str or device object, optional
        Where to compute: "cpu", "cuda", "cuda:1" or "cuda:all". Default: where the arrays are. fid
        and is take one GPU, by torch, CuPy or JAX; without them the CPU, if others are asked for.
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
        rows, or statistics where a metric needs features; a metric is not known; `k`, `ties`,
        `bandwidth` or another option is out of bounds; answers are missing, no such matrix or not
        asked for; or all fake rows are equal where "cv" has to choose.
    BackendUnavailableError
        If a GPU is asked for, or has the arrays, that cannot be used.

    Warns
    -----
    DensityWarning
        If at more than half of the real rows one fake row has more than half of the density.

    Notes
    -----
    The metrics of balls share their joins, for every k; kid and mmd share a pass over the pairs;
    cmmd has one of its own, since it normalises the rows, and kde has one more to choose a
    bandwidth. Time that is shared is counted once, in the first of the metrics that share it and in
    the first report. fid and is look at no pairs and share nothing; is is computed first, wherever
    it stands, so that answers that are no probabilities are told before the long work.

    Examples
    --------
    >>> import numpy as np
    >>> import fastgen
    >>> real, fake = np.array([[0.0], [1.0], [2.0]]), np.array([[0.5], [9.0]])
    >>> fastgen.evaluate(real=real, fake=fake, k=1).metrics["prdc"]
    PRDC(precision=0.5, recall=1.0, density=1.0, coverage=0.6666666666666666)
    """
    names = as_names(metrics)
    of_rows = [name for name in names if name not in (FID, IS)]
    asked = _asked(device, bool(of_rows))
    with Session(
        "evaluate",
        threads=threads,
        device=device if of_rows else None,
        progress=progress,
        memory=memory,
    ) as session:
        given = _answers(session, names, logits, probabilities, asked)
        with_balls = any(name in OF_BALLS for name in names)
        counts: list[int] = []
        many = np.ndim(k) == 1
        for argument, value in (("real", real), ("fake", fake)):
            if of_rows and _is_statistics(value):
                condition = f"to be features for {', '.join(of_rows)}"
                hint = 'metrics=["fid"] takes statistics'
                fail("evaluate", argument, condition, "statistics", hint)
        if with_balls:
            rows, others, counts, many = balls.real_and_fake(session, real, fake, k, ties)
        elif of_rows:
            # The biased estimate takes single rows, and so does a density.
            at_least = 1 if {*names} <= {"cmmd", KDE, IS} else 2
            rows, others = pairwise.two_samples(session, "real", real, "fake", fake, at_least)
        where: Device | None = None
        if not of_rows:
            sources, where = gaussians.as_sources("evaluate", real, fake, asked)
            if FID not in names:  # which looks at the numbers itself
                _check_rows(session, sources)
        elif FID in names:
            first, second = (
                one if asked != library_devices.HOST and can_be_computed_with(one) else taken.host
                for one, taken in ((real, rows), (fake, others))
            )
            sources, where = gaussians.as_sources("evaluate", first, second, asked)
        else:  # only their sizes are asked for
            sources = cast("Source", rows.values), cast("Source", others.values)
        reports = len(counts) if with_balls else np.size(k)
        passes = with_balls + len({PASSES[name] for name in names if name in PASSES})
        if passes:
            session.expect(*[(rows, rows), (others, others), (rows, others)] * passes)
        if FID in names:
            gaussians.require_memory(session, *sources)
            session.progress.expect(sum(map(gaussians.work, sources)) + _solving(sources))
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
        for name in sorted(names, key=lambda name: name != IS):
            if name in OF_BALLS:
                results[name] = [OF_BALLS[name](one) for one in found()]
            elif name == FID:
                results[name] = [_fid(session, sources, where)] * reports
            elif given is not None and name == IS:
                results[name] = [_inception_score(session, given)] * reports
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
                n=gaussians.count(sources[0]),
                m=gaussians.count(sources[1]),
                d=gaussians.features(sources[0]),
                k=counts[place] if with_balls else None,
                ties=ties if with_balls else None,
                bandwidth=width,
                seconds={name: seconds[name] if place == 0 else 0.0 for name in names},
            )
            for place in range(reports)
        ]
    if KDE in names:
        densities.warn_if_dominated("evaluate", dominated, rows.n)
    return listed if many else listed[0]


def _fid(session: Session, sources: tuple[Source, Source], where: Device | None) -> Frechet:
    places = Places(where, where)
    with library_devices.context(where):
        real = gaussians.fitted(session, "real", sources[0], places)
        fake = gaussians.fitted(session, "fake", sources[1], places)
        found = frechet.summarise(real, fake)
    session.progress.update(_solving(sources), 1.0)
    return found


def _solving(sources: tuple[Source, Source]) -> float:
    """Return the work of the distance itself, in pairs; few rows have a covariance of low rank."""
    d = gaussians.features(sources[0])
    return _SOLVE * d * min([d, *(gaussians.count(one) or d for one in sources)])


def _inception_score(session: Session, given: Answers) -> InceptionScore:
    def tell(rows: float, done: float) -> None:
        session.progress.update(rows * given.rows.shape[1], done)

    return inception.summarise(given, _SPLITS, None, session.threads, tell)


def _asked(device: object, with_others: bool) -> Device | str | None:
    """Say where fid and is are computed; on the CPU where only the others have a GPU."""
    try:
        return library_devices.asked_for("evaluate", device)
    except BackendUnavailableError:
        if not with_others:
            raise
        return library_devices.HOST


def _answers(
    session: Session,
    names: list[str],
    logits: object,
    probabilities: object,
    asked: Device | str | None,
) -> Answers | None:
    """Check that there are answers where "is" needs them, and nowhere else."""
    there = [
        name
        for name, value in (("logits", logits), ("probabilities", probabilities))
        if value is not None
    ]
    if IS not in names:
        if there:
            fail("evaluate", there[0], 'only with "is" in `metrics`', ", ".join(names))
        return None
    if len(there) != 1:
        condition = 'or `probabilities` with "is"'
        fail("evaluate", "logits", condition, "both" if there else "none")
    given = answers.as_answers("evaluate", logits, probabilities, asked)
    n, classes = given.rows.shape
    if n < _SPLITS:
        hint = "fastgen.inception_score takes another number of splits"
        fail(
            "evaluate", there[0], f"with at least {_SPLITS} rows, one for each split", str(n), hint
        )
    answers.require_memory(session, given, _SPLITS)
    session.progress.expect(float(n) * classes)
    return given


def _is_statistics(value: object) -> bool:
    if isinstance(value, (str, os.PathLike)):
        return files.holds_statistics(value)
    return isinstance(value, Moments)


def _check_rows(session: Session, sources: tuple[Source, Source]) -> None:
    """Refuse what every other metric would, though nothing is computed from it."""
    for name, one in zip(("real", "fake"), sources, strict=True):
        if not isinstance(one, Moments):
            library_rows.check_values(session.function, name, one, session.threads)


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
