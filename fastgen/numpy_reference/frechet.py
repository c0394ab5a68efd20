"""Frechet distance of two normal distributions (FID), and a matrix square root.

For means m_1, m_2 and covariances S_1, S_2 ::

    value = |m_1 - m_2|^2 + tr S_1 + tr S_2 - 2 T,   T = tr (S_1^(1/2) S_2 S_1^(1/2))^(1/2)

where T is the sum of the singular values of ``F_1' F_2`` for any factors ``S = F F'``. So nothing
here is ever complex, and a value that rounding makes negative is 0.

From features (:func:`fid`) the factors are the centred rows over ``sqrt(n - 1)``, or the triangle
of their QR decomposition where there are more rows than features. No square of them is formed, and
the error relative to ``tr S_1 + tr S_2`` is about 1e-15 for any rank.

From covariances (:func:`frechet_distance`) they come from the eigenvalues of the correlation
matrix. What float64 knows of an eigenvalue is ``2^-52`` of the largest; its root, 1e-8. Eigenvalues
at most twice as large as the most negative one, or below ``2^-49`` of the largest, count as 0, so
that a singular matrix keeps its rank. Errors relative to ``tr S_1 + tr S_2`` are then about 1e-15
for eigenvalues that are 0 or large, 1e-12 if the smallest above 0 is 1e-8 of the largest, 1e-10 if
it is 1e-12. Below that what rounding did to the covariance itself decides: up to 1e-7.
`error_bound` holds for the numbers given, and assumes of ``eigh`` and ``svd`` no more than a
backward error of ``(d + 4) 2^-52`` of the norm. Variances have to be 0 or between 1e-150 and 1e150.

Cost: eigenvalues and singular values of d x d matrices, ``O(d^3)``; from features of min(n, d).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastgen.numpy_reference.arguments import Floats, as_finite, as_pair, as_rows
from fastgen.numpy_reference.moments import centred
from fastgen.numpy_reference.results import Frechet, MatrixSqrt

_EPS = 2.0**-52
_ASYMMETRY = 1e-6  # what a covariance computed in float32 may have of it, in units of its diagonal
_INDEFINITE = 1e-6  # and how far below 0 its eigenvalues may be, in units of the largest
_METHODS = ("auto", "newton_schulz", "eigh", "eigvals")


def frechet_distance(
    mean_1: npt.ArrayLike,
    covariance_1: npt.ArrayLike,
    mean_2: npt.ArrayLike,
    covariance_2: npt.ArrayLike,
    method: str = "auto",
) -> Frechet:
    """Return the squared Frechet distance of two normal distributions.

    Parameters
    ----------
    mean_1, mean_2 : arrays of shape (d,)
        Means.
    covariance_1, covariance_2 : arrays of shape (d, d)
        Symmetric positive semi-definite to within 1e-6 of the variances; the mean with the
        transpose is taken, and eigenvalues below 0 count as 0.
    method : "auto", "newton_schulz", "eigh" or "eigvals", default "auto"
        "eigvals" adds up the roots of the eigenvalues of ``S_1 S_2``, as torch-fidelity and
        torchmetrics do. The others name ways of the package to one number, which is the one that
        this module defines; "auto" is "eigh".

    Returns
    -------
    Frechet
        The value, at least 0, a bound of its error (NaN for "eigvals"), and its two terms.

    Raises
    ------
    ValueError
        If an argument is out of range, or a matrix is not symmetric, indefinite or not finite.

    References
    ----------
    .. [1] Dowson and Landau, "The Frechet distance between multivariate normal distributions",
       Journal of Multivariate Analysis 12, 1982.
    .. [2] Heusel et al., "GANs trained by a two time-scale update rule converge to a local Nash
       equilibrium", NeurIPS 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgen.numpy_reference.frechet import frechet_distance
    >>> found = frechet_distance([0, 0], np.diag([1, 9]), [3, 4], np.diag([4, 1]))
    >>> found.value, found.mean_term, found.covariance_term, found.method
    (30.0, 25.0, 5.0, 'eigh')
    """
    name = "frechet_distance"
    if method not in _METHODS:
        words = ", ".join(f'"{word}"' for word in _METHODS[:-1])
        raise ValueError(f'{name}: expected `method` {words} or "{_METHODS[-1]}", got {method!r}')
    first = as_finite(name, "mean_1", mean_1)
    if first.ndim != 1 or not first.size:
        raise ValueError(
            f"{name}: expected `mean_1` of shape (d,), d at least 1, got {first.shape}"
        )
    second = as_finite(name, "mean_2", mean_2)
    if second.shape != first.shape:
        raise ValueError(
            f"{name}: expected `mean_2` of shape {first.shape} as `mean_1`, got {second.shape}"
        )
    d = len(first)
    s_1 = _as_symmetric(name, "covariance_1", covariance_1, d)
    s_2 = _as_symmetric(name, "covariance_2", covariance_2, d)
    f_1, f_2 = _factor(name, "covariance_1", s_1), _factor(name, "covariance_2", s_2)

    traces = [math.fsum(s.diagonal().tolist()) for s in (s_1, s_2)]
    if method == "eigvals":
        products = np.linalg.eigvals(s_1 @ s_2).astype(np.complex128)
        joint, error = float(np.sqrt(products).real.sum()), math.nan
    else:
        joint = _nuclear_norm(f_1.root.T @ f_2.root)
        error = _joint_error(f_1, f_2, joint)
        error += 2 * d**1.5 * _EPS * math.sqrt(traces[0]) * math.sqrt(traces[1])
    return _result(first - second, traces, joint, error, "eigh" if method == "auto" else method)


def fid(*, real: npt.ArrayLike, fake: npt.ArrayLike) -> Frechet:
    """Return the squared Frechet distance of the normal distributions fitted to two sets of rows.

    Parameters
    ----------
    real : array of shape (n, d)
        Features, at least 2 rows. There may be fewer rows than features.
    fake : array of shape (m, d)
        Features, at least 2 rows.

    Returns
    -------
    Frechet
        With covariances of divisor n - 1, and the method "factors". Not more than rounding for
        equal sets.

    Raises
    ------
    ValueError
        If the inputs are no matrices, of different width, of one row or not finite.

    References
    ----------
    .. [1] Heusel et al., "GANs trained by a two time-scale update rule converge to a local Nash
       equilibrium", NeurIPS 2017.

    Examples
    --------
    >>> from fastgen.numpy_reference.frechet import fid
    >>> found = fid(real=[[0.0, 1.0], [2.0, 1.0]], fake=[[1.0, 0.0], [1.0, 4.0], [1.0, 2.0]])
    >>> print(f"{found.value:.12f} {found.mean_term:.12f} {found.covariance_term:.12f}")
    7.000000000000 1.000000000000 6.000000000000
    """
    name = "fid"
    pair = as_pair(name, "real", real, "fake", fake, at_least=2)
    origins: list[Floats] = []
    means: list[Floats] = []
    roots: list[Floats] = []
    for argument, rows in zip(("real", "fake"), pair, strict=True):
        origin, mean, deviations = centred(as_finite(name, argument, rows))
        n, d = deviations.shape
        root = np.asarray(np.linalg.qr(deviations, mode="r")) if n > d else deviations
        origins.append(origin)
        means.append(mean)  # less the origin
        roots.append(root / math.sqrt(n - 1))
    joint = _nuclear_norm(roots[0] @ roots[1].T)
    traces = [math.fsum(np.square(root).ravel().tolist()) for root in roots]
    between = origins[0] - origins[1]
    apart = between + (means[0] - means[1])
    sizes = [float(np.linalg.norm(part)) for part in (between, *means)]
    moved = 4 * _EPS * (math.fsum(sizes) + math.sqrt(math.fsum(traces)))
    error = 4 * (d + 10) * math.sqrt(min(len(root) for root in roots)) * _EPS
    error *= math.sqrt(traces[0]) * math.sqrt(traces[1])
    found = _result(apart, traces, joint, error, "factors")
    moved *= 2 * float(np.linalg.norm(apart)) + moved
    bound = found.error_bound + moved + (d + 10) * _EPS * math.fsum(traces)
    return Frechet(found.value, bound, found.mean_term, found.covariance_term, found.method)


def matrix_sqrt(a: npt.ArrayLike) -> MatrixSqrt:
    """Return the principal square root of a symmetric positive semi-definite matrix.

    Parameters
    ----------
    a : array of shape (d, d)
        Symmetric positive semi-definite to within 1e-6 of its largest entries; the mean with the
        transpose is taken, and eigenvalues below 0 count as 0.

    Returns
    -------
    MatrixSqrt
        The root X, symmetric, and the residual ``|X X - A| / |A|`` in Frobenius norms.

    Raises
    ------
    ValueError
        If `a` is no square matrix, or not symmetric, indefinite or not finite.

    References
    ----------
    .. [1] Higham, "Functions of matrices: theory and computation", 2008, chapter 6.

    Examples
    --------
    >>> from fastgen.numpy_reference.frechet import matrix_sqrt
    >>> matrix_sqrt([[5.0, 4.0], [4.0, 5.0]]).value.round(12)
    array([[2., 1.],
           [1., 2.]])
    """
    name = "matrix_sqrt"
    matrix = as_rows(name, "a", a)
    symmetric = _as_symmetric(name, "a", matrix, len(matrix))
    scale = float(np.abs(symmetric).max())
    if scale == 0:
        return MatrixSqrt(np.zeros_like(symmetric), 0.0)
    symmetric = symmetric / scale  # so that no square overflows or vanishes
    values, vectors = np.linalg.eigh(symmetric)
    if values[0] < -_INDEFINITE * values[-1]:
        raise _indefinite(name, "a", values[0] * scale)
    half = vectors * np.sqrt(np.sqrt(np.maximum(values, 0.0)))
    root = half @ half.T
    root = 0.5 * (root + root.T)
    residual = np.linalg.norm(root @ root - symmetric) / np.linalg.norm(symmetric)
    return MatrixSqrt(root * math.sqrt(scale), float(residual))


@dataclass(frozen=True)
class _Factor:
    """``S = D C D`` through eigenvalues of C, ascending: ``S = root root'`` but for rounding.

    The exact C is within `error` of the one that `values` and `vectors` make, in the 2-norm.
    """

    scale: Floats  # the diagonal of D
    values: Floats
    vectors: Floats
    root: Floats
    error: float


def _factor(function: str, argument: str, s: Floats) -> _Factor:
    variances = s.diagonal()
    deviations = np.sqrt(np.maximum(variances, 0.0))
    # In units of the deviations small features keep their digits. They have none where a variance
    # is itself the rounding of a difference; then only the largest entries count.
    for scale in (deviations, np.full(len(s), deviations.max())):
        units = np.where(scale > 0, scale, 1.0)
        correlation = s / units[:, np.newaxis] / units
        values, vectors = np.linalg.eigh(correlation)
        if np.abs(correlation).max() > 1 + _INDEFINITE or values[0] < -_INDEFINITE * values[-1]:
            continue
        noise = max(-values[0], 4 * _EPS * values[-1])
        kept = np.where(values > 2 * noise, values, 0.0)
        error = (len(s) + 4) * _EPS * values[-1] + np.abs(values - kept).max()
        root = units[:, np.newaxis] * (vectors * np.sqrt(kept))
        return _Factor(units, kept, vectors, root, float(error))
    raise _indefinite(function, argument, np.linalg.eigvalsh(s)[0])


def _joint_error(f_1: _Factor, f_2: _Factor, joint: float) -> float:
    """Bound what the errors of both factors make of T, whose computed value is `joint`."""
    later = _one_sided(f_2, f_1, 0.0, joint)
    return later + _one_sided(f_1, f_2, f_2.error, joint + later)


def _one_sided(f: _Factor, other: _Factor, other_error: float, joint: float) -> float:
    """Bound the change of T as C becomes the exact matrix, within e of it.

    With P the projection on the k smallest eigenvectors and t the next eigenvalue,
    ``e I <= (e / t) C + e P``. T rises with S, and ``tr (A + B)^(1/2) <= tr A^(1/2) + tr B^(1/2)``;
    so T changes by at most ``(1 - (1 - e / t)^(1/2)) T + (e k tr(P D S D P))^(1/2)`` for every t
    above e, where S is the other matrix.
    """
    vectors = f.scale[:, np.newaxis] * f.vectors
    traces = ((other.root.T @ vectors) ** 2).sum(axis=0)
    traces += other_error * ((other.scale[:, np.newaxis] * vectors) ** 2).sum(axis=0)
    k = np.arange(len(traces) + 1)
    below = np.sqrt(f.error * k * np.concatenate([[0.0], np.cumsum(traces)]))
    least = np.append(f.values, math.inf)
    usable = (least > f.error) | (f.error == 0)
    share = np.divide(f.error, least, out=np.zeros_like(least), where=usable & (least > 0))
    changes = share / (1 + np.sqrt(1 - share)) * joint + below
    return float(changes[usable].min())


def _result(apart: Floats, traces: list[float], joint: float, error: float, method: str) -> Frechet:
    mean_term = math.fsum((apart * apart).tolist())
    covariance_term = max(0.0, math.fsum([*traces, -2 * joint]))
    bound = 2 * error + 4 * _EPS * (mean_term + math.fsum(traces))
    return Frechet(mean_term + covariance_term, bound, mean_term, covariance_term, method)


def _nuclear_norm(a: Floats) -> float:
    return math.fsum(np.linalg.svd(a, compute_uv=False).tolist())


def _as_symmetric(function: str, argument: str, a: npt.ArrayLike, d: int) -> Floats:
    matrix = as_finite(function, argument, a)
    if matrix.shape != (d, d):
        raise ValueError(f"{function}: expected `{argument}` of shape {d, d}, got {matrix.shape}")
    scale = np.sqrt(np.abs(matrix.diagonal()))
    excess = np.abs(matrix - matrix.T) - _ASYMMETRY * np.outer(scale, scale)
    if excess.max() > 0:
        i, j = np.unravel_index(np.argmax(excess), excess.shape)
        raise ValueError(
            f"{function}: expected `{argument}` to be symmetric, "
            f"got {matrix[i, j]} and {matrix[j, i]} in rows {i} and {j}"
        )
    return 0.5 * matrix + 0.5 * matrix.T


def _indefinite(function: str, argument: str, least: float) -> ValueError:
    return ValueError(
        f"{function}: expected `{argument}` to be positive semi-definite, "
        f"got the eigenvalue {float(least)}"
    )
