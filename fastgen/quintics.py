"""Odd quintics whose composition takes an interval to 1: the coefficients of the polar iteration.

Each ``p(x) = a x + b x^3 + c x^5`` is the best approximation of 1 on the interval in which the one
before left the values, and that choice, step by step, is the best composition too [1]_: 16 steps
lift 1e-8 to 1. The fixed ``(15 x - 10 x^3 + 3 x^5) / 8`` takes 33, ``(3 x - x^3) / 2`` takes 51.

References
----------
.. [1] Amsel, Persson, Musco and Gower, "The Polar Express: optimal matrix sign methods and their
   application to the Muon algorithm", arXiv 2505.16932, 2025.
"""

from __future__ import annotations

import functools
from decimal import Decimal, localcontext

from fastgen._errors import fail

Quintic = tuple[float, float, float]

# Each interval is taken wider by this at either end. A quintic has slope 10 (relative) at the upper
# end: the rounding of a step (at most d 2^-52, 5e-13 at d = 2048) that is outside of the interval
# would be 10 times as far outside after the next, and 1e16 times after all.
_MARGIN = Decimal(2) ** -30

# Quintics are made for intervals whose ends have at most this ratio. The best one for [1e-8, 1]
# takes a value near 0.82 down to 1e-7, and rounding is 1e7 times as large next to that; this one
# takes it to 0.19. Asymmetry of Q'A, d = 400: 2e-13 to 7e-12 without, 1e-14 with it. From 1e-8 the
# number of steps is the same, from 1e-12 it is 23 instead of 22.
_RATIO = Decimal(1) / 40


@functools.cache
def quintic_steps(least: float, tolerance: float = 2.0**-50) -> tuple[Quintic, ...]:
    """Compose odd quintics that take [least, 1] to 1.

    Parameters
    ----------
    least : float
        Lower end of the interval, above 0 and below 1.
    tolerance : float, default 2^-50
        What the composition may differ from 1 in exact arithmetic, at least 2^-52.

    Returns
    -------
    tuple of (a, b, c)
        Coefficients of ``a x + b x^3 + c x^5``, in the order of application: 13 of them for 1e-6,
        16 for 1e-8, 23 for 1e-12.

    Notes
    -----
    Each is the minimax approximation of 1 on the interval [l, u] that the values are in, found in
    50 decimal digits, because its equations are singular in the limit ``l = u``. The next interval
    is ``[p(l), 1 + E]``, E the error. The intervals are taken wider by 2^-30 at either end, and l
    as u / 40 where it is less.

    Examples
    --------
    >>> from fastgen.quintics import quintic_steps
    >>> [round(number, 3) for number in quintic_steps(1e-8)[-1]]
    [1.875, -1.25, 0.375]
    >>> x = 1e-6
    >>> for a, b, c in quintic_steps(1e-6):
    ...     x = a * x + b * x**3 + c * x**5
    >>> round(x, 12)
    1.0
    """
    if not 0 < least < 1:
        fail("quintic_steps", "least", "in (0, 1)", str(least))
    steps = []
    with localcontext() as context:
        context.prec = 50
        low, high, allowed = Decimal(least), Decimal(1), Decimal(tolerance)
        error = Decimal(1)
        while max(1 - low, error) > allowed:
            low *= 1 - _MARGIN
            high *= 1 + _MARGIN
            (a, b, c), error = best_quintic(max(low, high * _RATIO), high)
            steps.append((float(a), float(b), float(c)))
            low = min(a * low + b * low**3 + c * low**5, 1 - error)
            high = 1 + error
    return tuple(steps)


def best_quintic(low: Decimal, high: Decimal) -> tuple[tuple[Decimal, Decimal, Decimal], Decimal]:
    """Find the odd quintic nearest to 1 on an interval, by the exchange of Remez.

    Parameters
    ----------
    low, high : Decimal
        Ends of the interval, 0 < low < high.

    Returns
    -------
    coefficients : (Decimal, Decimal, Decimal)
        a, b and c of ``a x + b x^3 + c x^5``, in the digits of the current decimal context.
    error : Decimal
        E, where the values are ``1 - E, 1 + E, 1 - E, 1 + E`` at `low`, the two extrema and `high`.

    Examples
    --------
    >>> from decimal import Decimal
    >>> from fastgen.quintics import best_quintic
    >>> (a, b, c), error = best_quintic(Decimal("0.5"), Decimal(1))
    >>> round(a + b + c - 1 - error, 20) == 0, round(error, 4)
    (True, Decimal('0.0240'))
    """
    inner = [low + (high - low) / 4, low + (high - low) * 3 / 4]
    while True:
        points = [low, *inner, high]
        signs = [Decimal(1), Decimal(-1), Decimal(1), Decimal(-1)]
        rows = [[x, x**3, x**5, s, Decimal(1)] for x, s in zip(points, signs, strict=True)]
        a, b, c, error = _solve(rows)
        # The extrema: a + 3 b x^2 + 5 c x^4 = 0.
        root = (9 * b * b - 20 * a * c).sqrt()
        before = inner
        inner = [((-3 * b - root) / (10 * c)).sqrt(), ((-3 * b + root) / (10 * c)).sqrt()]
        moved = max(abs(x - y) for x, y in zip(inner, before, strict=True))
        if moved <= (high - low) / 10**12:  # E is flat there: it has twice as many digits
            return (a, b, c), error


def _solve(rows: list[list[Decimal]]) -> list[Decimal]:
    """Solve equations by elimination with pivots; the right-hand side is the last column."""
    n = len(rows)
    for i in range(n):
        pivot = max(range(i, n), key=lambda r: abs(rows[r][i]))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [x / rows[i][i] for x in rows[i]]
        for r in range(n):
            if r != i:
                rows[r] = [x - rows[r][i] * y for x, y in zip(rows[r], rows[i], strict=True)]
    return [row[n] for row in rows]
