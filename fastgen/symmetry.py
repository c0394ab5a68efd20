"""Symmetric positive semi-definite matrices as people have them: to within what float32 leaves."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from fastgen._errors import fail

#: A matrix computed in float32 may be off symmetry by this, in units of its diagonal,
ASYMMETRY = 1e-6
#: and its eigenvalues below 0 by this, in units of the largest.
INDEFINITE = 1e-6

_TILE = 128  # two tiles of float64 take 256 KB of L2


def as_symmetric(xp: ModuleType, function: str, argument: str, matrix: Any) -> Any:
    """Return the mean of a matrix and its transpose, after a look at how far apart they are.

    Parameters
    ----------
    xp : module
        NumPy, or the namespace of the array as ``array_api_compat.array_namespace`` gives it.
    function, argument : str
        Named in the message.
    matrix : array of shape (d, d), float64
        Finite.

    Returns
    -------
    array of shape (d, d), float64
        Symmetric to the bit; the matrix itself if it is so.

    Raises
    ------
    ValueError
        If two entries are further apart than 1e-6 of the root of the product of their diagonal
        entries.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgen.symmetry import as_symmetric
    >>> as_symmetric(np, "fid", "a", np.array([[1.0, 0.5 + 1e-7], [0.5 - 1e-7, 1.0]]))
    array([[1. , 0.5],
           [0.5, 1. ]])
    """
    same = _is_symmetric(matrix) if isinstance(matrix, np.ndarray) else xp.all(matrix == matrix.T)
    if bool(same):
        return matrix
    scale = xp.sqrt(xp.abs(xp.linalg.diagonal(matrix)))
    excess = xp.abs(matrix - matrix.T) - ASYMMETRY * scale[:, None] * scale[None, :]
    if float(xp.max(excess)) > 0:
        i, j = divmod(int(xp.argmax(xp.reshape(excess, (-1,)))), len(scale))
        got = f"{float(matrix[i, j])} and {float(matrix[j, i])} in rows {i} and {j}"
        fail(function, argument, "to be symmetric", got)
    return 0.5 * matrix + 0.5 * matrix.T


def _is_symmetric(matrix: Any) -> bool:
    """Compare with the transpose by tiles: a whole one is read against the grain of memory."""
    cuts = range(0, len(matrix), _TILE)
    return all(
        np.array_equal(matrix[i : i + _TILE, j : j + _TILE], matrix[j : j + _TILE, i : i + _TILE].T)
        for i in cuts
        for j in cuts[: i // _TILE + 1]
    )
