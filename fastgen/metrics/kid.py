"""Kernel inception distance."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastgen import draws, estimators
from fastgen._errors import fail
from fastgen.estimators import KernelSums
from fastgen.kernels import Polynomial, check_polynomial
from fastgen.pairwise import two_samples
from fastgen.plan import as_int
from fastgen.progress import ProgressLike
from fastgen.results import KID
from fastgen.session import Rows, Session
from fastgen.sums import kernel_sums, require_memory

Integers = npt.NDArray[np.int64]


def kid(
    *,
    real: object,
    fake: object,
    degree: int = 3,
    gamma: float | None = None,
    coef0: float = 1.0,
    subsets: int | None = None,
    subset_size: int = 1000,
    seed: int | None = 0,
    subset_indices: tuple[object, object] | None = None,
    threads: int | None = None,
    device: object = None,
    progress: ProgressLike = False,
    memory: int | str | None = None,
) -> KID:
    """Compute the kernel inception distance: the unbiased MMD^2 of a polynomial kernel.

    Parameters
    ----------
    real : array of shape (n, d)
        Reference features, n >= 2: float16, float32, float64 or integers, in CPU memory or on a
        GPU, or the path of a file.
    fake : array of shape (m, d)
        Generated features, as `real`.
    degree : int, default 3
        Of the kernel ``(gamma x.y + coef0)^degree``; 1 to 32.
    gamma : float, optional
        Positive. Default: 1/d.
    coef0 : float, default 1.0
        At least 0.
    subsets : int, optional
        Number of random subsets to average over. Default: the full sample, without subsets.
    subset_size : int, default 1000
        Rows that a subset takes from each set, from 2 to min(n, m); matters with `subsets` only.
    seed : int, default 0
        Seed of the subsets, at least 0; None is 0.
    subset_indices : pair of integer arrays of shape (S, a) and (S, b), optional
        Rows of `real` and of `fake` that form S given subsets, instead of random ones.
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
    KID
        Of the full sample: the estimate as mean, its standard error as std. Of subsets: mean and
        standard deviation of their estimates.

    Raises
    ------
    TypeError
        If an argument has the wrong type or dtype.
    ValueError
        If the sets are not matrices of finite numbers with the same number of columns and at least
        two rows, or another argument is out of bounds.
    BackendUnavailableError
        If a GPU is asked for, or has an array, that cannot be used.
    MemoryError
        If a GPU has not enough free memory.

    Notes
    -----
    KID [1]_ is ``sum_{i != j} k(x_i, x_j) / (n (n-1)) + sum_{i != j} k(y_i, y_j) / (m (m-1)) - 2
    sum_{i, j} k(x_i, y_j) / (n m)``; it may be negative. The full sample uses every pair of rows
    once, and its standard error is the formula in the docstring of `fastgen.mmd`. Other libraries
    average over 100 subsets of 1000 rows, as ``subsets=100`` does; their choice adds noise of its
    own, and their standard deviation (divisor S, as elsewhere) is that of estimates from
    `subset_size` rows, not the error of the mean. A generator ``default_rng(seed)`` draws, for each
    subset, first the real rows and then the fake ones, by ``choice(n, subset_size,
    replace=False)``. Indices that are given should not repeat within a subset: a row that meets
    its copy biases the estimate.

    References
    ----------
    .. [1] M. Binkowski et al., "Demystifying MMD GANs", ICLR 2018.

    Examples
    --------
    >>> import numpy as np
    >>> import fastgen
    >>> real, fake = np.array([[0.0], [1.0], [2.0]]), np.array([[0.0], [1.0]])
    >>> round(fastgen.kid(real=real, fake=fake, degree=1).mean, 6)
    -0.333333
    """
    with Session(
        "kid", threads=threads, device=device, progress=progress, memory=memory
    ) as session:
        power, scale, offset = check_polynomial("kid", degree, gamma, coef0)
        if subsets is not None and subset_indices is not None:
            fail("kid", "subset_indices", "to be None where `subsets` is given", "both")
        rows, others = two_samples(session, "real", real, "fake", fake, 2)
        chosen = None
        if subset_indices is not None:
            chosen = draws.as_subsets("kid", subset_indices, rows.n, others.n)
        elif subsets is not None:
            chosen = _drawn(session, subsets, subset_size, seed, rows, others)
        kernel = Polynomial(power, 1.0 / rows.d if scale is None else scale, offset)
        (sums,) = kernel_sums(session, rows, others, [kernel], subsets=chosen)
        if chosen is None:
            return summarise(sums)
        values = estimators.unbiased(sums)
        return KID(mean=float(np.mean(values)), std=float(np.std(values)))


def summarise(sums: KernelSums) -> KID:
    """Reduce the sums of the full sample to the metric.

    Parameters
    ----------
    sums : KernelSums
        Of a polynomial kernel.

    Returns
    -------
    KID
        Estimate and standard error.
    """
    return KID(
        mean=float(estimators.unbiased(sums)[0]), std=float(estimators.standard_error(sums)[0])
    )


def _drawn(
    session: Session, subsets: object, size: object, seed: object, real: Rows, fake: Rows
) -> tuple[Integers, Integers]:
    count = as_int("kid", "subsets", subsets, "to be an int or None")
    if count < 1:
        fail("kid", "subsets", "of at least 1", str(count))
    rows, most = as_int("kid", "subset_size", size), min(real.n, fake.n)
    if not 2 <= rows <= most:
        hint = "without `subsets` the full sample is used"
        fail("kid", "subset_size", f"in [2, min(n, m)] = [2, {most}]", str(rows), hint)
    start = draws.as_seed("kid", seed)
    require_memory(session, [real, fake], 1, chosen=2 * count * rows)
    return draws.subsets(real.n, fake.n, count, rows, start)
