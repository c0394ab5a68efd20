"""Gaussian-kernel density."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastgen import densities
from fastgen.progress import ProgressLike
from fastgen.session import Session

Floats = npt.NDArray[np.float64]


def log_density(
    points: object,
    samples: object,
    bandwidth: float | str | npt.ArrayLike | None = None,
    *,
    covariance: object = None,
    weights: object = None,
    leave_one_out: bool = False,
    threads: int | None = None,
    device: object = None,
    progress: ProgressLike = False,
    memory: int | str | None = None,
) -> Floats:
    """Return the logarithm of the Gaussian-kernel density of samples at each of the points.

    Parameters
    ----------
    points : array of shape (n, d), or None
        Where the density is asked for: float16, float32, float64 or integers, in CPU memory or on a
        GPU, or the path of a file. With `leave_one_out` the samples themselves: the same object, or
        None.
    samples : array of shape (m, d)
        What the density is made of, as `points`.
    bandwidth : float, array of shape (b,), "scott" or "silverman", optional
        Standard deviation of the kernel in every direction, in units of the features; with
        `covariance`, the factor of its root. Several are answered in one pass. "scott" is
        ``e^(-1/(d+4))`` and "silverman" ``(e (d+2)/4)^(-1/(d+4))``, where e is m or, with weights,
        ``sum(w)^2 / sum(w^2)``; neither looks at the spread of the samples. Default: "scott".
    covariance : array of shape (d, d) or "sample", optional
        The kernel's covariance is ``bandwidth^2`` times this one, which is symmetric positive
        definite. "sample" is the samples' own (divisor m - 1; with weights that add up to 1,
        ``1 - sum(w^2)``), with which "scott" is ``scipy.stats.gaussian_kde``. Default: the
        identity, with which the rules are those of ``sklearn.neighbors.KernelDensity``.
    weights : array of shape (m,), optional
        Of the samples: at least 0 and not all 0; their scale does not matter. Default: equal ones.
    leave_one_out : bool, default False
        Leave each row out of its own density, and give the other rows all the weight. Bandwidth
        and covariance are still those of all samples.
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
    array of shape (n,) or (n, b), float64
        Log-densities in nats; of shape (n, b) if `bandwidth` is an array. A NumPy array, or where
        an array is on a GPU one of its library, on the same GPU (of JAX only with
        ``jax_enable_x64``).

    Raises
    ------
    TypeError
        If an argument has the wrong type or dtype.
    ValueError
        If the sets are not matrices of finite numbers with the same number of columns, a bandwidth
        is not positive, the covariance is not symmetric positive definite, a weight is negative,
        `leave_one_out` comes with other points or leaves no sample, or another option is out of
        bounds.
    BackendUnavailableError
        If a GPU is asked for, or has an array, that cannot be used.
    MemoryError
        If a GPU has not enough free memory.

    Warns
    -----
    DensityWarning
        If at more than half of the points one sample has more than half of the density.

    Notes
    -----
    The density is that of Parzen [1]_ with a Gaussian kernel, exactly normalised: for weights w_j
    that add up to 1, bandwidth h and covariance S (the identity unless given) ::

        p(x) = sum_j w_j exp(-q(x - y_j) / 2 h^2) / ((2 pi)^(d/2) h^d det(S)^(1/2))
        q(t) = t' S^-1 t

    Its logarithm is taken without forming p, by counting exponents from that of the nearest sample.
    So a point may be any number of bandwidths away: the result is -inf only where the true value
    is below the range of float64. With E the exponent ``q / 2 h^2`` of the nearest sample, the
    error is at most ``1e-5 + 2^-44 E`` nats for float16 and float32 rows and ``1e-10 + 2^-44 E``
    for float64; points and samples of different dtypes are taken in the wider one. With a
    covariance both sets are whitened in float64, which adds rounding in proportion to its condition
    number; on a GPU the host whitens, and reads the samples for their covariance.

    A model that has samples but no likelihood gets one this way. It describes a distribution well
    in few dimensions only: under the best bandwidth the squared error falls like ``n^(-4/(d+4))``
    [2]_. In hundreds of dimensions one sample decides nearly every value, and a model may do better
    than the data themselves [3]_; hence the warning. Choose the bandwidth by
    `fastgen.select_bandwidth`.

    References
    ----------
    .. [1] E. Parzen, "On estimation of a probability density function and mode", Annals of
       Mathematical Statistics 33, 1962.
    .. [2] D. W. Scott, "Multivariate density estimation", 2nd edition, 2015, chapter 6.
    .. [3] L. Theis, A. van den Oord and M. Bethge, "A note on the evaluation of generative models",
       ICLR 2016, arXiv 1511.01844.

    Examples
    --------
    >>> import numpy as np
    >>> import fastgen
    >>> samples = np.array([[-2.1], [-1.3], [-0.4], [1.9], [5.1], [6.2]])
    >>> log_p = fastgen.log_density(np.array([[-0.5]]), samples, bandwidth=1.5)
    >>> [round(value, 9) for value in (*log_p.tolist(), *np.exp(log_p).tolist())]
    [-2.119071538, 0.120143125]
    """
    with Session(
        "log_density", threads=threads, device=device, progress=progress, memory=memory
    ) as session:
        found = densities.of_arrays(
            session, points, samples, bandwidth, covariance, weights, leave_one_out
        )
    densities.warn_if_dominated("log_density", found.dominated, len(found.values))
    values: Floats = session.results(found.values if found.several else found.values[:, 0])
    return values
