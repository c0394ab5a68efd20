"""Streamed moments: right to rounding, same bits for any batches and threads, interruptible."""

from __future__ import annotations

import copy
import pickle
import re
import threading

import families
import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from checks import assert_same_bits

import fastgen
from fastgen import numpy_reference
from fastgen._core import Scatter
from fastgen.moments import Moments

ISAS = fastgen.info().instruction_sets


def of(*batches, **options):
    moments = Moments(batches[0].shape[1], **options)
    for batch in batches:
        moments.update(batch)
    return moments


def both(moments):
    return moments.mean, moments.covariance


def in_deviations(covariance, expected):
    """Return the largest error in units of the standard deviations."""
    scale = np.sqrt(expected.diagonal())
    scale = np.where(scale > 0, scale, 1.0)
    return np.abs((covariance - expected) / np.outer(scale, scale)).max()


def reference(x):
    found = numpy_reference.moments.Moments(x.shape[1])
    found.update(np.asarray(x))
    return found


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    ("n", "d"),
    [(2, 1), (5000, 1), (1919, 3), (1920, 7), (3838, 23), (4000, 25), (2500, 191), (2100, 200)],
)
def test_moments_equal_the_reference(n, d, isa, monkeypatch):
    monkeypatch.setenv("FASTGEN_ISA", isa)
    rng = families.seeded("moments", n, d)
    x = rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) + 3
    moments, expected = of(x), reference(x)
    assert (moments.d, moments.count) == (d, n)
    np.testing.assert_allclose(moments.mean, expected.mean, rtol=1e-12, atol=1e-12)
    assert moments.mean.dtype == moments.covariance.dtype == np.float64
    assert moments.covariance.shape == (d, d)
    assert in_deviations(moments.covariance, expected.covariance) < 2e-14
    assert_same_bits(moments.covariance, moments.covariance.T.copy())


def test_moments_equal_numpy_at_full_width():
    rng = families.seeded("wide")
    x = rng.standard_normal((2100, 2049), dtype=np.float32) * rng.uniform(0.1, 10, 2049) + 5
    moments = of(x.astype(np.float32))
    wide = x.astype(np.float32).astype(np.float64)
    np.testing.assert_allclose(moments.mean, wide.mean(axis=0), rtol=1e-13)
    assert in_deviations(moments.covariance, np.cov(wide.T)) < 1e-14


@pytest.mark.parametrize("family", families.DATA_FAMILIES)
def test_families(family):
    x, _ = families.DATA_FAMILIES[family](families.seeded("family"), 2300, 5, "float32")
    moments, expected = of(x), reference(x)
    assert in_deviations(moments.covariance, expected.covariance) < 2e-14
    scale = np.sqrt(expected.covariance.diagonal()) + np.abs(expected.mean)
    assert (np.abs(moments.mean - expected.mean) <= 1e-14 * scale).all()


@pytest.mark.parametrize("isa", ISAS)
@hypothesis.settings(max_examples=15)
@hypothesis.given(
    cuts=st.lists(st.integers(0, 4500), max_size=6), threads=st.sampled_from([1, 2, 5])
)
def test_neither_batches_nor_threads_change_a_bit(isa, cuts, threads):
    x = families.seeded("cuts").standard_normal((4500, 50), dtype=np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTGEN_ISA", isa)
        expected = both(of(x, threads=1))
        batches = [batch for batch in np.split(x, sorted(cuts)) if len(batch)]
        assert_same_bits(both(of(*batches, threads=threads)), expected)


def test_threads_share_the_tiles_of_a_wide_matrix():
    x = families.seeded("tiles").standard_normal((2500, 430))
    expected = both(of(x, threads=1))
    for threads in (2, 5):
        assert_same_bits(both(of(x[:700], x[700:], threads=threads)), expected)


def test_one_row_at_a_time():
    x = families.seeded("rows").standard_normal((4000, 3))
    assert_same_bits(both(of(*(x[i : i + 1] for i in range(4000)))), both(of(x)))


def test_batches_of_several_dtypes():
    x = families.seeded("dtypes").integers(-90, 90, (2400, 4))
    dtypes = ("float16", "int8", "float32", "float64")
    moments = of(*(part.astype(t) for part, t in zip(np.split(x, 4), dtypes, strict=True)))
    assert_same_bits(both(moments), both(of(x.astype(np.float64))))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32", "uint8"])
def test_dtypes_are_widened_exactly(dtype):
    x = (40 * families.seeded("wide", dtype).random((2000, 30)) + 1).astype(dtype)
    assert_same_bits(both(of(x)), both(of(x.astype(np.float64))))


def test_layouts_and_files(tmp_path):
    x = families.seeded("layouts").standard_normal((2000, 21), dtype=np.float32)
    expected = both(of(x))
    padded = np.zeros((4000, 40), dtype=np.float32)
    padded[::2, 3:24] = x
    np.save(tmp_path / "x.npy", x)
    for view in (padded[::2, 3:24], x[::-1].copy()[::-1], np.asfortranarray(x)):
        assert_same_bits(both(of(view)), expected)
    assert_same_bits(both(of(np.load(tmp_path / "x.npy", mmap_mode="r"))), expected)
    moments = Moments(21)
    moments.update(tmp_path / "x.npy")
    assert_same_bits(both(moments), expected)


def test_torch_tensors():
    torch = pytest.importorskip("torch")
    x = torch.arange(12, dtype=torch.float32).reshape(6, 2)
    moments = Moments(2)
    for part in (x[:4], x[4:].to(torch.bfloat16)):
        moments.update(part)
    assert_same_bits(both(moments), both(of(x.numpy())))


def test_a_mean_of_1e9_deviations_keeps_its_digits():
    # Multiples of 2^-20 beside 2^30 are exact in float64, so that moving them rounds nothing.
    rng = families.seeded("far")
    x = np.round(rng.standard_normal((6000, 5)) * 2.0**20) / 2.0**20
    far = of(x + 2.0**30)
    np.testing.assert_allclose(far.covariance, np.cov(x.T), atol=1e-14)
    np.testing.assert_allclose(far.mean - 2.0**30, x.mean(axis=0), atol=1e-6)
    parts = [of(part + 2.0**30) for part in np.split(x, 4)]
    for part in parts[1:]:
        parts[0].merge(part)
    np.testing.assert_allclose(parts[0].covariance, np.cov(x.T), atol=1e-14)


def test_a_first_row_far_away_is_forgiven():
    x = families.seeded("outlier").standard_normal((5000, 3))
    x[0] = 1e8
    exact = np.cov((x - x.mean(axis=0)).T)
    assert in_deviations(of(x).covariance, exact) < 1e-14


def test_a_drifting_mean():
    x = families.seeded("drift").standard_normal((9000, 4)) + np.arange(9000)[:, None] * 10.0
    assert in_deviations(of(x).covariance, np.cov(x.T)) < 2e-14


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2), (2, 3, 1, 0)])
def test_merging_in_any_order(order):
    x = families.seeded("merge").standard_normal((6000, 30)) * np.geomspace(1e-3, 1e3, 30) + 7
    parts = [of(part) for part in np.split(x, [1, 1900, 4500])]
    before = [both(parts[i]) for i in (1, 2, 3)]
    total = Moments(30)
    for i in order:
        total.merge(parts[i])
    assert total.count == 6000
    np.testing.assert_allclose(total.mean, x.mean(axis=0), rtol=1e-13)
    assert in_deviations(total.covariance, np.cov(x.T)) < 1e-14
    assert_same_bits(total.covariance, total.covariance.T.copy())
    assert_same_bits([both(parts[i]) for i in (1, 2, 3)], before)


def test_merging_nothing_and_itself():
    x = families.seeded("itself").standard_normal((2500, 3))
    moments, few = of(x), of(x[:5])
    expected = both(moments)
    moments.merge(Moments(3))
    assert_same_bits(both(moments), expected)
    moments.merge(moments)
    few.merge(few)
    assert (moments.count, few.count) == (5000, 10)
    assert in_deviations(moments.covariance, np.cov(np.tile(x.T, 2))) < 1e-14
    assert in_deviations(few.covariance, np.cov(np.tile(x[:5].T, 2))) < 1e-14
    few.update(x)
    assert in_deviations(few.covariance, np.cov(np.vstack([x[:5], x[:5], x]).T)) < 1e-14


def test_looking_changes_nothing():
    x = families.seeded("look").standard_normal((2500, 6))
    moments = Moments(6)
    for part in np.split(x, 25):
        moments.update(part)
        moments.mean[:] = moments.covariance[:] = 9.0
        moments.merge(Moments(6))
        pickle.dumps(moments)
    assert_same_bits(both(moments), both(of(x)))


@pytest.mark.parametrize("n", [0, 1, 40, 1919, 2500])
def test_copies_and_pickles_go_on_to_the_bit(n):
    x = families.seeded("pickle").standard_normal((5000, 200))
    moments = of(x[:n], threads=2) if n else Moments(200, threads=2)
    expected = both(of(x))
    for twin in (pickle.loads(pickle.dumps(moments)), copy.copy(moments), copy.deepcopy(moments)):
        assert repr(twin) == repr(moments) == f"Moments(d=200, count={n})"
        twin.update(x[n:])
        assert_same_bits(both(twin), expected)
    assert moments.count == n


def test_too_few_rows(tmp_path):
    moments = Moments(2)
    with pytest.raises(ValueError, match=r"^Moments.mean: expected `count` of at least 1, got 0$"):
        _ = moments.mean
    moments.update(np.array([[1.0, 2.0]]))
    assert moments.mean.tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match=r"^Moments.covariance: expected `count` of at least 2"):
        _ = moments.covariance
    with pytest.raises(ValueError, match=r"^Moments.save: expected `count` of at least 2, got 1$"):
        moments.save(tmp_path / "x.npz")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "options", "error", "text"),
    [
        ((0,), {}, ValueError, "`d` in [1, 2^20], got 0"),
        ((2**20 + 1,), {}, ValueError, "`d` in [1, 2^20], got 1048577"),
        ((2.0,), {}, TypeError, "`d` to be an int"),
        ((2,), {"threads": 0}, ValueError, "`threads` of at least 1, got 0"),
        ((2,), {"threads": "2"}, TypeError, "`threads` to be an int"),
    ],
)
def test_bad_arguments(arguments, options, error, text):
    with pytest.raises(error, match=f"^Moments: expected {re.escape(text)}"):
        Moments(*arguments, **options)


@pytest.mark.parametrize(
    ("batch", "error", "text"),
    [
        (np.zeros((3, 4)), ValueError, "`batch` with d = 3 columns, got shape (3, 4)"),
        (np.zeros(3), ValueError, "`batch` of shape (n, d), got shape (3,)"),
        (np.zeros((0, 3)), ValueError, "`batch` with at least one row and one column"),
        (np.full((1, 3), np.nan), ValueError, "`batch` to be finite, got nan in row 0, column 0"),
        (np.full((1, 3), 2.0**501), ValueError, "`batch` within 2^500 in magnitude"),
        ([[1.0, 2.0, 3.0]], TypeError, "`batch` to be an array"),
        (np.zeros((3, 3), dtype=complex), TypeError, "`batch` of dtype float16, float32"),
        ("nowhere.npy", FileNotFoundError, "`batch` to be an existing file"),
    ],
)
def test_a_failed_update_changes_nothing(batch, error, text):
    x = families.seeded("failed").standard_normal((2000, 3))
    moments = of(x)
    expected = both(moments)
    with pytest.raises(error, match=f"^Moments.update: expected {re.escape(text)}"):
        moments.update(batch)
    bad = np.vstack([x, [[0, 0, np.inf]]])
    with pytest.raises(ValueError, match="got inf in row 2000, column 2"):
        moments.update(bad)
    assert moments.count == 2000
    assert_same_bits(both(moments), expected)


def test_bad_merges():
    moments = Moments(2)
    with pytest.raises(
        TypeError, match=r"^Moments.merge: expected `other` to be a Moments, got int"
    ):
        moments.merge(3)
    text = r"^Moments.merge: expected `other` with d = 2 features, got 3$"
    with pytest.raises(ValueError, match=text):
        moments.merge(Moments(3))


def test_variances_beyond_float64_are_an_error(tmp_path):
    x = np.array([[0.0, 1.0], [2.0**500, 2.0]])
    moments = of(x)
    assert moments.covariance[0, 0] == 2.0**999
    for _ in range(27):
        moments.merge(moments)
    text = "expected `variances` within float64, got inf for feature 0"
    with pytest.raises(ValueError, match=f"^Moments.covariance: {text}"):
        _ = moments.covariance
    with pytest.raises(ValueError, match=f"^Moments.save: {text}"):
        moments.save(tmp_path / "x.npz")


@pytest.mark.parametrize("at", [0.0, 0.5, 1.0])
def test_an_exception_from_progress_changes_nothing(at, monkeypatch):
    monkeypatch.setattr("fastgen.workers._ADVANCE_SECONDS", 0.0)
    x = families.seeded("progress").standard_normal((9000, 10))
    moments = of(x[:2500])
    expected = both(moments)

    def stop(done):
        if done >= at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        moments.update(x[2500:], progress=stop)
    assert moments.count == 2500
    assert_same_bits(both(moments), expected)
    moments.update(x[2500:])
    assert_same_bits(both(moments), both(of(x)))


def test_progress_tells_the_fraction(monkeypatch):
    monkeypatch.setattr("fastgen.workers._ADVANCE_SECONDS", 0.0)
    told = []
    x = families.seeded("fraction").standard_normal((9000, 400))
    Moments(400).update(x, progress=told.append)
    assert len(told) > 5
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_calls_from_within_progress_are_refused():
    moments, other = Moments(2), Moments(2)
    text = "expected `progress` to leave the moments alone, got a call from within"
    x, refused = np.ones((4000, 2)), []

    def inside(_):
        for call in (
            lambda: moments.update(x),
            lambda: moments.covariance,
            lambda: other.merge(moments),
            lambda: moments.merge(other),
        ):
            with pytest.raises(RuntimeError, match=text):
                call()
            refused.append(call)

    moments.update(x, progress=inside)
    assert len(refused) >= 4
    assert moments.count == 4000
    assert moments.covariance.tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert other.count == 0


def test_python_threads_share_an_object():
    x = families.seeded("share").integers(-9, 9, (8000, 40)).astype(np.float64)
    moments, other = Moments(40, threads=2), of(x[:100])

    def work(part):
        for batch in np.split(part, 20):
            moments.update(batch)
            _ = moments.covariance, moments.mean
        moments.merge(other)
        other.merge(Moments(40))

    threads = [threading.Thread(target=work, args=(part,)) for part in np.split(x, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = np.vstack([x, *[x[:100]] * 4])
    assert moments.count == 8400
    assert in_deviations(moments.covariance, np.cov(whole.T)) < 1e-13


def test_chunks_stay_small():
    for d in (1, 24, 2048, 2184, 2185, 8192, 16384):
        rows = Scatter.chunk_rows(d)
        assert rows * d * 8 <= 32 << 20
        assert (rows + 1) % 128 == 0
    assert (Scatter.chunk_rows(1), Scatter.chunk_rows(2184), Scatter.chunk_rows(2**20)) == (
        1919,
        1919,
        127,
    )
