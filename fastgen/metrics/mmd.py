"""Maximum mean discrepancy."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import overload

from fastgen import draws, estimators
from fastgen._errors import fail
from fastgen.estimators import KernelSums
from fastgen.kernels import Kernel, as_kernels
from fastgen.pairwise import DEFAULT_KERNEL, two_samples
from fastgen.plan import as_int
from fastgen.progress import ProgressLike
from fastgen.results import MMD
from fastgen.session import Session
from fastgen.sums import kernel_sums, median_distance, require_memory


@overload
def mmd(
    x: object,
    y: object,
    kernel: Kernel = DEFAULT_KERNEL,
    estimator: str = "unbiased",
    permutations: int = 0,
    seed: int | None = None,
    *,
    threads: int | None = None,
    device: object = None,
    progress: ProgressLike = False,
    memory: int | str | None = None,
) -> MMD: ...
@overload
def mmd(
    x: object,
    y: object,
    kernel: Sequence[Kernel],
    estimator: str = "unbiased",
    permutations: int = 0,
    seed: int | None = None,
    *,
    threads: int | None = None,
    device: object = None,
    progress: ProgressLike = False,
    memory: int | str | None = None,
) -> list[MMD]: ...
def mmd(
    x: object,
    y: object,
    kernel: Kernel | Sequence[Kernel] = DEFAULT_KERNEL,
    estimator: str = "unbiased",
    permutations: int = 0,
    seed: int | None = None,
    *,
    threads: int | None = None,
    device: object = None,
    progress: ProgressLike = False,
    memory: int | str | None = None,
) -> MMD | list[MMD]:
    r"""Compute the squared maximum mean discrepancy, its standard error and a p-value.

    Parameters
    ----------
    x : array of shape (n, d)
        First sample: float16, float32, float64 or integers, in CPU memory or on a GPU, or the path
        of a file. At least two rows for the unbiased estimate, at least one for the biased one.
    y : array of shape (m, d)
        Second sample, as `x`.
    kernel : Kernel or sequence of Kernel, default Polynomial(degree=3, gamma=None, coef0=1.0)
        Polynomial, Gaussian, RationalQuadratic, Laplacian, Energy, or a sum of these. A sequence
        costs one pass and gives a list.
    estimator : {"unbiased", "biased"}, default "unbiased"
        Whether the pairs of a row with itself are left out.
    permutations : int, default 0
        Number of random relabellings for the p-value; 0 for none.
    seed : int, optional
        Seed of the relabellings, and of the rows that a bandwidth of "median" looks at, at least 0.
        Default: 0.
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
    MMD or list of MMD
        Estimate of MMD^2, its standard error, the p-value or None, n and m.

    Raises
    ------
    TypeError
        If an argument has the wrong type or dtype.
    ValueError
        If the samples are not matrices of finite numbers with the same number of columns and
        enough rows, another argument is out of bounds, or the median distance is 0 where a
        bandwidth asks for it.
    BackendUnavailableError
        If a GPU is asked for, or has an array, that cannot be used.
    MemoryError
        If a GPU has not enough free memory.

    Notes
    -----
    With A and B the means of ``k(x_i, x_j)`` and of ``k(y_i, y_j)`` over i != j, and C that of
    ``k(x_i, y_j)``, the unbiased estimate is ``A + B - 2 C`` and may be negative; the biased one
    takes A and B over all i, j, is 0 or more, and 0 for equal samples [1]_.

    The standard error is the root of an unbiased estimate of the variance of ``A + B - 2 C``, with
    its terms of second order [2]_ [3]_, so that it holds for equal distributions too. Its parts of
    first order (V) and of second order (W) are clamped at 0 one by one; for n < 4 or m < 4 it is
    NaN. Less their means the three blocks of the kernel matrix have

    * row sums ``R_i = sum_{j != i} k(x_i, x_j)`` and ``C_i = sum_j k(x_i, y_j)``, column sums
      ``D_j = sum_i k(x_i, y_j)``,
    * squares ``Q = sum_{i != j} k(x_i, x_j)^2`` and ``P = sum_{i, j} k(x_i, y_j)^2``.

    With ``n_r = n (n-1) .. (n-r+1)``, and for y by exchanging the roles, let::

        e    = (2 Q - 4 sum R_i^2) / n_4                    a = (sum R_i^2 - Q) / n_3 - e
        f    = (P - sum C_i^2 - sum D_j^2) / (n_2 m_2)      b = (sum C_i^2 - P) / (n m_2) - f
        c    = n sum R_i C_i / (n_3 m)
        V_x  = a - 2 c + b       the variance of the witness function E k(x, x') - E k(x, y)
        W_x  = Q / n_2 - e - 2 a                            W_xy = P / (n m) - f - b_x - b_y

        Var (A + B - 2 C) = 4 V_x / n + 4 V_y / m + 2 W_x / n_2 + 2 W_y / m_2 + 4 W_xy / (n m)

    The biased estimate comes with the same standard error.

    Products of float32 rows are float32, kernel values too, and sums float64; all kernels of a list
    are computed in float64 if one of them is so narrow, or so large, that float32 could not tell.
    Rounding errors of float32 average out over the pairs: of an MMD^2 of 1e-5 about 5e-6 is lost
    for n = m = 1500, 2e-6 for 3000 (features of a ReLU, d = 2048), far below the sampling noise.

    The p-value is ``(1 + c) / (1 + B)`` where c of B random relabellings of the pooled rows have
    at least the true estimate, all from the same pass: valid for any n and m if both samples come
    from one distribution. A generator ``default_rng(seed)`` gives ``permutation(n + m)`` for each,
    whose first n entries are the rows that play x.

    References
    ----------
    .. [1] A. Gretton et al., "A kernel two-sample test", JMLR 13, 2012.
    .. [2] R. J. Serfling, "Approximation theorems of mathematical statistics", 1980, chapter 5.
    .. [3] D. J. Sutherland and N. Deka, "Unbiased estimators for the variance of MMD estimators",
       2019, arXiv 1906.02104.

    Examples
    --------
    >>> import numpy as np
    >>> import fastgen
    >>> x, y = np.array([[0.0], [1.0]]), np.array([[4.0], [7.0]])
    >>> fastgen.mmd(x, y, fastgen.Energy()).value
    6.0
    >>> x, y = np.random.default_rng(0).normal(size=(2, 100, 8))
    >>> bandwidths = [fastgen.Gaussian(2.0), fastgen.Gaussian("median")]
    >>> [found.p_value > 0.01 for found in fastgen.mmd(x, y, bandwidths, permutations=199)]
    [True, True]
    """
    with Session(
        "mmd", threads=threads, device=device, progress=progress, memory=memory
    ) as session:
        kernels, many = as_kernels("mmd", kernel)
        at_least = _least_rows(estimator)
        count = as_int("mmd", "permutations", permutations)
        if count < 0:
            fail("mmd", "permutations", "of at least 0", str(count))
        start = draws.as_seed("mmd", seed)
        rows, others = two_samples(session, "x", x, "y", y, at_least)

        @functools.cache
        def median() -> float:
            return median_distance(session, rows, others, start)

        require_memory(session, [rows, others], len(kernels), labels=count and count + 1)
        labels = draws.relabellings(rows.n, others.n, count, start) if count else None
        with_numbers = [one.resolved(rows.d, median) for one in kernels]
        results = []
        for sums in kernel_sums(session, rows, others, with_numbers, labels=labels):
            p_value = None
            if labels is not None:
                p_value = estimators.permutation_p_value(sums, labels, estimator)
            results.append(summarise(sums, estimator, p_value))
        return results if many else results[0]


def summarise(sums: KernelSums, estimator: str = "unbiased", p_value: float | None = None) -> MMD:
    """Reduce the sums of the full samples to the metric.

    Parameters
    ----------
    sums : KernelSums
        Of one kernel.
    estimator : {"unbiased", "biased"}, default "unbiased"
        Which estimate.
    p_value : float, optional
        Handed on.

    Returns
    -------
    MMD
        Estimate and standard error.
    """
    return MMD(
        value=float(estimators.ESTIMATORS[estimator](sums)[0]),
        standard_error=float(estimators.standard_error(sums)[0]),
        p_value=p_value,
        n=sums.xx.shape[1],
        m=sums.yy.shape[1],
    )


def _least_rows(estimator: object) -> int:
    if not isinstance(estimator, str) or estimator not in estimators.ESTIMATORS:
        names = " or ".join(f'"{name}"' for name in estimators.ESTIMATORS)
        fail("mmd", "estimator", f"to be {names}", repr(estimator))
    return 2 if estimator == "unbiased" else 1
