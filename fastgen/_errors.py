"""Exceptions and warnings, and the one sentence in which every error of the library is told.

The lowest layer: imports nothing of ours.
"""

from __future__ import annotations

from typing import NoReturn


class BackendUnavailableError(RuntimeError):
    """What was asked for needs a part that this installation does not have.

    Raised for arrays or devices that need a GPU backend and for optional extras; the message names
    the way out.
    """


class DensityWarning(UserWarning):
    """A density says little: at more than half of the points one sample has most of it."""


def fail(
    function: str,
    argument: str,
    condition: str,
    got: str,
    hint: str = "",
    *,
    error: type[Exception] = ValueError,
) -> NoReturn:
    """Raise `error` in the library's wording.

    Parameters
    ----------
    function, argument : str
        The public function and its parameter, as the caller wrote them.
    condition : str
        What was expected of the argument, continuing "expected `argument` ...".
    got : str
        What was found instead, already rendered.
    hint : str, default ""
        A way out, if there is one.
    error : type of Exception, default ValueError
        TypeError for types and dtypes, ValueError for values and shapes, BackendUnavailableError
        for missing parts.

    Raises
    ------
    Exception
        Always, of type `error`.
    """
    text = f"{function}: expected `{argument}` {condition}, got {got}"
    raise error(f"{text}; {hint}" if hint else text)
