"""Improved precision and recall."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np

from fastgen.balls import Neighbourhood, neighbourhoods, real_and_fake
from fastgen.progress import ProgressLike
from fastgen.results import PrecisionRecall
from fastgen.session import Session


@overload
def precision_recall(
    *,
    real: object,
    fake: object,
    k: int = 3,
    ties: str = "closed",
    threads: int | None = None,
    device: object = None,
    progress: ProgressLike = False,
    memory: int | str | None = None,
) -> PrecisionRecall: ...
@overload
def precision_recall(
    *,
    real: object,
    fake: object,
    k: Sequence[int],
    ties: str = "closed",
    threads: int | None = None,
    device: object = None,
    progress: ProgressLike = False,
    memory: int | str | None = None,
) -> list[PrecisionRecall]: ...
def precision_recall(
    *,
    real: object,
    fake: object,
    k: int | Sequence[int] = 3,
    ties: str = "closed",
    threads: int | None = None,
    device: object = None,
    progress: ProgressLike = False,
    memory: int | str | None = None,
) -> PrecisionRecall | list[PrecisionRecall]:
    """Compute improved precision and recall.

    Parameters
    ----------
    real : array of shape (n, d)
        Reference features: float16, float32, float64 or integers, in CPU memory or on a GPU, or
        the path of a file.
    fake : array of shape (m, d)
        Generated features, as `real`.
    k : int or sequence of int, default 3
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
    PrecisionRecall or list of PrecisionRecall
        precision, recall and their harmonic mean, each in [0, 1].

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
    With balls B(x) of radius r_k(x), precision is the share of fake rows in the union of the real
    balls, recall the share of real rows in the union of the fake balls [1]_. The paper and
    torch-fidelity count a distance equal to the radius as inside, hence the default of `ties`.

    References
    ----------
    .. [1] T. Kynkaanniemi et al., "Improved precision and recall metric for assessing generative
       models", NeurIPS 2019.

    Examples
    --------
    >>> import numpy as np
    >>> import fastgen
    >>> real, fake = np.array([[0.0], [1.0], [2.0]]), np.array([[0.5], [9.0]])
    >>> fastgen.precision_recall(real=real, fake=fake, k=1)
    PrecisionRecall(precision=0.5, recall=1.0, f_score=0.6666666666666666)
    """
    with Session(
        "precision_recall", threads=threads, device=device, progress=progress, memory=memory
    ) as session:
        rows, others, counts, many = real_and_fake(session, real, fake, k, ties)
        session.expect((rows, rows), (others, others), (rows, others))
        found = neighbourhoods(session, rows, others, counts, ties)
        results = [summarise(one) for one in found]
        return results if many else results[0]


def summarise(found: Neighbourhood) -> PrecisionRecall:
    """Reduce the counts of one k to the metric.

    Parameters
    ----------
    found : Neighbourhood
        From `balls.neighbourhoods`.

    Returns
    -------
    PrecisionRecall
        The result.
    """
    precision = float(np.mean(found.real_balls_of_fake > 0))
    recall = float(np.mean(found.fake_balls_of_real > 0))
    both = precision + recall
    f_score = 2.0 * precision * recall / both if both > 0.0 else 0.0
    return PrecisionRecall(precision, recall, f_score)
