"""Moments in files: what `save` writes goes on, what others wrote loads, damage is told."""

from __future__ import annotations

import pickle
import re

import families
import numpy as np
import pytest
from checks import assert_same_bits

from fastgen.moments import Moments


def of(x):
    moments = Moments(x.shape[1])
    moments.update(x)
    return moments


def both(moments):
    return moments.mean, moments.covariance


def in_deviations(covariance, expected):
    """Return the largest error in units of the standard deviations."""
    scale = np.sqrt(expected.diagonal())
    return np.abs((covariance - expected) / np.outer(scale, scale)).max()


def test_saved_moments_go_on(tmp_path):
    x = families.seeded("save").standard_normal((5000, 20)) + 1e9
    moments, path = of(x[:3000]), tmp_path / "moments.npz"
    path.write_text("old")
    moments.save(path)
    with np.load(path) as archive:
        assert sorted(archive.files) == ["count", "mu", "origin", "shift", "sigma"]
        assert_same_bits((archive["mu"], archive["sigma"]), both(moments))
        assert archive["count"] == 3000
    assert [found.name for found in tmp_path.iterdir()] == ["moments.npz"]
    loaded = Moments.load(str(path), threads=1)
    assert (loaded.d, loaded.count) == (20, 3000)
    assert_same_bits(loaded.mean, moments.mean)
    np.testing.assert_allclose(loaded.covariance, moments.covariance, rtol=2.0**-51)
    loaded.update(x[3000:])
    assert in_deviations(loaded.covariance, np.cov((x - 1e9).T)) < 1e-14


def test_statistics_of_pytorch_fid(tmp_path):
    x = families.seeded("fid").standard_normal((50, 4))
    path, again = tmp_path / "stats.npz", tmp_path / "again"
    np.savez(path, mu=x.mean(axis=0), sigma=np.cov(x, rowvar=False))
    moments = Moments.load(path)
    assert repr(moments) == "Moments(d=4, count=None)"
    assert_same_bits(both(moments), (x.mean(axis=0), np.cov(x, rowvar=False)))
    moments.mean[:] = moments.covariance[:] = 9.0
    moments.save(again)
    for twin in (pickle.loads(pickle.dumps(moments)), Moments.load(again)):
        assert twin.count is None
        assert_same_bits(both(twin), (x.mean(axis=0), np.cov(x, rowvar=False)))
    text = "to be known, got None: the file they come from does not tell how many rows"
    with pytest.raises(ValueError, match=f"^Moments.update: expected `count` {text}"):
        moments.update(x)
    with pytest.raises(ValueError, match=f"^Moments.merge: expected `count` {text}"):
        moments.merge(of(x))
    with pytest.raises(ValueError, match=f"^Moments.merge: expected `other.count` {text}"):
        of(x).merge(moments)


def test_a_file_with_a_count_alone(tmp_path):
    x = families.seeded("count").standard_normal((3000, 3))
    mean, covariance = both(of(x[:1000]))
    np.savez(tmp_path / "x.npz", mu=mean, sigma=covariance, count=1000)
    moments = Moments.load(tmp_path / "x.npz")
    moments.update(x[1000:])
    assert in_deviations(moments.covariance, np.cov(x.T)) < 1e-13


def good_file():
    return {"mu": np.zeros(2), "sigma": np.eye(2), "count": np.int64(9)}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"mu": None}, "`path` to be a .npz file with arrays mu and sigma, got"),
        ({"sigma": None}, "without sigma"),
        ({"mu": np.zeros((1, 2))}, "`path:mu` of shape (d,), d in [1, 2^20], got shape (1, 2)"),
        ({"mu": np.array([0, np.nan])}, "`path:mu` to be finite, got nan"),
        ({"mu": np.array([0, -1e160])}, "`path:mu` within 2^500 in magnitude, got -1e+160"),
        ({"sigma": np.eye(3)}, "`path:sigma` of shape (2, 2), got shape (3, 3)"),
        ({"sigma": np.full((2, 2), np.inf)}, "`path:sigma` to be finite, got inf"),
        ({"sigma": -np.eye(2)}, "`path:sigma` to have variances of at least 0, got -1.0"),
        (
            {"sigma": np.array([[1, 0.5], [0.500002, 1]])},
            "`path:sigma` to be symmetric, got 0.5 and 0.500002 in rows 0 and 1",
        ),
        ({"count": np.int64(1)}, "`path:count` to be an integer in [2, 2^53], got 1"),
        ({"count": np.float64(2.5)}, "`path:count` to be an integer in [2, 2^53], got 2.5"),
        ({"count": np.array([2, 3])}, "`path:count` of shape (), got shape (2,)"),
        ({"shift": np.ones(2)}, "`path:shift` to be mu less origin, got other numbers"),
        ({"origin": np.ones(3)}, "`path:origin` of shape (2,), got shape (3,)"),
    ],
)
def test_files_that_do_not_fit(change, text, tmp_path):
    content = {key: a for key, a in (good_file() | change).items() if a is not None}
    np.savez(tmp_path / "x.npz", **content)
    with pytest.raises(ValueError, match=f"^Moments.load: expected .*{re.escape(text)}"):
        Moments.load(tmp_path / "x.npz")


def test_files_that_are_none(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros(3))
    (tmp_path / "text.npz").write_text("nothing")
    np.savez(tmp_path / "whole.npz", **good_file())
    (tmp_path / "half.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:300])
    np.savez(tmp_path / "words.npz", mu=np.array(["a"]), sigma=np.eye(1))
    text = "^Moments.load: expected `path` to be a .npz file with arrays mu and sigma, got"
    for name in ("x.npy", "text.npz", "half.npz"):
        with pytest.raises(ValueError, match=text):
            Moments.load(tmp_path / name)
    with pytest.raises(TypeError, match=r"^Moments.load: expected `path:mu` of dtype float16"):
        Moments.load(tmp_path / "words.npz")
    with pytest.raises(
        FileNotFoundError, match=r"^Moments.load: expected `path` to be an existing"
    ):
        Moments.load(tmp_path / "nowhere.npz")
    with pytest.raises(OSError, match=r"^Moments.load: expected `path` to be a readable file"):
        Moments.load(tmp_path)
    with pytest.raises(TypeError, match=r"^Moments.load: expected `path` to be a path of type str"):
        Moments.load(3)
    moments = of(np.eye(2))
    with pytest.raises(TypeError, match=r"^Moments.save: expected `path` to be a path of type str"):
        moments.save(b"x.npz")
    with pytest.raises(OSError, match=r"^Moments.save: expected `path` to be a file that can be"):
        moments.save(tmp_path / "no" / "x.npz")
