"""Reading feature arrays from .npy and .npz files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from fastgen._errors import fail

_NPY = b"\x93NUMPY"
_ZIP = b"PK"


def load(function: str, argument: str, path: str | os.PathLike[str]) -> npt.NDArray[Any]:
    """Read one array.

    Parameters
    ----------
    function, argument : str
        Named in messages.
    path : str or os.PathLike
        A .npy file, which is memory-mapped; or a .npz file, with ``:key`` appended where it holds
        several arrays ("features.npz:real").

    Returns
    -------
    ndarray
        The array as stored, any shape and dtype.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    OSError
        If it cannot be opened.
    ValueError
        If it is truncated, holds no array, holds several and no key was given, or not that key.
    """
    text = os.fspath(path)
    if not isinstance(text, str):
        fail(function, argument, "to be a path of type str", repr(text), error=TypeError)
    name, key = _split(text)
    try:
        if name.is_dir():
            fail(function, argument, "to be a .npy or .npz file", f"the directory {text!r}")
        with name.open("rb") as file:
            magic = file.read(len(_NPY))
    except FileNotFoundError:
        fail(function, argument, "to be an existing file", repr(text), error=FileNotFoundError)
    except OSError as error:
        condition, got = "to be a readable file", f"{text!r} ({error.strerror})"
        fail(function, argument, condition, got, error=type(error))
    if not magic:
        fail(function, argument, "to be a .npy or .npz file", f"the empty file {text!r}")
    if magic.startswith(_ZIP):
        return _load_npz(function, argument, name, key)
    if magic != _NPY:
        fail(function, argument, "to be a .npy or .npz file", f"{text!r}, which is neither")
    if key is not None:
        fail(function, argument, "without a key for a .npy file", repr(text))
    return _load_npy(function, argument, name)


def holds_statistics(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file holds a mean and a covariance in the place of features.

    Parameters
    ----------
    path : str or os.PathLike
        Any.

    Returns
    -------
    bool
        True for a .npz file with the arrays "mu" and "sigma", as pytorch-fid has them; False for
        everything else, also for what is no file.
    """
    try:
        with Path(path).open("rb") as file:
            if file.read(len(_ZIP)) != _ZIP:
                return False
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                return {"mu", "sigma"} <= set(archive.files)
    except MemoryError:
        raise
    except Exception:  # whoever loads it says what is wrong
        return False


def _split(text: str) -> tuple[Path, str | None]:
    """Separate "file.npz:key"; a file whose own name has a colon goes first."""
    name, colon, key = text.rpartition(":")
    if colon and not Path(text).exists() and (name.endswith(".npz") or Path(name).is_file()):
        return Path(name), key
    return Path(text), None


def _load_npy(function: str, argument: str, name: Path) -> npt.NDArray[Any]:
    try:
        if _is_empty(name):  # cannot be mapped
            return np.asarray(np.load(name, allow_pickle=False))
        return np.asarray(np.load(name, mmap_mode="r", allow_pickle=False))
    except MemoryError:
        raise
    except Exception as error:  # damage shows as nearly any kind, tokenize.TokenError for one
        _fail_broken(function, argument, "to be a complete .npy file of numbers", name, error)


def _is_empty(name: Path) -> bool:
    with name.open("rb") as file:
        major, _ = np.lib.format.read_magic(file)
        if major == 1:
            shape = np.lib.format.read_array_header_1_0(file)[0]
        else:
            shape = np.lib.format.read_array_header_2_0(file)[0]
    return 0 in shape


def _load_npz(function: str, argument: str, name: Path, key: str | None) -> npt.NDArray[Any]:
    try:
        # Opened here: NumPy leaves a damaged archive open.
        with name.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            keys = list(archive.files)
            if key is None and len(keys) == 1:
                key = keys[0]
            if key in keys:
                return np.asarray(archive[key])
    except MemoryError:
        raise
    except Exception as error:
        _fail_broken(function, argument, "to be a complete .npz file", name, error)
    listed = ", ".join(keys) if keys else "nothing"
    if key is None:
        hint = f'name one, as in "{name}:{keys[0]}"' if keys else ""
        fail(
            function,
            argument,
            "to be a .npz file with one array",
            f"{str(name)!r} with {listed}",
            hint,
        )
    fail(function, argument, f"to name an array of {str(name)!r} ({listed})", repr(key))


def _fail_broken(
    function: str, argument: str, condition: str, name: Path, error: Exception
) -> NoReturn:
    """Raise with the first line of NumPy's own words; a KeyError would quote itself."""
    reason = str(error.args[0] if error.args else type(error).__name__).split("\n")[0]
    kind = OSError if isinstance(error, OSError) else ValueError
    fail(function, argument, condition, f"{str(name)!r} ({reason})", error=kind)
