"""Precision, recall, density and coverage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np

from fastgen.balls import Neighbourhood, neighbourhoods, real_and_fake
from fastgen.progress import ProgressLike
from fastgen.results import PRDC
from fastgen.session import Session


@overload
def prdc(
    *,
    real: object,
    fake: object,
    k: int = 5,
    ties: str = "closed",
    threads: int | None = None,
    device: object = None,
    progress: ProgressLike = False,
    memory: int | str | None = None,
) -> PRDC: ...
@overload
def prdc(
    *,
    real: object,
    fake: object,
    k: Sequence[int],
    ties: str = "closed",
    threads: int | None = None,
    device: object = None,
    progress: ProgressLike = False,
    memory: int | str | None = None,
) -> list[PRDC]: ...
def prdc(
    *,
    real: object,
    fake: object,
    k: int | Sequence[int] = 5,
    ties: str = "closed",
    threads: int | None = None,
    device: object = None,
    progress: ProgressLike = False,
    memory: int | str | None = None,
) -> PRDC | list[PRDC]:
    """Compute precision, recall, density and coverage.

    Parameters
    ----------
    real : array of shape (n, d)
        Reference features: float16, float32, float64 or integers, in CPU memory or on a GPU, or
        the path of a file.
    fake : array of shape (m, d)
        Generated features, as `real`.
    k : int or sequence of int, default 5
        The radius of a row is its distance to the k-th nearest other row of its set; 1 to
        min(n, m) - 1. A sequence costs one pass and gives a list.
    ties : {"closed", "open"}, default "closed"
        Whether a row at exactly the radius is inside the ball.
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
    PRDC or list of PRDC
        precision, recall and coverage in [0, 1]; density about 1 for equal distributions.

    Raises
    ------
    TypeError
        If an argument has the wrong type or dtype.
    ValueError
        If the sets are not matrices of finite numbers with the same number of columns, or `k`,
        `ties` or another option is out of bounds.
    BackendUnavailableError
        If a GPU is asked for, or has an array, that cannot be used.
    MemoryError
        If a GPU has not enough free memory.

    Notes
    -----
    With balls B(x) of radius r_k(x) around the n real rows: precision is the share of fake rows in
    at least one of them, coverage the share of balls with at least one fake row in them, and
    density sum_j #{i: fake_j in B(real_i)} / (k m) [1]_. Recall is the share of real rows in at
    least one ball around a fake row. The prdc package counts a distance equal to the radius as
    outside: ``ties="open"`` does as it does.

    References
    ----------
    .. [1] M. F. Naeem et al., "Reliable fidelity and diversity metrics for generative models",
       ICML 2020.

    Examples
    --------
    >>> import numpy as np
    >>> import fastgen
    >>> real, fake = np.array([[0.0], [1.0], [2.0]]), np.array([[0.5], [9.0]])
    >>> fastgen.prdc(real=real, fake=fake, k=1)
    PRDC(precision=0.5, recall=1.0, density=1.0, coverage=0.6666666666666666)
    """
    with Session(
        "prdc", threads=threads, device=device, progress=progress, memory=memory
    ) as session:
        rows, others, counts, many = real_and_fake(session, real, fake, k, ties)
        session.expect((rows, rows), (others, others), (rows, others))
        found = neighbourhoods(session, rows, others, counts, ties)
        results = [summarise(one) for one in found]
        return results if many else results[0]


def summarise(found: Neighbourhood) -> PRDC:
    """Reduce the counts of one k to the metric.

    Parameters
    ----------
    found : Neighbourhood
        From `balls.neighbourhoods`.

    Returns
    -------
    PRDC
        The result.
    """
    pairs = int(found.real_balls_of_fake.sum())
    return PRDC(
        precision=float(np.mean(found.real_balls_of_fake > 0)),
        recall=float(np.mean(found.fake_balls_of_real > 0)),
        density=pairs / (found.k * len(found.real_balls_of_fake)),
        coverage=float(np.mean(found.fakes_in_real_ball > 0)),
    )
