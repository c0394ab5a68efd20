"""Kernels: what "alike" means for two rows. Plain descriptions; the engine does the arithmetic.

``k1 + k2`` is the sum of two kernels, for example of several bandwidths; it is a kernel itself and
costs one pass like any other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from numbers import Real
from typing import Any, ClassVar, Self

from fastgen._errors import fail
from fastgen.plan import as_int

#: The largest degree of a polynomial.
LARGEST_DEGREE = 32

#: Word for a bandwidth that is taken from the data.
MEDIAN = "median"

# Lengths whose squares, and the inverses of these, are ordinary float64 numbers.
_SHORTEST, _LONGEST = 2.0**-500, 2.0**500


class Kernel(ABC):
    """Base of all kernels; they are values: hashable, and equal if their numbers are."""

    def __add__(self, other: object) -> KernelSum:
        if not isinstance(other, Kernel):
            return NotImplemented
        return KernelSum((*self.parts(), *other.parts()))

    def __radd__(self, other: object) -> Kernel:
        # The built-in sum() begins with 0.
        return self if isinstance(other, int) and other == 0 else NotImplemented

    @abstractmethod
    def parts(self) -> tuple[SimpleKernel, ...]:
        """Return the kernels whose sum this is.

        Returns
        -------
        tuple of SimpleKernel
            At least one; of a simple kernel, itself.
        """

    @abstractmethod
    def resolved(self, d: int, median: Callable[[], float]) -> Kernel:
        """Return the same kernel with a number for everything that depends on the data.

        Parameters
        ----------
        d : int
            Features of the rows.
        median : callable
            Returns the median distance between rows; called only if a part asks for it.

        Returns
        -------
        Kernel
            Of the same type.
        """


class SimpleKernel(Kernel):
    """Base of the kernels that are no sum of others: frozen dataclasses of numbers."""

    #: What the engine calls it.
    name: ClassVar[str]

    def parts(self) -> tuple[SimpleKernel, ...]:
        """Return the kernel itself."""
        return (self,)

    def resolved(self, d: int, median: Callable[[], float]) -> Self:
        """Return the kernel with 1/d for None and the median distance for "median"."""
        numbers = dict(vars(self))
        for name, value in numbers.items():
            if value is None:
                numbers[name] = 1.0 / d
            elif value == MEDIAN:
                numbers[name] = median()
        return type(self)(**numbers)

    def term(self) -> tuple[Any, ...]:
        """Return what the engine takes.

        Returns
        -------
        tuple
            The name, and the numbers of a resolved kernel as floats, in the order of its fields.
        """
        return self.name, *(float(number) for number in vars(self).values())


@dataclass(frozen=True)
class KernelSum(Kernel):
    """The sum of several kernels, as ``k1 + k2`` makes it.

    Parameters
    ----------
    terms : tuple of SimpleKernel
        At least one.

    Raises
    ------
    TypeError, ValueError
        If `terms` holds anything else, or nothing.

    Examples
    --------
    >>> from fastgen import Gaussian
    >>> Gaussian(1.0) + Gaussian(2.0)
    KernelSum(terms=(Gaussian(bandwidth=1.0), Gaussian(bandwidth=2.0)))
    """

    terms: tuple[SimpleKernel, ...]

    def __post_init__(self) -> None:
        given: object = self.terms
        condition = "to be a tuple of kernels"
        if not isinstance(given, tuple) or not all(isinstance(one, SimpleKernel) for one in given):
            fail("KernelSum", "terms", condition, repr(given), error=TypeError)
        if not given:
            fail("KernelSum", "terms", condition, "an empty tuple")

    def parts(self) -> tuple[SimpleKernel, ...]:
        """Return the terms, in the order in which they were added."""
        return self.terms

    def resolved(self, d: int, median: Callable[[], float]) -> KernelSum:
        """Return the sum of the resolved terms."""
        return KernelSum(tuple(one.resolved(d, median) for one in self.terms))


@dataclass(frozen=True)
class Polynomial(SimpleKernel):
    """``(gamma x.y + coef0)^degree``; by its defaults the kernel of KID.

    Parameters
    ----------
    degree : int, default 3
        1 to 32.
    gamma : float, optional
        Positive. Default: 1/d.
    coef0 : float, default 1.0
        At least 0.

    Raises
    ------
    TypeError, ValueError
        If a parameter has the wrong type or is out of bounds.

    Examples
    --------
    >>> from fastgen import Polynomial
    >>> Polynomial(degree=2)
    Polynomial(degree=2, gamma=None, coef0=1.0)
    """

    name = "polynomial"
    degree: int = 3
    gamma: float | None = None
    coef0: float = 1.0

    def __post_init__(self) -> None:
        numbers = check_polynomial("Polynomial", self.degree, self.gamma, self.coef0)
        for name, number in zip(("degree", "gamma", "coef0"), numbers, strict=True):
            object.__setattr__(self, name, number)


@dataclass(frozen=True)
class Gaussian(SimpleKernel):
    """``exp(-|x-y|^2 / (2 bandwidth^2))``.

    Parameters
    ----------
    bandwidth : float or "median"
        Positive; "median" takes the median distance between pooled rows.

    Raises
    ------
    TypeError, ValueError
        If it has the wrong type or is out of bounds.

    Examples
    --------
    >>> from fastgen import Gaussian
    >>> sum(Gaussian(bandwidth) for bandwidth in (1, 2, 4)).parts()[2]
    Gaussian(bandwidth=4.0)
    """

    name = "gaussian"
    bandwidth: float | str

    def __post_init__(self) -> None:
        object.__setattr__(self, "bandwidth", _length("Gaussian", "bandwidth", self.bandwidth))


@dataclass(frozen=True)
class RationalQuadratic(SimpleKernel):
    """``(1 + |x-y|^2 / (2 alpha length_scale^2))^-alpha``, a mixture of Gaussians of all widths.

    Parameters
    ----------
    alpha : float, default 1.0
        Positive; the smaller, the heavier the tail.
    length_scale : float or "median", default 1.0
        Positive; "median" takes the median distance between pooled rows.

    Raises
    ------
    TypeError, ValueError
        If a parameter has the wrong type or is out of bounds.

    Examples
    --------
    >>> from fastgen import RationalQuadratic
    >>> RationalQuadratic(alpha=0.5, length_scale="median")
    RationalQuadratic(alpha=0.5, length_scale='median')
    """

    name = "rational_quadratic"
    alpha: float = 1.0
    length_scale: float | str = 1.0

    def __post_init__(self) -> None:
        function = "RationalQuadratic"
        alpha = _positive(function, "alpha", self.alpha, "to be a positive, finite number")
        object.__setattr__(self, "alpha", alpha)
        length = _length(function, "length_scale", self.length_scale)
        object.__setattr__(self, "length_scale", length)


@dataclass(frozen=True)
class Laplacian(SimpleKernel):
    """``exp(-|x-y| / bandwidth)`` of the Euclidean distance.

    Parameters
    ----------
    bandwidth : float or "median"
        Positive; "median" takes the median distance between pooled rows.

    Raises
    ------
    TypeError, ValueError
        If it has the wrong type or is out of bounds.

    Examples
    --------
    >>> from fastgen import Laplacian
    >>> Laplacian("median")
    Laplacian(bandwidth='median')
    """

    name = "laplacian"
    bandwidth: float | str

    def __post_init__(self) -> None:
        object.__setattr__(self, "bandwidth", _length("Laplacian", "bandwidth", self.bandwidth))


@dataclass(frozen=True)
class Energy(SimpleKernel):
    """``-|x-y|``: its MMD^2 is the energy distance, 2 E|x-y| - E|x-x'| - E|y-y'|.

    Examples
    --------
    >>> from fastgen import Energy
    >>> Energy()
    Energy()
    """

    name = "energy"


def as_kernels(function: str, kernel: object) -> tuple[list[Kernel], bool]:
    """Validate one kernel or several.

    Parameters
    ----------
    function : str
        Named in messages.
    kernel : Kernel or sequence of Kernel
        What the caller passed.

    Returns
    -------
    kernels : list of Kernel
        In the order given.
    many : bool
        Whether a sequence was given, so that a list has to be returned.

    Raises
    ------
    TypeError
        If it is neither.
    ValueError
        If the sequence is empty.
    """
    many = isinstance(kernel, Sequence) and not isinstance(kernel, str)
    kernels: list[object] = list(kernel) if many else [kernel]  # type: ignore[call-overload]
    condition = "to be a kernel or a sequence of kernels"
    if not kernels:
        fail(function, "kernel", condition, "an empty sequence")
    found = [one for one in kernels if isinstance(one, Kernel)]
    if len(found) < len(kernels):
        wrong = next(one for one in kernels if not isinstance(one, Kernel))
        hint = "for example fastgen.Gaussian(10.0)"
        got = f"{type(wrong).__name__} {wrong!r}"
        fail(function, "kernel", condition, got, hint, error=TypeError)
    return found, many


def check_polynomial(
    function: str, degree: object, gamma: object, coef0: object
) -> tuple[int, float | None, float]:
    """Validate the numbers of a polynomial.

    Parameters
    ----------
    function : str
        Named in messages.
    degree, gamma, coef0 : int, float or None, float
        See `Polynomial`.

    Returns
    -------
    tuple of int, float or None, and float
        The same numbers.

    Raises
    ------
    TypeError, ValueError
        If one has the wrong type or is out of bounds.
    """
    power = as_int(function, "degree", degree)
    if not 1 <= power <= LARGEST_DEGREE:
        fail(function, "degree", f"in [1, {LARGEST_DEGREE}]", str(power))
    scale = None
    if gamma is not None:
        scale = _positive(function, "gamma", gamma, "to be a positive, finite number or None")
    offset = _number(function, "coef0", coef0, "to be a finite number of at least 0")
    if not 0.0 <= offset < inf:
        fail(function, "coef0", "to be a finite number of at least 0", repr(coef0))
    return power, scale, offset


def _length(function: str, argument: str, value: object) -> float | str:
    condition = f'to be a positive, finite number or "{MEDIAN}"'
    if isinstance(value, str):
        if value != MEDIAN:
            fail(function, argument, condition, repr(value))
        return value
    length = _positive(function, argument, value, condition)
    if not _SHORTEST <= length <= _LONGEST:
        fail(function, argument, "within 2^-500 and 2^500", repr(value))
    return length


def _positive(function: str, argument: str, value: object, condition: str) -> float:
    number = _number(function, argument, value, condition)
    if not 0.0 < number < inf:
        fail(function, argument, condition, repr(value))
    return number


def _number(function: str, argument: str, value: object, condition: str) -> float:
    """Take what is a real number, and nothing else; a bool is none here."""
    if isinstance(value, bool) or not isinstance(value, Real):
        got = f"{type(value).__name__} {value!r}"
        fail(function, argument, condition, got, error=TypeError)
    try:
        return float(value)
    except OverflowError:  # an int beyond float64
        return inf
