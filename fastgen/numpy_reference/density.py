"""Gaussian-kernel density: log-density, its bandwidth by cross-validation, log-likelihood.

The density at x of samples y_1 .. y_n with weights w_j that add up to 1, bandwidth h and
covariance S (the identity unless given) is ::

    p(x) = sum_j w_j exp(-q(x - y_j) / 2 h^2) / ((2 pi)^(d/2) h^d det(S)^(1/2)),   q(t) = t' S^-1 t

and ``log p(x)`` is taken without ever forming p: exponents are counted from that of the nearest
sample, whose own term is then 1, so a point may be any number of bandwidths away.

It estimates a distribution well in few dimensions: the squared error under the best bandwidth falls
like ``n^(-4/(d+4))``. In hundreds of dimensions one sample decides nearly every value, and what
compares two models there is the bandwidth more than the models.

Error of a log-density, with E the exponent ``q / 2 h^2`` of the nearest sample: at most
``2^-52 ((d/32 + 8) (E + log n) + 2 d (|log h| + 1) + 20)`` without a covariance (with weights, n is
the sum of all over the nearest sample's). With one, whitening adds about ``2^-52 d c (d + E + N)``,
c the condition number of the correlation matrix that belongs to S, N the larger exponent of the
two rows' distances from the samples' mean. Differences of features have to be 0 or between
1e-150 and 1e150, and weights within a factor of 1e290 of the largest.

Cost: 1.5 ns per pair and feature, and about 10 ns per pair and bandwidth; memory O(n + m) and
blocks of 4 million pairs.
"""

from __future__ import annotations

import math
import operator

import numpy as np
import numpy.typing as npt

from fastgen.numpy_reference import distances
from fastgen.numpy_reference.arguments import Floats, as_finite, as_pair, as_rows, as_seed
from fastgen.numpy_reference.results import BandwidthSelection, LogLikelihood

_ASYMMETRY = 1e-6  # what a covariance computed in float32 may have of it, in units of its diagonal


def log_density(
    points: npt.ArrayLike | None,
    samples: npt.ArrayLike,
    bandwidth: float | str | npt.ArrayLike | None = None,
    *,
    covariance: npt.ArrayLike | str | None = None,
    weights: npt.ArrayLike | None = None,
    leave_one_out: bool = False,
) -> Floats:
    """Return the logarithm of the Gaussian-kernel density of `samples` at each of the `points`.

    Parameters
    ----------
    points : array of shape (n, d), or None
        Where the density is asked for. With `leave_one_out` the samples: the same object or None.
    samples : array of shape (m, d)
        What the density is made of.
    bandwidth : float, array of shape (b,), "scott" or "silverman", optional
        Standard deviation of the kernel in every direction; with a covariance, the factor of its
        root. "scott" is ``e^(-1/(d+4))`` and "silverman" ``(e (d+2)/4)^(-1/(d+4))``, where e is m
        or, with weights, ``sum(w)^2 / sum(w^2)``. Default: "scott".
    covariance : array of shape (d, d) or "sample", optional
        The kernel's covariance is ``bandwidth^2`` times this one, which is symmetric positive
        definite. "sample" is the samples' own (divisor m - 1; with normalised weights
        ``1 - sum(w^2)``). Default: the identity.
    weights : array of shape (m,), optional
        At least 0 and not all 0; their scale does not matter. Default: equal ones.
    leave_one_out : bool, default False
        Leave each row out of its own density, and give the other rows all the weight. Bandwidth
        and covariance are still those of all samples.

    Returns
    -------
    array of shape (n,) or (n, b), float64
        Log-densities in nats; the top of this module has their error.

    Raises
    ------
    ValueError
        If an argument is out of range, the inputs are no matrices, or their widths differ.

    References
    ----------
    .. [1] Parzen, "On estimation of a probability density function and mode", Annals of
       Mathematical Statistics 33, 1962.
    .. [2] Scott, "Multivariate density estimation", 2nd edition, 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgen import numpy_reference
    >>> samples = np.array([[-2.1], [-1.3], [-0.4], [1.9], [5.1], [6.2]])
    >>> log_p = numpy_reference.log_density([[-0.5]], samples, bandwidth=1.5)
    >>> [f"{value:.12f}" for value in (*log_p, *np.exp(log_p))]
    ['-2.119071537834', '0.120143125089']
    """
    return _log_density(
        "log_density", points, samples, bandwidth, covariance, weights, leave_one_out
    )


def select_bandwidth(
    samples: npt.ArrayLike,
    candidates: npt.ArrayLike | None = None,
    folds: int | None = None,
    seed: int | None = 0,
) -> BandwidthSelection:
    """Return the bandwidth under which rows that are left out are likeliest.

    Parameters
    ----------
    samples : array of shape (n, d)
        Rows, at least 2.
    candidates : array of shape (c,), optional
        Bandwidths to choose from. Default: ``s 2^(i/2)`` for i = -16 .. 8, where s is Scott's
        factor ``n^(-1/(d+4))`` times the root of the features' mean variance (divisor n - 1).
    folds : int, optional
        Number of folds, 2 to n: row ``default_rng(seed).permutation(n)[p]`` is in fold
        ``p mod folds``, and its density is that of the rows in other folds. Default: leave one out.
    seed : int, default 0
        For the folds.

    Returns
    -------
    BandwidthSelection
        The winner (the first of equals), the candidates and their mean log-densities.

    Raises
    ------
    ValueError
        If an argument is out of range, or all rows are equal and no candidates are given.

    References
    ----------
    .. [1] Habbema, Hermans and van den Broek, "A stepwise discriminant analysis program using
       density estimation", Compstat 1974.

    Examples
    --------
    >>> from fastgen import numpy_reference
    >>> samples = [[-2.1], [-1.3], [-0.4], [1.9], [5.1], [6.2]]
    >>> numpy_reference.select_bandwidth(samples, candidates=[0.5, 1.0, 2.0, 4.0]).bandwidth
    2.0
    """
    name = "select_bandwidth"
    rows = as_finite(name, "samples", as_rows(name, "samples", samples))
    n, d = rows.shape
    if n < 2:
        raise ValueError(f"{name}: expected `samples` with at least 2 rows, got {n}")
    if candidates is None:
        if np.all(rows == rows[0]):
            raise ValueError(f"{name}: expected `samples` that differ, or `candidates`")
        spread = math.sqrt(np.mean(np.var(rows, axis=0, ddof=1)))
        widths = _scott(n, d) * spread * 2.0 ** (np.arange(-16, 9) / 2)
    else:
        widths = _positive(name, "candidates", np.asarray(candidates, dtype=np.float64))
    if widths.ndim != 1:
        raise ValueError(f"{name}: expected `candidates` of shape (c,), got {widths.shape}")

    if folds is None:
        values = _log_density(name, None, rows, widths, leave_one_out=True)
    else:
        count = operator.index(folds)
        if not 2 <= count <= n:
            raise ValueError(f"{name}: expected `folds` in [2, {n}], got {count}")
        order = np.random.default_rng(as_seed(seed)).permutation(n)
        values = np.empty((n, len(widths)))
        for fold in range(count):
            held = order[fold::count]
            values[held] = _log_density(name, rows[held], np.delete(rows, held, axis=0), widths)
    scores = np.array([_mean(column) for column in values.T])
    return BandwidthSelection(float(widths[np.argmax(scores)]), widths, scores)


def heldout_log_likelihood(
    points: npt.ArrayLike,
    samples: npt.ArrayLike,
    bandwidth: float | str | npt.ArrayLike | None = None,
    *,
    covariance: npt.ArrayLike | str | None = None,
    weights: npt.ArrayLike | None = None,
) -> LogLikelihood | list[LogLikelihood]:
    """Return how likely held-out rows are under the Gaussian-kernel density of samples.

    Parameters
    ----------
    points : array of shape (n, d)
        Held-out rows: those of the data, where the samples are a model's.
    samples : array of shape (m, d)
        What the density is made of.
    bandwidth : float, array of shape (b,), "scott" or "silverman", optional
        As for :func:`log_density`; an array gives a list, in the same order. Default: "scott".
    covariance : array of shape (d, d) or "sample", optional
        As for :func:`log_density`. Default: the identity.
    weights : array of shape (m,), optional
        As for :func:`log_density`. Default: equal ones.

    Returns
    -------
    LogLikelihood or list of LogLikelihood
        Mean log-density in nats, the standard error of that mean, and minus the mean over
        ``d log 2``.

    Raises
    ------
    ValueError
        If an argument is out of range, the inputs are no matrices, or their widths differ.

    References
    ----------
    .. [1] Goodfellow et al., "Generative adversarial nets", NeurIPS 2014, section 5.
    .. [2] "A note on the evaluation of generative models", ICLR 2016, arXiv 1511.01844, on why it
       says little in high dimension.

    Examples
    --------
    >>> from fastgen import numpy_reference
    >>> samples = [[-2.1], [-1.3], [-0.4], [1.9], [5.1], [6.2]]
    >>> found = numpy_reference.heldout_log_likelihood([[-0.5], [3.0]], samples, 1.5)
    >>> print(f"{found.mean:.6f} {found.standard_error:.6f} {found.bits_per_dim:.6f}")
    -2.471874 0.352803 3.566161
    """
    values = _log_density("heldout_log_likelihood", points, samples, bandwidth, covariance, weights)
    d = np.asarray(samples).shape[1]
    found = [_log_likelihood(column, d) for column in np.atleast_2d(values.T)]
    return found[0] if values.ndim == 1 else found


def _log_density(
    name: str,
    points: npt.ArrayLike | None,
    samples: npt.ArrayLike,
    bandwidth: float | str | npt.ArrayLike | None,
    covariance: npt.ArrayLike | str | None = None,
    weights: npt.ArrayLike | None = None,
    leave_one_out: bool = False,
) -> Floats:
    if leave_one_out and not (points is None or points is samples):
        raise ValueError(
            f"{name}: expected `points` to be `samples` or None with `leave_one_out`, "
            "got another array"
        )
    others = as_finite(name, "samples", as_rows(name, "samples", samples))
    rows = others
    if not leave_one_out:
        given = as_rows(name, "points", np.asarray(points))
        rows = as_finite(name, "points", as_pair(name, "samples", others, "points", given)[1])
    relative = _as_weights(name, weights, len(others), leave_one_out)
    d = others.shape[1]
    widths, several = _as_bandwidths(name, bandwidth, d, _effective_size(relative))

    log_volume = 0.5 * d * math.log(2 * math.pi)
    if covariance is not None:
        root = _root(name, _as_covariance(name, covariance, others, relative))
        log_volume += math.fsum(np.log(root.diagonal()).tolist())
        centre = others.mean(axis=0)  # what is lost to rounding grows with the distance from it
        white = _whiten(root, others - centre)
        rows = white if rows is others else _whiten(root, rows - centre)
        others = white

    result = _log_means(rows, others, widths, relative, leave_one_out)
    result -= d * np.log(widths) + log_volume
    return result if several else result[:, 0]


def _log_likelihood(values: Floats, d: int) -> LogLikelihood:
    n = len(values)
    mean = _mean(values)
    error = math.nan
    if n > 1 and math.isfinite(mean):
        error = float(np.std(values, ddof=1)) / math.sqrt(n)
    return LogLikelihood(mean, error, -mean / (d * math.log(2)))


def _mean(values: Floats) -> float:
    scaled = np.ldexp(values, -40)  # a sum of log-densities may overflow where their mean does not
    return math.ldexp(math.fsum(scaled.tolist()) / len(values), 40)


def _log_means(
    rows: Floats, others: Floats, widths: Floats, weights: Floats, leave_one_out: bool
) -> Floats:
    """Return (n, b) logarithms of the weighted means of ``exp(-|x - y|^2 / 2 h^2)``."""
    result = np.empty((len(rows), len(widths)))
    weightless = weights == 0
    for first, sq in distances.blocks(rows, others, leave_out_self=leave_one_out):
        sq[:, weightless] = np.inf  # or the nearest of them might be that of the row
        nearest = sq.min(axis=1)
        beyond = sq - nearest[:, np.newaxis]
        for column, h in enumerate(widths.tolist()):
            # Divided twice, since the square of a bandwidth might overflow. Only what is infinitely
            # many bandwidths away overflows here.
            with np.errstate(over="ignore"):
                terms = weights * np.exp(-0.5 * (beyond / h / h))
                exponents = -0.5 * (nearest / h / h)
            block = slice(first, first + len(sq))
            result[block, column] = exponents + np.log(terms.sum(axis=1))
    totals: float | Floats = math.fsum(weights.tolist())
    if leave_one_out:
        totals = totals - weights
        heaviest = int(np.argmax(weights))  # the one row for which this cancels
        totals[heaviest] = math.fsum(np.delete(weights, heaviest).tolist())
    result -= np.log(np.broadcast_to(totals, len(rows)))[:, np.newaxis]
    return result


def _scott(size: float, d: int) -> float:
    return math.pow(size, -1 / (d + 4))


def _effective_size(weights: Floats) -> float:
    total = math.fsum(weights.tolist())
    return total * (total / math.fsum((weights * weights).tolist()))


def _as_bandwidths(
    function: str, bandwidth: float | str | npt.ArrayLike | None, d: int, size: float
) -> tuple[Floats, bool]:
    """Return the bandwidths, and whether several were asked for."""
    if bandwidth is None or isinstance(bandwidth, str):
        sizes = {None: size, "scott": size, "silverman": size * (d + 2) / 4}
        if bandwidth not in sizes:
            raise ValueError(
                f'{function}: expected `bandwidth` "scott", "silverman" or numbers, '
                f"got {bandwidth!r}"
            )
        return np.array([_scott(sizes[bandwidth], d)]), False
    values = np.asarray(bandwidth, dtype=np.float64)
    if values.ndim > 1:
        raise ValueError(f"{function}: expected `bandwidth` of shape (b,), got {values.shape}")
    return np.atleast_1d(_positive(function, "bandwidth", values)), values.ndim == 1


def _as_weights(
    function: str, weights: npt.ArrayLike | None, n: int, leave_one_out: bool
) -> Floats:
    """Return one weight per sample, the largest of them 1."""
    values = as_finite(function, "weights", np.ones(n) if weights is None else weights)
    if values.shape != (n,):
        raise ValueError(f"{function}: expected `weights` of shape {(n,)}, got {values.shape}")
    if values.min() < 0 or values.max() == 0:
        raise ValueError(
            f"{function}: expected `weights` of at least 0 and not all 0, "
            f"got {values.min()} to {values.max()}"
        )
    values = values / float(values.max())
    if leave_one_out and np.count_nonzero(values) < 2:
        what = "`samples` with at least 2 rows" if n < 2 else "`weights` with at least 2 above 0"
        raise ValueError(f"{function}: expected {what} with `leave_one_out`, got 1")
    return values


def _as_covariance(
    function: str, covariance: npt.ArrayLike | str, samples: Floats, weights: Floats
) -> Floats:
    """Return a symmetric matrix."""
    d = samples.shape[1]
    if isinstance(covariance, str):
        if covariance != "sample":
            raise ValueError(
                f'{function}: expected `covariance` "sample" or a matrix, got {covariance!r}'
            )
        count = np.count_nonzero(weights)
        if count <= d:
            raise ValueError(
                f'{function}: expected `samples` with more than {d} rows for `covariance="sample"`'
                f", got {count}"
            )
        own = np.cov(samples, rowvar=False, aweights=weights)
        return np.asarray(own, dtype=np.float64).reshape(d, d)
    matrix = as_finite(function, "covariance", covariance)
    if matrix.shape != (d, d):
        raise ValueError(f"{function}: expected `covariance` of shape {d, d}, got {matrix.shape}")
    scale = np.sqrt(np.abs(matrix.diagonal()))
    if np.any(np.abs(matrix - matrix.T) > _ASYMMETRY * np.outer(scale, scale)):
        raise ValueError(f"{function}: expected `covariance` to be symmetric")
    return 0.5 * matrix + 0.5 * matrix.T


def _root(function: str, covariance: Floats) -> Floats:
    """Return the Cholesky factor of a matrix that is positive definite beyond rounding."""
    # What elimination leaves of a variance is rounding alone below this share of it.
    least = len(covariance) * 2.0**-52 * covariance.diagonal()
    try:
        root = np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)
        if np.all(root.diagonal() ** 2 > least):
            return root
    except np.linalg.LinAlgError:
        pass  # some variance was left at 0 or below
    raise ValueError(f"{function}: expected `covariance` to be positive definite in float64")


def _whiten(root: Floats, rows: Floats) -> Floats:
    """Solve ``root @ z = x`` for every row x by forward substitution."""
    white = np.empty(rows.shape[::-1])
    for i, x in enumerate(rows.T):
        white[i] = (x - root[i, :i] @ white[:i]) / root[i, i]
    return white.T


def _positive(function: str, argument: str, values: Floats) -> Floats:
    if not values.size:
        raise ValueError(f"{function}: expected `{argument}` with at least one value, got none")
    values = as_finite(function, argument, values)
    if values.min() <= 0:
        raise ValueError(f"{function}: expected `{argument}` above 0, got {values.min()}")
    return values
