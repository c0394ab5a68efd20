"""Files of a mean and a covariance: .npz as pytorch-fid has it, and what more it takes to go on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastgen._errors import fail
from fastgen.arrays import LARGEST, as_numbers
from fastgen.symmetry import as_symmetric

Floats = npt.NDArray[np.float64]

#: The most features that moments may have: a covariance of 8 TB.
LARGEST_D = 2**20

_CONDITION = "to be a .npz file with arrays mu and sigma"
_LARGEST_COUNT = 2**53


def as_path(function: str, path: object) -> Path:
    """Validate the name of a file.

    Parameters
    ----------
    function : str
        Named in the message.
    path : str or os.PathLike
        Of the file.

    Returns
    -------
    Path
        The same.

    Raises
    ------
    TypeError
        If it is no path of type str.
    """
    if not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str):
        fail(function, "path", "to be a path of type str", repr(path), error=TypeError)
    return Path(path)


def write(function: str, path: Path, content: dict[str, Any]) -> None:
    """Write arrays to a .npz file, which is there as a whole or not at all.

    Parameters
    ----------
    function : str
        Named in messages.
    path : Path
        Taken as it is; a file that exists is replaced once the new one is complete.
    content : dict of str to array
        The arrays.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    beside = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    try:
        try:
            with beside.open("xb") as file:
                np.savez(file, **content)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        got = f"{str(path)!r} ({error.strerror})"
        fail(function, "path", "to be a file that can be written", got, error=type(error))


def read(function: str, path: Path) -> dict[str, Floats]:
    """Read and validate a mean, a covariance and, if the file has a count, what belongs to it.

    Parameters
    ----------
    function : str
        Named in messages.
    path : Path
        Of a .npz file.

    Returns
    -------
    dict of str to ndarray, float64
        `mu` of shape (d,) and `sigma` of shape (d, d), symmetric to the bit. With a count also
        `count` of shape (), an integer of at least 2, and `origin` and `shift` of shape (d,), whose
        sum is `mu`: that itself and 0 where the file has neither.

    Raises
    ------
    FileNotFoundError, OSError
        If there is no such file, or it cannot be read.
    TypeError
        If the arrays do not hold numbers.
    ValueError
        If the file is no such one, or its arrays do not fit.
    """
    found = _arrays(function, str(path))
    arrays = {key: as_numbers(function, f"path:{key}", array) for key, array in found.items()}
    mean = arrays["mu"]
    if mean.ndim != 1 or not 1 <= mean.size <= LARGEST_D:
        fail(function, "path:mu", "of shape (d,), d in [1, 2^20]", f"shape {mean.shape}")
    d = len(mean)
    shapes = {"sigma": (d, d), "count": (), "origin": (d,), "shift": (d,)}
    for key, shape in shapes.items():
        if key in arrays and arrays[key].shape != shape:
            fail(function, f"path:{key}", f"of shape {shape}", f"shape {arrays[key].shape}")
    largest = mean[np.abs(mean).argmax()]
    if abs(largest) > LARGEST:
        fail(function, "path:mu", "within 2^500 in magnitude", str(largest))
    least = float(arrays["sigma"].diagonal().min())
    if least < 0:
        fail(function, "path:sigma", "to have variances of at least 0", str(least))
    arrays["sigma"] = as_symmetric(np, function, "path:sigma", arrays["sigma"])
    if "count" not in arrays:
        return {key: arrays[key] for key in ("mu", "sigma")}
    count = float(arrays["count"])
    if not count.is_integer() or not 2 <= count <= _LARGEST_COUNT:
        fail(function, "path:count", "to be an integer in [2, 2^53]", str(found["count"]))
    arrays.setdefault("origin", mean)
    arrays.setdefault("shift", mean - arrays["origin"])
    if not np.array_equal(arrays["origin"] + arrays["shift"], mean):
        fail(function, "path:shift", "to be mu less origin", "other numbers")
    return arrays


def _arrays(function: str, text: str) -> dict[str, Any]:
    """Return the arrays of a file that moments are made of."""
    found = None
    try:
        # Opened here: NumPy leaves a damaged archive open.
        with Path(text).open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.lib.npyio.NpzFile):
                known = ("mu", "sigma", "count", "origin", "shift")
                found = {key: archive[key] for key in known if key in archive.files}
    except FileNotFoundError:
        fail(function, "path", "to be an existing file", repr(text), error=FileNotFoundError)
    except OSError as error:
        got = f"{text!r} ({error.strerror})"
        fail(function, "path", "to be a readable file", got, error=type(error))
    except MemoryError:
        raise
    except Exception as error:  # damage shows as nearly any kind
        reason = str(error.args[0] if error.args else type(error).__name__).split("\n")[0]
        fail(function, "path", _CONDITION, f"{text!r} ({reason})")
    if found is None:
        fail(function, "path", _CONDITION, f"{text!r}, which is none")
    for key in ("mu", "sigma"):
        if key not in found:
            fail(function, "path", _CONDITION, f"{text!r} without {key}")
    return found
