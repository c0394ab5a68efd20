"""Log-likelihood of held-out rows under a kernel density."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import overload

import numpy as np
import numpy.typing as npt

from fastgen import densities
from fastgen.progress import ProgressLike
from fastgen.results import LogLikelihood
from fastgen.session import Session

Floats = npt.NDArray[np.float64]


@overload
def heldout_log_likelihood(
    points: object,
    samples: object,
    bandwidth: float | str | None = None,
    *,
    covariance: object = None,
    weights: object = None,
    threads: int | None = None,
    device: object = None,
    progress: ProgressLike = False,
    memory: int | str | None = None,
) -> LogLikelihood: ...
@overload
def heldout_log_likelihood(
    points: object,
    samples: object,
    bandwidth: Sequence[float] | Floats,
    *,
    covariance: object = None,
    weights: object = None,
    threads: int | None = None,
    device: object = None,
    progress: ProgressLike = False,
    memory: int | str | None = None,
) -> list[LogLikelihood]: ...
def heldout_log_likelihood(
    points: object,
    samples: object,
    bandwidth: float | str | Sequence[float] | Floats | None = None,
    *,
    covariance: object = None,
    weights: object = None,
    threads: int | None = None,
    device: object = None,
    progress: ProgressLike = False,
    memory: int | str | None = None,
) -> LogLikelihood | list[LogLikelihood]:
    """Return how likely held-out rows are under the Gaussian-kernel density of samples.

    Parameters
    ----------
    points : array of shape (n, d)
        Held-out rows of the data, where the samples are a model's: float16, float32, float64 or
        integers, in CPU memory or on a GPU, or the path of a file.
    samples : array of shape (m, d)
        What the density is made of, as `points`.
    bandwidth : float, array of shape (b,), "scott" or "silverman", optional
        As for `fastgen.log_density`; an array costs one pass and gives a list, in the same order.
        Default: "scott".
    covariance : array of shape (d, d) or "sample", optional
        As for `fastgen.log_density`. Default: the identity.
    weights : array of shape (m,), optional
        Of the samples: at least 0 and not all 0; their scale does not matter. Default: equal ones.
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
    LogLikelihood or list of LogLikelihood
        Mean log-density in nats, its standard error over the points, and bits per dimension.

    Raises
    ------
    TypeError
        If an argument has the wrong type or dtype.
    ValueError
        If the sets are not matrices of finite numbers with the same number of columns, a bandwidth
        is not positive, the covariance is not symmetric positive definite, a weight is negative, or
        another option is out of bounds.
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
    With l_i the log-densities (`fastgen.log_density`), the mean, the standard error
    ``std(l) / sqrt(n)`` with divisor n - 1, and ``-mean / (d log 2)`` bits per dimension. The
    standard error is that of the choice of points; the samples and the bandwidth are taken as
    given.

    This is how models that can only be sampled are given a likelihood (Parzen window), with the
    bandwidth from cross-validation [1]_. In high dimension the estimate is far below the model's
    own log-likelihood for any number of samples that can be had, and it does not even rank models
    by it [2]_: use it for a few features, such as leading principal components.

    References
    ----------
    .. [1] I. Goodfellow et al., "Generative adversarial nets", NeurIPS 2014, section 5.
    .. [2] L. Theis, A. van den Oord and M. Bethge, "A note on the evaluation of generative models",
       ICLR 2016, arXiv 1511.01844.

    Examples
    --------
    >>> import numpy as np
    >>> import fastgen
    >>> samples = np.array([[-2.1], [-1.3], [-0.4], [1.9], [5.1], [6.2]])
    >>> found = fastgen.heldout_log_likelihood(np.array([[-0.5], [3.0]]), samples, bandwidth=1.5)
    >>> print(f"{found.mean:.6f} {found.standard_error:.6f} {found.bits_per_dim:.6f}")
    -2.471874 0.352803 3.566161
    """
    name = "heldout_log_likelihood"
    with Session(name, threads=threads, device=device, progress=progress, memory=memory) as session:
        found = densities.of_arrays(session, points, samples, bandwidth, covariance, weights)
    densities.warn_if_dominated(name, found.dominated, len(found.values))
    results = [summarise(column, found.d) for column in found.values.T]
    return results if found.several else results[0]


def summarise(values: Floats, d: int) -> LogLikelihood:
    """Reduce log-densities to the metric.

    Parameters
    ----------
    values : array of shape (n,), float64
        In nats.
    d : int
        Features.

    Returns
    -------
    LogLikelihood
        Mean, standard error and bits per dimension.
    """
    n, mean = len(values), densities.mean(values)
    error = math.nan
    if n > 1 and math.isfinite(mean):
        with np.errstate(over="ignore"):  # of values around -1e200
            error = float(values.std(ddof=1)) / math.sqrt(n)
    return LogLikelihood(mean, error, -mean / (d * math.log(2)))
