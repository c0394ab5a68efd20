"""Which rows lie in the other set's manifold, and how realistic each fake row is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np

from fastgen.balls import neighbourhoods, real_and_fake
from fastgen.progress import ProgressLike
from fastgen.results import Membership
from fastgen.session import Session


@overload
def membership(
    *,
    real: object,
    fake: object,
    k: int = 5,
    ties: str = "closed",
    threads: int | None = None,
    device: object = None,
    progress: ProgressLike = False,
    memory: int | str | None = None,
) -> Membership: ...
@overload
def membership(
    *,
    real: object,
    fake: object,
    k: Sequence[int],
    ties: str = "closed",
    threads: int | None = None,
    device: object = None,
    progress: ProgressLike = False,
    memory: int | str | None = None,
) -> list[Membership]: ...
def membership(
    *,
    real: object,
    fake: object,
    k: int | Sequence[int] = 5,
    ties: str = "closed",
    threads: int | None = None,
    device: object = None,
    progress: ProgressLike = False,
    memory: int | str | None = None,
) -> Membership | list[Membership]:
    """Tell for every row whether it lies in the other set's manifold.

    Parameters
    ----------
    real : array of shape (n, d)
        Reference features: float16, float32, float64 or integers, in CPU memory or on a GPU, or
        the path of a file.
    fake : array of shape (m, d)
        Generated features, as `real`.
    k : int or sequence of int, default 5
        The radius of a row is its distance to the k-th nearest other row of its set; 1 to
        min(n, m) - 1. A sequence shares the search and gives a list.
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
    Membership or list of Membership
        One entry per row: fake_in_real, real_in_fake, fake_counts and realism. NumPy arrays, or
        where an array is on a GPU those of its library, on the same GPU (of JAX only with
        ``jax_enable_x64``).

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
    Realism of a fake row is ``max_i r_i / d_i`` over the real rows with radius r_i at most the
    median radius, d_i its distance from them ([1]_, eq. 3): the larger, the closer to a densely
    sampled part of the real set. On top of a real row it is infinite; if that row's radius is 0 as
    well, 0 over 0 counts as 1, the edge of the ball. The median is taken of the squared radii, and
    the root of the largest squared ratio.

    References
    ----------
    .. [1] T. Kynkaanniemi et al., "Improved precision and recall metric for assessing generative
       models", NeurIPS 2019.

    Examples
    --------
    >>> import numpy as np
    >>> import fastgen
    >>> real, fake = np.array([[0.0], [1.0], [2.0]]), np.array([[0.5], [9.0]])
    >>> fastgen.membership(real=real, fake=fake, k=1).fake_in_real
    array([ True, False])
    """
    with Session(
        "membership", threads=threads, device=device, progress=progress, memory=memory
    ) as session:
        rows, others, counts, many = real_and_fake(session, real, fake, k, ties)
        session.expect((rows, rows), (others, others), *[(rows, others)] * (1 + len(set(counts))))
        realism = {}
        found = neighbourhoods(session, rows, others, counts, ties)
        for one in found:
            if one.k not in realism:
                sq_radii = one.sq_radii_real
                kept = np.where(sq_radii <= np.median(sq_radii), sq_radii, np.nan)
                realism[one.k] = np.sqrt(session.sq_realism(rows, others, kept))
        results = [
            Membership(
                fake_in_real=session.results(one.real_balls_of_fake > 0),
                real_in_fake=session.results(one.fake_balls_of_real > 0),
                fake_counts=session.results(one.real_balls_of_fake),
                realism=session.results(realism[one.k]),
            )
            for one in found
        ]
        return results if many else results[0]
