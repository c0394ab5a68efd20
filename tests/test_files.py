"""Files of features: mapped, opened by key, and refused in one sentence where they are damaged."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
from checks import assert_same_bits

import fastgen
from fastgen import arrays, files


def rows(dtype="float32", n=11, d=7):
    return np.random.default_rng(n * d).standard_normal((n, d)).astype(dtype)


def as_rows(value):
    return arrays.as_rows("prdc", "real", value)


def shares_memory(a, b):
    return np.may_share_memory(a, b)


@pytest.mark.parametrize("kind", [str, Path])
def test_npy_files_are_mapped(tmp_path, kind):
    np.save(tmp_path / "x.npy", rows())
    found = as_rows(kind(tmp_path / "x.npy"))
    base = found
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)
    assert_same_bits(np.array(found), rows())


def test_memory_maps_are_kept(tmp_path):
    np.save(tmp_path / "x.npy", rows())
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert shares_memory(as_rows(mapped), mapped)


def test_name_without_suffix_and_name_with_colon(tmp_path):
    for name in ("features", "a:b", "a:b.npz:c"):
        with (tmp_path / name).open("wb") as file:
            np.save(file, rows())
        assert_same_bits(np.array(as_rows(tmp_path / name)), rows())


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_files(tmp_path, save):
    save(tmp_path / "one.npz", rows(d=3))
    assert_same_bits(as_rows(tmp_path / "one.npz"), rows(d=3))
    assert_same_bits(as_rows(f"{tmp_path}/one.npz:arr_0"), rows(d=3))
    save(tmp_path / "two.npz", real=rows(d=4), fake=rows(d=5))
    assert_same_bits(as_rows(f"{tmp_path}/two.npz:real"), rows(d=4))
    assert_same_bits(as_rows(Path(f"{tmp_path}/two.npz:fake")), rows(d=5))


def test_fortran_ordered_file(tmp_path):
    np.save(tmp_path / "x.npy", np.asfortranarray(rows()))
    assert_same_bits(as_rows(tmp_path / "x.npy"), rows())


def test_paths_work_in_public_functions(tmp_path):
    np.save(tmp_path / "x.npy", rows(n=30))
    found = fastgen.nearest(tmp_path / "x.npy", f"{tmp_path}/x.npy", k=2)
    assert_same_bits(found, fastgen.nearest(rows(n=30), rows(n=30), k=2))


def damaged(tmp_path, kind):
    """Write a file that cannot be read, and return its path and what the message says."""
    path = tmp_path / "x.npy"
    np.save(path, rows(n=100))
    np.savez(tmp_path / "y.npz", real=rows(n=100))
    np.savez(tmp_path / "two.npz", real=rows(), fake=rows())
    whole = path.read_bytes()
    if kind == "missing":
        return tmp_path / "nothing.npy", FileNotFoundError, "to be an existing file, got '.*'"
    if kind == "missing npz with a key":
        name = f"{tmp_path}/nothing.npz:real"
        return name, FileNotFoundError, "to be an existing file, got '.*nothing.npz:real'"
    if kind == "folder":
        return tmp_path, ValueError, "to be a .npy or .npz file, got the directory"
    if kind == "unreadable":
        return tmp_path / ("x" * 300), OSError, r"to be a readable file, got '.*' \(File name"
    if kind == "text":
        path.write_text("0.1, 0.2\n")
        return path, ValueError, "to be a .npy or .npz file, got '.*', which is neither"
    if kind == "empty":
        path.write_bytes(b"")
        return path, ValueError, "to be a .npy or .npz file, got the empty file"
    if kind == "pickle":
        np.save(path, np.array([[{}]]), allow_pickle=True)
        return path, ValueError, r"to be a complete .npy file of numbers, got '.*' \(Array can't"
    if kind == "key for npy":
        return f"{path}:real", ValueError, "without a key for a .npy file"
    if kind == "two arrays and no key":
        return (
            tmp_path / "two.npz",
            ValueError,
            "to be a .npz file with one array, got '.*' with real, fake; n",
        )
    if kind == "wrong key":
        name = f"{tmp_path}/two.npz:reel"
        return name, ValueError, r"to name an array of '.*' \(real, fake\), got 'reel'"
    if kind == "no array":
        np.savez(tmp_path / "none.npz")
        return (
            tmp_path / "none.npz",
            ValueError,
            "to be a .npz file with one array, got '.*' with nothing",
        )
    if kind == "truncated npz":
        archive = tmp_path / "y.npz"
        archive.write_bytes(archive.read_bytes()[:-300])
        return archive, ValueError, r"to be a complete .npz file, got '.*' \(File is not a zip"
    if kind == "damaged npz":
        archive = tmp_path / "y.npz"
        content = bytearray(archive.read_bytes())
        content[1000] ^= 255
        archive.write_bytes(content)
        return archive, ValueError, r"to be a complete .npz file, got '.*' \(Bad CRC"
    keep = {"truncated": len(whole) - 1, "truncated header": 40, "magic alone": 6}[kind]
    path.write_bytes(whole[:keep])
    return path, ValueError, r"to be a complete .npy file of numbers, got '.*' \(.+\)"


@pytest.mark.parametrize(
    "kind",
    [
        "missing",
        "missing npz with a key",
        "folder",
        "unreadable",
        "text",
        "empty",
        "pickle",
        "key for npy",
        "two arrays and no key",
        "wrong key",
        "no array",
        "truncated npz",
        "damaged npz",
        "truncated",
        "truncated header",
        "magic alone",
    ],
)
def test_unusable_files(tmp_path, kind):
    path, error, text = damaged(tmp_path, kind)
    with pytest.raises(error, match=f"^prdc: expected `real` {text}") as caught:
        fastgen.prdc(real=path, fake=rows(), k=1)
    assert "\n" not in str(caught.value)


def test_a_file_cut_anywhere_is_a_value_error(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, rows())
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"^prdc: expected `real` to be a"):
            files.load("prdc", "real", path)


def test_a_damaged_header_is_a_value_error_or_harmless(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, rows())
    content = path.read_bytes()
    harmless = 0
    for place in range(6, 128):
        for value in b"\x00\xff9(":
            path.write_bytes(content[:place] + bytes([value]) + content[place + 1 :])
            try:
                files.load("prdc", "real", path)
                harmless += 1
            except (ValueError, OSError) as error:
                assert re.match("^prdc: expected `real` to be a", str(error))  # noqa: PT017
    assert harmless < 100


def test_empty_arrays_in_files_are_named_by_their_shape(tmp_path):
    np.save(tmp_path / "x.npy", np.empty((0, 5)))
    with pytest.raises(ValueError, match=r"at least one row and one column, got shape \(0, 5\)"):
        as_rows(tmp_path / "x.npy")


def test_bytes_paths_are_refused():
    class Odd(os.PathLike):
        def __fspath__(self):
            return b"x.npy"

    with pytest.raises(TypeError, match="to be a path of type str, got b"):
        as_rows(Odd())
