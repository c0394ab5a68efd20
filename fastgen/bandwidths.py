"""What a density is told about its kernels and samples: bandwidths, the rules for them, weights."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from fastgen import arrays
from fastgen._errors import fail

Floats = npt.NDArray[np.float64]

#: Rules of thumb for a bandwidth, by Scott and by Silverman.
RULES = ("scott", "silverman")

#: Weights further apart than this do not go into float64 with their kernels.
HEAVIEST = 1e290

#: Bandwidths further apart than this do not go into one pass.
WIDEST_RANGE = 1e30


def as_bandwidths(
    function: str, bandwidth: object, d: int, effective_size: float
) -> tuple[Floats, bool]:
    """Validate `bandwidth`: numbers, or the name of a rule.

    Parameters
    ----------
    function : str
        Named in messages.
    bandwidth : float, array of shape (b,), "scott", "silverman" or None
        None is "scott".
    d : int
        Features.
    effective_size : float
        Of the samples, see `effective_size`.

    Returns
    -------
    bandwidths : array of shape (b,), float64
        At least one.
    several : bool
        Whether an array was given, so that every result gets an axis for it.

    Raises
    ------
    TypeError
        If `bandwidth` does not hold numbers.
    ValueError
        If it is empty, has too many axes, or a number is not positive and finite.
    """
    if bandwidth is None or isinstance(bandwidth, str):
        if bandwidth is not None and bandwidth not in RULES:
            fail(function, "bandwidth", '"scott", "silverman" or numbers', repr(bandwidth))
        size = effective_size * (d + 2) / 4 if bandwidth == "silverman" else effective_size
        return np.array([scott(size, d)]), False
    numbers = as_widths(function, "bandwidth", bandwidth)
    return np.atleast_1d(numbers), numbers.ndim == 1


def as_widths(function: str, argument: str, value: object) -> Floats:
    """Validate bandwidths that are numbers.

    Parameters
    ----------
    function, argument : str
        Named in messages.
    value : float or array of shape (b,)
        Positive and finite.

    Returns
    -------
    array of shape () or (b,), float64
        A copy.

    Raises
    ------
    TypeError
        If `value` does not hold numbers.
    ValueError
        If it is empty, has too many axes, a number is not positive and finite, or some are more
        than a factor of `WIDEST_RANGE` apart.
    """
    widths = arrays.as_numbers(function, argument, value)
    if widths.ndim > 1:
        fail(function, argument, "to be a number or of shape (b,)", f"shape {widths.shape}")
    if not widths.size:
        fail(function, argument, "with at least one value", "none")
    least, largest = float(widths.min()), float(widths.max())
    if least <= 0:
        fail(function, argument, "above 0", str(least))
    if largest > WIDEST_RANGE * least:
        condition = f"within a factor of {WIDEST_RANGE:g} of each other"
        fail(function, argument, condition, f"{least:g} to {largest:g}")
    return widths


def as_weights(
    function: str, weights: object, n: int, leave_one_out: bool
) -> tuple[Floats | None, float]:
    """Validate `weights`, and that a sample is left where one is left out.

    Parameters
    ----------
    function : str
        Named in messages.
    weights : array of shape (n,) or None
        At least 0 and not all 0; None: equal ones.
    n : int
        Samples.
    leave_one_out : bool
        Whether every sample is left out once.

    Returns
    -------
    relative : array of shape (n,), float64, or None
        The largest is 1.
    largest : float
        What was divided by.

    Raises
    ------
    TypeError
        If `weights` does not hold numbers.
    ValueError
        If they have another shape, are negative, not finite, more than a factor of `HEAVIEST`
        apart, or too few are above 0.
    """
    if leave_one_out and n < 2:
        fail(function, "samples", "with at least 2 rows with `leave_one_out`", str(n))
    if weights is None:
        return None, 1.0
    values = arrays.as_numbers(function, "weights", weights)
    if values.shape != (n,):
        fail(function, "weights", f"of shape ({n},)", f"shape {values.shape}")
    largest = float(values.max())
    if values.min() < 0 or largest == 0:
        got = f"{values.min()} to {largest}"
        fail(function, "weights", "of at least 0 and not all 0", got)
    least = float(values[values > 0].min()) / largest
    values /= largest
    if least < 1 / HEAVIEST:
        condition = f"of 0 or at least {1 / HEAVIEST:g} of the largest"
        fail(function, "weights", condition, f"{least:g} of it")
    if leave_one_out and np.count_nonzero(values) < 2:
        fail(function, "weights", "with at least 2 above 0 with `leave_one_out`", "1")
    return values, largest


def effective_size(n: int, weights: Floats | None) -> float:
    """Return how many equal samples a weighted set is worth.

    Parameters
    ----------
    n : int
        Samples.
    weights : array of shape (n,), float64, optional
        From `as_weights`.

    Returns
    -------
    float
        n, or ``sum(w)^2 / sum(w^2)``.
    """
    if weights is None:
        return float(n)
    return float(weights.sum() ** 2 / (weights * weights).sum())


def scott(size: float, d: int) -> float:
    """Return Scott's factor.

    Parameters
    ----------
    size : float
        Effective number of samples.
    d : int
        Features.

    Returns
    -------
    float
        ``size^(-1/(d+4))``.
    """
    return math.pow(size, -1 / (d + 4))
