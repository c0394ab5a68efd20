"""Bad input to `fid`: sets, files, options, and what cannot be extrapolated."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from checks import assert_same_bits

from fastgen import BackendUnavailableError, Moments, fid

METHODS = ("auto", "eigh", "newton_schulz", "eigvals")
ARRAY = "to be an array of shape (n, d) or the path of one, got"
DTYPES = "of dtype float16, float32, float64 or integer, got"
RANGE = "with variances of 0 or from 1e-150 to 1e+150, got"
POWER = "; multiply all features by one power of two"
SETS_POWER = "; multiply all sets by one power of two"
DEVICES = '`device` to be "cpu", "cuda", "cuda:0", "cuda:all" or None'

ASYMMETRIC = np.array([[1.0, 0.5], [0.25, 1.0]])
INDEFINITE = np.array([[1.0, 2.0], [2.0, 1.0]])
X = np.arange(12.0).reshape(6, 2) ** 2


def raises(text, error=ValueError):
    return pytest.raises(error, match=f"^fid: expected {re.escape(text)}$")


def moments(rows):
    found = Moments(rows.shape[1])
    found.update(rows)
    return found


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("sets", "text"),
    [
        ({"real": X[:1]}, "`real` with at least 2 rows, got 1; a single row has no covariance"),
        ({"fake": X[:1]}, "`fake` with at least 2 rows, got 1; a single row has no covariance"),
        ({"real": Moments(2)}, "`real` with at least 2 rows, got 0"),
        ({"fake": moments(X[:1])}, "`fake` with at least 2 rows, got 1"),
        ({"fake": X[:0]}, "`fake` with at least one row and one column, got shape (0, 2)"),
        (
            {"real": X[0]},
            "`real` of shape (n, d), got shape (2,); a single feature is real.reshape(-1, 1)",
        ),
        ({"fake": X[:, :1]}, "`fake` with d = 2 features like `real`, got 1 features"),
        ({"fake": moments(X[:, :1])}, "`fake` with d = 2 features like `real`, got 1 features"),
        ({"real": moments(X[:, :1])}, "`fake` with d = 1 features like `real`, got 2 features"),
        ({"real": X * math.nan}, "`real` to be finite, got nan in row 0, column 0"),
        (
            {"fake": np.where(X > 90, math.inf, X)},
            "`fake` to be finite, got inf in row 5, column 0",
        ),
        (
            {"fake": np.where(X[:2] > 8, -math.inf, X[:2])},
            "`fake` to be finite, got -inf in row 1, column 1",
        ),
        (
            {"real": X * 2.0**500},
            f"`real` within 2^500 in magnitude, got {4 * 2.0**500} in row 1, column 0{SETS_POWER}",
        ),
        (
            {"fake": np.eye(4)[:, :2] * 2.0**266},
            f"`fake` {RANGE} {2.0**530} of feature 0{POWER}",
        ),
        (
            {"fake": np.eye(4)[:, :2] * 2.0**-264},
            f"`fake` {RANGE} {2.0**-530} of feature 0{POWER}",
        ),
    ],
)
def test_bad_sets(sets, text, method):
    with raises(text):
        fid(**{"real": X, "fake": X, **sets}, method=method)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (
            [[1.0, 2.0], [3.0, 4.0]],
            f"{ARRAY} list; pass np.asarray(fake)",
        ),
        (
            None,
            f"{ARRAY} NoneType; pass np.asarray(fake)",
        ),
        (X * 1j, f"{DTYPES} complex128; pass real and imaginary parts as separate columns"),
        (X > 0, f"{DTYPES} bool; convert it with fake.astype(np.float32)"),
        (X.astype("U8"), f"{DTYPES} <U8"),
    ],
)
def test_sets_of_the_wrong_type(value, text):
    for more in ({}, {"extrapolate": True}):
        with raises(f"`fake` {text}", TypeError):
            fid(real=X, fake=value, **more)


def test_both_sets_have_to_be_named():
    with pytest.raises(TypeError, match="positional"):
        fid(X, X)
    with pytest.raises(TypeError, match="'fake'"):
        fid(real=X)
    with pytest.raises(TypeError, match="'real'"):
        fid(fake=X)


def test_files_that_do_not_fit(tmp_path):
    missing = str(tmp_path / "missing.npy")
    with raises(f"`real` to be an existing file, got {missing!r}", FileNotFoundError):
        fid(real=missing, fake=X)
    path = tmp_path / "statistics.npz"
    np.savez(path, mu=np.zeros(3), sigma=np.eye(3))
    with raises("`fake` with d = 2 features like `real`, got 3 features"):
        fid(real=X, fake=path)
    np.savez(path, mu=np.zeros(2), sigma=ASYMMETRIC)
    with pytest.raises(ValueError, match=r"to be symmetric, got 0\.5 and 0\.25 in rows 0 and 1$"):
        fid(real=path, fake=X)
    np.savez(path, mu=np.zeros(2), sigma=INDEFINITE)
    for method in METHODS:
        with raises("`real` to be positive semi-definite, got the eigenvalue -1.0"):
            fid(real=path, fake=X, method=method)
    np.savez(path, mu=np.zeros(2), sigma=np.diag([1.0, 1e200]))
    for method in METHODS:
        with raises(f"`fake` {RANGE} 1e+200 of feature 1{POWER}"):
            fid(real=X, fake=path, method=method)
    np.savez(path, mu=np.zeros(3), sigma=np.eye(2))
    with pytest.raises(ValueError, match=r"of shape \(3, 3\), got shape \(2, 2\)$"):
        fid(real=X, fake=path)
    np.savez(path, mu=np.array([0.0, math.nan]), sigma=np.eye(2))
    with pytest.raises(ValueError, match=r"to be finite, got nan$"):
        fid(real=X, fake=path)


def test_damaged_statistics(tmp_path):
    path = tmp_path / "statistics.npz"
    np.savez(path, mu=np.zeros(200), sigma=np.eye(200))
    whole = path.read_bytes()
    for cut in (len(whole) // 2, 40, 3):
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=r"expected `(fake|path)` to be a"):
            fid(real=X, fake=path)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"extrapolate": "yes"}, TypeError, "`extrapolate` to be a bool, got str 'yes'"),
        ({"extrapolate": 1}, TypeError, "`extrapolate` to be a bool, got int 1"),
        ({"extrapolate": None}, TypeError, "`extrapolate` to be a bool, got NoneType None"),
        ({"seed": -1}, ValueError, "`seed` to be an int of at least 0, or None, got -1"),
        ({"seed": 1.0}, TypeError, "`seed` to be an int of at least 0, or None, got float 1.0"),
        ({"seed": True}, TypeError, "`seed` to be an int of at least 0, or None, got bool True"),
        ({"threads": 0}, ValueError, "`threads` of at least 1, got 0"),
        ({"threads": "2"}, TypeError, "`threads` to be an int, got str '2'"),
        ({"progress": 3}, TypeError, "`progress` to be a bool or a callable, got int 3"),
        ({"device": "tpu"}, ValueError, f"{DEVICES}, got 'tpu'"),
        ({"device": "cuda:x"}, ValueError, f"{DEVICES}, got 'cuda:x'"),
        (
            {"device": "rocm"},
            BackendUnavailableError,
            f"{DEVICES}, got 'rocm'; torch calls AMD GPUs cuda",
        ),
    ],
)
def test_bad_options(options, error, text):
    with raises(text, error):
        fid(real=X, fake=X, **options)


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "cuda:all", "CUDA"])
def test_a_gpu_that_no_library_sees(device, monkeypatch):
    reasons = "torch 9.9 sees no GPU, CuPy is not installed"
    monkeypatch.setattr("fastgen.library_devices.first_gpu", lambda index: reasons)
    with raises(f'`device` "cpu" or None, got {device!r}; {reasons}', BackendUnavailableError):
        fid(real=X, fake=X, device=device)


def test_too_little_memory():
    text = (
        r"^fid: expected `memory` of at least \d+ bytes for this input, got 1000; memory=.* enough$"
    )
    with pytest.raises(ValueError, match=text) as caught:
        fid(real=X, fake=X, memory="1KB")
    enough = re.search('memory="(.*)" is enough', str(caught.value))[1]
    assert_same_bits(fid(real=X, fake=X, memory=enough), fid(real=X, fake=X))


def test_what_cannot_be_extrapolated(tmp_path):
    text = "`fake` with at least 4 rows with `extrapolate`, got 3"
    with raises(text):
        fid(real=X, fake=X[:3], extrapolate=True)
    text = "`fake` to be features with `extrapolate`, got statistics, which have no subsets"
    moments(X).save(tmp_path / "x.npz")
    for fake in (moments(X), tmp_path / "x.npz"):
        with raises(text, TypeError):
            fid(real=X, fake=fake, extrapolate=True)
    bad = X.copy()
    bad[5, 1] = math.nan
    with raises("`fake` to be finite, got nan in row 5, column 1"):
        fid(real=X, fake=bad, extrapolate=True)
