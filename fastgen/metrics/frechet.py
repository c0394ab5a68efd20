"""Frechet distance of two normal distributions, and FID: that of the ones fitted to two sets."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from fastgen import arrays, draws, gaussians, library_devices, library_rows, namespaces
from fastgen._errors import fail
from fastgen.factors import EPS, Covariance, as_covariance
from fastgen.fidelity import METHODS, Fidelity, by_products, fidelity
from fastgen.gaussians import Fitted, OnDevice, Places, Source
from fastgen.moments import Moments
from fastgen.progress import ProgressLike
from fastgen.results import Frechet, FrechetFit
from fastgen.session import Session

Floats = npt.NDArray[np.float64]

#: Nested subsets of the fake set that an extrapolation goes through, and the smallest of them.
SUBSETS, SMALLEST = 15, 5000

# Methods that a device is good at; the others are LAPACK's, on the CPU.
_OF_PRODUCTS = ("auto", "newton_schulz")

_FEWEST = 4  # rows that an extrapolation needs: three subsets


def frechet_distance(
    mean_1: object,
    covariance_1: object,
    mean_2: object,
    covariance_2: object,
    method: str = "auto",
) -> Frechet:
    """Compute the squared Frechet distance of two normal distributions.

    Parameters
    ----------
    mean_1, mean_2 : array of shape (d,)
        Means: float16, float32, float64 or integers, in CPU memory or on a GPU.
    covariance_1, covariance_2 : array of shape (d, d)
        Symmetric positive semi-definite to within 1e-6 of the variances, as a float32 computation
        leaves them; the mean with the transpose is taken, and eigenvalues below 0 count as 0.
        Singular ones are fine. Variances are 0 or from 1e-150 to 1e150.
    method : {"auto", "eigh", "newton_schulz", "eigvals"}, default "auto"
        How the square root is computed: by LAPACK's symmetric eigenvalues or, where these are not
        certain to 1e-9 of the traces, singular values; by matrix products on the device of the
        arrays, which may be a GPU; or from the eigenvalues of ``S_1 S_2``, as torch-fidelity and
        torchmetrics do, within rounding of their number and with no bound of its error. "auto" is
        "newton_schulz" for covariances on a GPU, of torch, CuPy or JAX with float64, and "eigh" for
        others. "eigh" and "eigvals" bring them to the CPU.

    Returns
    -------
    Frechet
        The value, at least 0 and finite; a bound of its error; its two terms; the method.

    Raises
    ------
    TypeError
        If an argument does not hold numbers, or one covariance alone is on a GPU.
    ValueError
        If shapes do not fit, a number is not finite, a matrix is not symmetric or not positive
        semi-definite, a variance is out of range, or the method is not known.
    MemoryError
        If there is not enough, on the GPU too.
    BackendUnavailableError
        If an array is on a device that neither its library nor torch or CuPy computes on.

    Notes
    -----
    ``|m_1 - m_2|^2 + tr S_1 + tr S_2 - 2 tr (S_1^(1/2) S_2 S_1^(1/2))^(1/2)`` [1]_. Where the
    distributions are close, that is a small difference of traces, so errors are relative to
    ``tr S_1 + tr S_2``: about 1e-15 where the covariances are well conditioned, at most
    5e-11 for condition numbers of 1e12, 2e-9 for 1e15, 2e-8 for 1e16, where the rounding of the
    covariances given counts as much, and 1e-15 for singular covariances whose other eigenvalues
    are not that small ("newton_schulz": at most 1e-10 up to 1e12, 1e-7 beyond). `error_bound` is
    larger, because it assumes that all rounding works in one direction: 1e-13 where both are well
    conditioned, some 1e-6 where they are singular. The last digits may depend on the LAPACK that
    SciPy comes with and on its threads.

    "newton_schulz" on a GPU needs matrix products of float64: for d = 2048 about 40 and three
    Cholesky factorisations for well-conditioned covariances, 160 and seven for singular ones, and
    9 d^2 numbers of memory.

    References
    ----------
    .. [1] Dowson and Landau, "The Frechet distance between multivariate normal distributions",
       Journal of Multivariate Analysis 12, 1982.
    .. [2] Heusel et al., "GANs trained by a two time-scale update rule converge to a local Nash
       equilibrium", NeurIPS 2017.

    Examples
    --------
    >>> import numpy as np
    >>> import fastgen
    >>> found = fastgen.frechet_distance([0, 0], np.diag([1, 9]), [3, 4], np.diag([4, 1]))
    >>> found.mean_term, round(found.covariance_term, 12), found.method
    (25.0, 5.0, 'eigh')
    """
    name = "frechet_distance"
    _check_method(name, method)
    first = _as_mean(name, "mean_1", mean_1)
    if first.ndim != 1 or not first.size:
        fail(name, "mean_1", "of shape (d,), d at least 1", f"shape {first.shape}")
    second = _as_mean(name, "mean_2", mean_2)
    if second.shape != first.shape:
        fail(name, "mean_2", f"of shape {first.shape} as `mean_1`", f"shape {second.shape}")
    for word, mean in (("mean_1", first), ("mean_2", second)):
        largest = mean[np.abs(mean).argmax()]
        if abs(largest) > arrays.LARGEST:
            fail(name, word, "within 2^500 in magnitude", str(largest))
    d = len(first)
    matrices = {"covariance_1": covariance_1, "covariance_2": covariance_2}
    on_device = [word for word, s in matrices.items() if namespaces.is_on_device(s)]
    for word in on_device:
        matrices[word] = namespaces.as_device_array(name, word, matrices[word])
    if method == "newton_schulz" or (method == "auto" and on_device):
        device = namespaces.device_of(matrices[on_device[0]]) if on_device else None
        with library_devices.context(device):
            traces, found = _by_polar(name, matrices, d)
        return _summarised(first - second, traces, found)
    for word in on_device:
        matrices[word] = namespaces.to_host(matrices[word])
    c_1, c_2 = (as_covariance(name, word, s, d) for word, s in matrices.items())
    found = by_products(c_1, c_2) if method == "eigvals" else fidelity(c_1, c_2)
    return _summarised(first - second, (c_1.trace, c_2.trace), found)


def fid(
    *,
    real: object,
    fake: object,
    method: str = "auto",
    extrapolate: bool = False,
    seed: int | None = None,
    threads: int | None = None,
    device: object = None,
    progress: ProgressLike = False,
    memory: int | str | None = None,
) -> Frechet:
    """Compute the Frechet distance of the normal distributions fitted to two sets of features.

    Parameters
    ----------
    real : array of shape (n, d), or Moments
        Reference features: float16, float32, float64 or integers, in CPU memory or on a GPU, or the
        path of a file. Or their statistics: a `fastgen.Moments`, or the path of a .npz file with
        "mu" and "sigma", as pytorch-fid and ``fastgen stats`` write it. Features of at least 2
        rows; fewer rows than features are fine.
    fake : array of shape (m, d), or Moments
        Generated features, as `real`.
    method : {"auto", "eigh", "newton_schulz", "eigvals"}, default "auto"
        See `fastgen.frechet_distance`.
    extrapolate : bool, default False
        Whether to extrapolate to infinitely many fake rows (FID-infinity): the distance is computed
        for 15 nested subsets of the fake rows, from min(5000, m / 10) to all m, and the line fitted
        to it against 1 / rows is read at 0. Needs features of at least 4 fake rows.
    seed : int, optional
        The subsets are the first rows in the order ``default_rng(seed).permutation(m)``. Default:
        0. Only used where `extrapolate` is True.
    threads : int, optional
        Number of threads that sum the moments. Default: ``FASTGEN_NUM_THREADS``, else the CPUs this
        process may use. LAPACK uses its own.
    device : str or device, optional
        Where to compute: "cpu"; "cuda" (the sets' own GPU, else the current one) or "cuda:1", in
        torch or CuPy. Default: on the GPU of the first set that is on one, in its library (torch,
        CuPy or JAX with float64), else on the CPU. What is elsewhere is brought there, larger sets
        in blocks.
    progress : bool or callable, default False
        True shows a bar (needs rich); a callable gets the fraction done.
    memory : int or str, optional
        Budget for memory beyond the inputs, in bytes or as "4GB". Default: no limit.

    Returns
    -------
    Frechet
        The value, at least 0; a bound of its error for the moments computed; its two terms; the
        method. With `extrapolate` a `FrechetFit`, which has the subsets' sizes and values too.

    Raises
    ------
    TypeError
        If an argument has the wrong type or dtype.
    ValueError
        If the sets are not matrices of finite numbers with the same number of columns and at least
        2 rows, statistics do not fit together, or another option is out of bounds.
    MemoryError
        If there is not enough, on the GPU too.
    BackendUnavailableError
        If no library at hand computes on the device.

    Notes
    -----
    Covariances have the divisor n - 1, as everywhere. Means and covariances are summed in float64
    whatever the dtype is, in memory of d^2 numbers. A set of at most d rows is its own factor: no
    covariance is formed, and nothing is lost to its being singular. That is where other libraries
    are off by 1e-5 of the value and more, and negative for equal sets.

    On a GPU the sums and the distance are made of matrix products in float64; the result has the
    same bits every time on one model of GPU, as far as the library computes equal products alike.

    FID falls with the number of rows, by a bias of about ``c / n`` that depends on the generator
    [2]_: compare at the same sizes, or extrapolate. The reference set is taken as it is. The value
    read at 0 is itself an estimate, of a few percent; it is 0 where the line falls below.

    References
    ----------
    .. [1] Heusel et al., "GANs trained by a two time-scale update rule converge to a local Nash
       equilibrium", NeurIPS 2017.
    .. [2] Chong and Forsyth, "Effectively unbiased FID and Inception Score and where to find them",
       CVPR 2020.

    Examples
    --------
    >>> import numpy as np
    >>> import fastgen
    >>> real = np.array([[0.0, 1.0], [2.0, 1.0]])
    >>> fake = np.array([[1.0, 0.0], [1.0, 4.0], [1.0, 2.0]])
    >>> found = fastgen.fid(real=real, fake=fake)
    >>> round(found.mean_term, 12), round(found.covariance_term, 12)
    (1.0, 6.0)
    """
    asked = library_devices.asked_for("fid", device)
    with Session("fid", threads=threads, progress=progress, memory=memory) as session:
        _check_method("fid", method)
        wanted: object = extrapolate
        if not isinstance(wanted, (bool, np.bool_)):
            got = f"{type(wanted).__name__} {wanted!r}"
            fail("fid", "extrapolate", "to be a bool", got, error=TypeError)
        number = draws.as_seed("fid", seed)
        sources, where = gaussians.as_sources("fid", real, fake, asked)
        gaussians.require_memory(session, *sources)
        session.progress.expect(sum(map(gaussians.work, sources)))
        places = Places(where, where if method in _OF_PRODUCTS else None)
        with library_devices.context(where):
            first = gaussians.fitted(session, "real", sources[0], places)
            if extrapolate:
                return _extrapolated(session, first, sources[1], method, number, places)
            second = gaussians.fitted(session, "fake", sources[1], places)
            return summarise(first, second, method)


def summarise(real: Fitted, fake: Fitted, method: str = "auto") -> Frechet:
    """Reduce two normal distributions to their distance.

    Parameters
    ----------
    real, fake : Fitted
        Of the same features, and to be computed with on the same device.
    method : str, default "auto"
        As of `frechet_distance`; on a device one of matrix products.

    Returns
    -------
    Frechet
        See `fid`.
    """
    one, other = real.covariance, fake.covariance
    if isinstance(one, OnDevice) or isinstance(other, OnDevice):
        assert isinstance(one, OnDevice)
        assert isinstance(other, OnDevice)
        from fastgen.polar_fidelity import fidelity_by_polar

        found, traces = fidelity_by_polar(one, other), (one.trace, other.trace)
    elif method == "newton_schulz":
        sides: dict[str, object] = {"real": one.matrix, "fake": other.matrix}
        traces, found = _by_polar("fid", sides, len(real.origin))
    elif method == "eigvals":
        first, second = (
            Covariance("fid", "real", one.matrix),
            Covariance("fid", "fake", other.matrix),
        )
        found, traces = by_products(first, second), (one.trace, other.trace)
    else:
        found, traces = fidelity(one, other), (one.trace, other.trace)
    return _summarised(real.apart(fake), traces, found)


def _as_mean(function: str, argument: str, value: Any) -> Floats:
    """Validate a mean and bring it to the host: it has few numbers."""
    if namespaces.is_on_device(value):
        value = namespaces.as_device_array(function, argument, value)
        with namespaces.device_of(value).context():
            value = namespaces.to_host(value)
    return arrays.as_numbers(function, argument, value)


def _summarised(apart: Floats, traces: tuple[float, float], found: Fidelity) -> Frechet:
    mean_term = math.fsum((apart * apart).tolist())
    covariance_term = max(0.0, math.fsum([*traces, -2 * found.value]))
    bound = 2 * found.error + 4 * EPS * (mean_term + math.fsum(traces))
    return Frechet(mean_term + covariance_term, bound, mean_term, covariance_term, found.method)


def _extrapolated(
    session: Session, real: Fitted, fake: Source, method: str, seed: int, places: Places
) -> FrechetFit:
    if isinstance(fake, Moments):
        condition = "to be features with `extrapolate`"
        fail("fid", "fake", condition, "statistics, which have no subsets", error=TypeError)
    m = len(fake)
    if m < _FEWEST:
        fail("fid", "fake", f"with at least {_FEWEST} rows with `extrapolate`", str(m))
    library_rows.check_values("fid", "fake", fake, session.threads)
    sizes = np.unique(np.linspace(min(SMALLEST, max(m // 10, 2)), m, SUBSETS).astype(int)).tolist()
    order = np.random.default_rng(seed).permutation(m)
    found = [
        summarise(real, one, method)
        for one in gaussians.nested(session, "fake", fake, order, sizes, places)
    ]
    # The value at 0 of the least-squares line against 1 / size is a weighted sum of the values.
    x = 1 / np.array(sizes)
    weights = 1 / len(x) - x.mean() * (x - x.mean()) / np.square(x - x.mean()).sum()

    def at_zero(numbers: list[float]) -> float:
        return math.fsum((weights * numbers).tolist())

    mean_term = max(0.0, at_zero([one.mean_term for one in found]))
    covariance_term = max(0.0, at_zero([one.covariance_term for one in found]))
    values = [one.value for one in found]
    rounding = 8 * EPS * math.fsum(np.abs(weights * values).tolist())
    return FrechetFit(
        mean_term + covariance_term,
        math.fsum((np.abs(weights) * [one.error_bound for one in found]).tolist()) + rounding,
        mean_term,
        covariance_term,
        found[-1].method,
        sizes=tuple(sizes),
        values=tuple(values),
    )


def _by_polar(
    function: str, arguments: dict[str, Any], d: int
) -> tuple[tuple[float, float], Fidelity]:
    """Return the traces and the fidelity of two covariances on whatever device they are."""
    # Most programs never get here, and importing it takes some milliseconds.
    from fastgen import polar_fidelity

    first, second = (
        polar_fidelity.as_device_covariance(function, argument, value, d)
        for argument, value in arguments.items()
    )
    polar_fidelity.check_same_device(first, second)
    return (first.trace, second.trace), polar_fidelity.fidelity_by_polar(first, second)


def _check_method(function: str, method: object) -> None:
    if not isinstance(method, str) or method not in METHODS:
        words = ", ".join(f'"{word}"' for word in METHODS[:-1])
        fail(function, "method", f'{words} or "{METHODS[-1]}"', repr(method))
