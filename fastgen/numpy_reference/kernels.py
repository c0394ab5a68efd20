"""Kernels: what they are, their matrices, and sums of those over rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from fastgen.numpy_reference import distances
from fastgen.numpy_reference.arguments import Floats, as_pair, as_rows, as_seed

_MEDIAN_ROWS = 1000  # the median looks at half a million distances at most


class Kernel:
    """What all kernels share: ``k1 + k2`` is the sum of two of them.

    A kernel equals another class's object of the same name and fields, so that the kernels of the
    package and these compare equal.
    """

    def parts(self) -> tuple[Any, ...]:
        """Return the simple kernels that this one adds up.

        Returns
        -------
        tuple of Kernel
            A simple kernel is its own only part.
        """
        return (self,)

    def __add__(self, other: Any) -> KernelSum:
        return KernelSum((*self.parts(), *other.parts()))

    def __eq__(self, other: object) -> bool:
        return hasattr(other, "parts") and _description(self) == _description(other)

    def __hash__(self) -> int:
        return hash(_description(self))


@dataclass(frozen=True, eq=False)
class Polynomial(Kernel):
    """``(gamma x.y + coef0)^degree``; `gamma` None means one over the number of columns."""

    degree: int = 3
    gamma: float | None = None
    coef0: float = 1.0


@dataclass(frozen=True, eq=False)
class Gaussian(Kernel):
    """``exp(-|x - y|^2 / 2 b^2)`` with bandwidth b, a number or "median"."""

    bandwidth: float | str


@dataclass(frozen=True, eq=False)
class RationalQuadratic(Kernel):
    """``(1 + |x - y|^2 / 2 alpha l^2)^-alpha`` with length scale l, a number or "median"."""

    alpha: float = 1.0
    length_scale: float | str = 1.0


@dataclass(frozen=True, eq=False)
class Laplacian(Kernel):
    """``exp(-|x - y| / b)`` with the Euclidean distance and bandwidth b, a number or "median"."""

    bandwidth: float | str


@dataclass(frozen=True, eq=False)
class Energy(Kernel):
    """``-|x - y|``: MMD^2 is then the energy distance ``2 E|x-y| - E|x-x'| - E|y-y'|``."""


@dataclass(frozen=True, eq=False)
class KernelSum(Kernel):
    """The sum of several simple kernels."""

    terms: tuple[Any, ...]

    def parts(self) -> tuple[Any, ...]:
        """Return the simple kernels that this one adds up.

        Returns
        -------
        tuple of Kernel
            The terms of the sum, in order.
        """
        return self.terms


DEFAULT = Polynomial()
_KINDS = (Polynomial, Gaussian, RationalQuadratic, Laplacian, Energy)


def kernel_matrix(x: npt.ArrayLike, y: npt.ArrayLike, kernel: object = DEFAULT) -> Floats:
    """Return the kernel of every row of `x` with every row of `y`.

    Parameters
    ----------
    x : array of shape (n, d)
        Rows; float16, float32, float64 or integers. Converted to float64 first.
    y : array of shape (m, d)
        Rows, as `x`.
    kernel : kernel or sum of kernels, default Polynomial()
        One of this module or one of the package. "median" is that of `x` and `y` together.

    Returns
    -------
    array of shape (n, m), float64
        Kernels of a distance are within ``(d/32 + 10) 2^-52`` of the value times the exponent
        (or 1, if that is larger); polynomials within ``degree (d + 4) 2^-53 b^degree`` with
        ``b = gamma |x| |y| + coef0``.

    Raises
    ------
    ValueError
        If the inputs are no matrices, their widths differ, or the median distance is 0.
    TypeError
        If the kernel is not one of these.

    Examples
    --------
    >>> from fastgen import numpy_reference
    >>> numpy_reference.kernel_matrix([[1.0], [2.0]], [[3.0]], numpy_reference.Energy())
    array([[-2.],
           [-1.]])
    """
    rows, others = as_pair("kernel_matrix", "x", x, "y", y)
    return _matrix(rows, others, with_numbers("kernel_matrix", kernel, rows, others, 0), np.exp)


def centred_matrix(rows: Floats, others: Floats, parts: Sequence[Kernel]) -> Floats:
    """Return the kernel less a constant that makes it small where rows are close.

    The constant, the same for any two rows, changes neither MMD nor its variance. It is 1 for each
    part that is an exponential, whose ``k - 1`` has the digits that ``k`` near 1 loses.

    Parameters
    ----------
    rows : array of shape (n, d), float64
        Rows.
    others : array of shape (m, d), float64
        Rows.
    parts : sequence of Kernel
        From :func:`with_numbers`.

    Returns
    -------
    array of shape (n, m), float64
        Kernel values less the number of Gaussian, rational quadratic and Laplacian parts.
    """
    return _matrix(rows, others, parts, np.expm1)


def kernel_sums(
    x: npt.ArrayLike, y: npt.ArrayLike | None = None, kernel: object = DEFAULT
) -> Floats:
    """Return, for every row of `x`, the sum of its kernels with all rows of `y`.

    Parameters
    ----------
    x : array of shape (n, d)
        Rows that each get a sum.
    y : array of shape (m, d), optional
        Rows that are summed over. By default the other rows of `x`: a row is left out by its
        index, an equal row elsewhere counts.
    kernel : kernel or sum of kernels, default Polynomial()
        As for :func:`kernel_matrix`.

    Returns
    -------
    array of shape (n,), float64
        Sums of what :func:`kernel_matrix` gives, rounded once.

    Raises
    ------
    ValueError
        If the inputs are no matrices, their widths differ, or the median distance is 0.
    TypeError
        If the kernel is not one of these.

    Examples
    --------
    >>> from fastgen import numpy_reference
    >>> numpy_reference.kernel_sums([[0.0], [1.0], [3.0]], kernel=numpy_reference.Energy())
    array([-4., -3., -5.])
    """
    rows = np.asarray(as_rows("kernel_sums", "x", x), dtype=np.float64)
    others = rows if y is None else as_pair("kernel_sums", "x", x, "y", y)[1]
    parts = with_numbers("kernel_sums", kernel, rows, rows[:0] if y is None else others, 0)
    matrix = _matrix(rows, others, parts, np.exp)
    if y is None:
        np.fill_diagonal(matrix, 0.0)
    return np.array([math.fsum(row) for row in matrix.tolist()])


def median_distance(x: npt.ArrayLike, y: npt.ArrayLike, seed: int | None = None) -> float:
    """Return the median distance between the rows of both sets together.

    Parameters
    ----------
    x : array of shape (n, d)
        Rows.
    y : array of shape (m, d)
        Rows, which follow those of `x`.
    seed : int, optional
        Chooses 1000 of the n + m rows where there are more: those of
        ``default_rng(seed).choice(n + m, 1000, replace=False)``. Default: 0.

    Returns
    -------
    float
        Median over all pairs of two of these rows, by index.

    Raises
    ------
    ValueError
        If the median is 0, or the inputs are no matrices of the same width.

    Examples
    --------
    >>> from fastgen import numpy_reference
    >>> numpy_reference.median_distance([[0.0], [1.0]], [[4.0]])
    3.0
    """
    rows, others = as_pair("median_distance", "x", x, "y", y)
    return _median("median_distance", np.concatenate([rows, others]), seed)


def with_numbers(
    function: str, kernel: object, rows: Floats, others: Floats, seed: int | None
) -> list[Kernel]:
    """Return the parts of a kernel as classes of this module, with every number filled in.

    Parameters
    ----------
    function : str
        Who asks.
    kernel : kernel or sum of kernels
        Of this module, or any object with the same class name and fields.
    rows : array of shape (n, d), float64
        Rows.
    others : array of shape (m, d), float64
        Rows, which may be none.
    seed : int, optional
        For the median.

    Returns
    -------
    list of Kernel
        `gamma`, `bandwidth` and `length_scale` are numbers.

    Raises
    ------
    TypeError
        If the kernel is not known.
    ValueError
        If a median is asked for and it is 0.
    """
    parts: list[Kernel] = []
    for part in kernel.parts() if hasattr(kernel, "parts") else (kernel,):
        kind: Any = {kind.__name__: kind for kind in _KINDS}.get(type(part).__name__)
        if kind is None:
            raise TypeError(f"{function}: expected `kernel` to be a kernel, got {part!r}")
        values = {field.name: getattr(part, field.name) for field in fields(kind)}
        for name, value in values.items():
            if isinstance(value, str):  # "median" is the only word there is
                values[name] = _median(function, np.concatenate([rows, others]), seed)
        if kind is Polynomial and values["gamma"] is None:
            values["gamma"] = 1.0 / rows.shape[1]
        parts.append(kind(**values))
    return parts


def _matrix(
    rows: Floats, others: Floats, parts: Sequence[Any], exponential: Callable[[Floats], Floats]
) -> Floats:
    """Add up the matrices of the parts; `exponential` is exp for k, expm1 for k - 1."""
    total = np.zeros((len(rows), len(others)))
    sq: Floats | None = None
    for part in parts:
        if isinstance(part, Polynomial):
            # A contiguous transpose, or NumPy would use another routine where the sets are one.
            products = rows @ np.ascontiguousarray(others.T)
            assert part.gamma is not None
            total += (part.gamma * products + part.coef0) ** part.degree
            continue
        # Looked up in its module, where tests may make it remember.
        sq = distances.sq_distances(rows, others) if sq is None else sq
        if isinstance(part, Energy):
            total -= np.sqrt(sq)
        else:
            with np.errstate(over="ignore"):  # infinitely many bandwidths away is 0
                total += exponential(_exponent(part, sq))
    return total


def _exponent(part: Any, sq: Floats) -> Floats:
    """Return the logarithm of the kernel."""
    # Divided twice, since the square of a length might overflow.
    if isinstance(part, Gaussian):
        b = float(part.bandwidth)
        return -0.5 * (sq / b / b)
    if isinstance(part, Laplacian):
        return -np.sqrt(sq) / float(part.bandwidth)
    assert isinstance(part, RationalQuadratic)
    b = float(part.length_scale)
    return -part.alpha * np.log1p(sq / (2 * part.alpha) / b / b)


def _median(function: str, pooled: Floats, seed: int | None) -> float:
    if len(pooled) > _MEDIAN_ROWS:
        rng = np.random.default_rng(as_seed(seed))
        pooled = pooled[np.sort(rng.choice(len(pooled), _MEDIAN_ROWS, replace=False))]
    sq = distances.sq_distances(pooled, pooled)
    pairs = np.sqrt(sq[np.triu_indices(len(pooled), 1)])
    median = float(np.median(pairs)) if len(pairs) else 0.0
    if not median > 0:
        raise ValueError(f"{function}: expected a median distance above 0, got {median}")
    return median


def _description(kernel: Any) -> tuple[Any, ...]:
    """Return what two equal kernels have in common."""
    return tuple(
        (type(part).__name__, *((field.name, getattr(part, field.name)) for field in fields(part)))
        for part in kernel.parts()
    )
