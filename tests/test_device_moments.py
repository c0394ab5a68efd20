"""Moments on a device: right to their stated error, one set of bits for any batches."""

from __future__ import annotations

import copy
import itertools
import pickle
import re

import families
import numpy as np
import pytest
from checks import assert_same_bits
from library_arrays import library, stopping

from fastgen import Moments, numpy_reference
from fastgen.library_devices import Device

__all__ = ["library"]  # a fixture

#: The error of a covariance in units of the deviations, for up to 10,000 rows.
STATED = 2.0**-53 * (1920 + 6)


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


@pytest.mark.parametrize(
    ("n", "d"), [(2, 1), (5000, 1), (1919, 3), (1920, 7), (3838, 23), (2100, 200)]
)
def test_moments_equal_the_reference(n, d, library):
    rng = families.seeded("moments", n, d)
    x = rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) + 3
    moments, expected = of(library(x)), reference(x)
    assert (moments.d, moments.count, moments.device) == (d, n, library.device)
    np.testing.assert_allclose(moments.mean, expected.mean, rtol=1e-12, atol=1e-12)
    assert moments.mean.dtype == moments.covariance.dtype == np.float64
    assert in_deviations(moments.covariance, expected.covariance) < STATED
    assert_same_bits(moments.covariance, moments.covariance.T.copy())


@pytest.mark.parametrize("family", families.DATA_FAMILIES)
def test_families(family, library):
    x, _ = families.DATA_FAMILIES[family](families.seeded("family"), 2300, 5, "float32")
    moments, expected = of(library(x)), reference(x)
    assert in_deviations(moments.covariance, expected.covariance) < STATED
    scale = np.sqrt(expected.covariance.diagonal()) + np.abs(expected.mean)
    assert (np.abs(moments.mean - expected.mean) <= 1e-14 * scale).all()


@pytest.mark.parametrize(
    "cuts", [(), (1,), (1918,), (1919,), (1920, 3838), (5, 5, 4000), tuple(range(0, 4500, 61))]
)
def test_batches_do_not_change_a_bit(cuts, library):
    x = families.seeded("cuts").standard_normal((4500, 50), dtype=np.float32)
    whole = library(x)
    expected = both(of(whole))
    batches = [whole[a:b] for a, b in itertools.pairwise([0, *cuts, 4500]) if b > a]
    assert_same_bits(both(of(*batches)), expected)


def test_layouts_do_not_change_a_bit(library):
    x = families.seeded("layouts").standard_normal((2500, 21))
    expected = both(of(library(x)))
    assert_same_bits(both(of(library(x.T).T)), expected)
    apart = library(np.repeat(np.repeat(x, 2, axis=0), 3, axis=1))
    assert_same_bits(both(of(apart[::2, ::3])), expected)


def test_one_row_at_a_time(library):
    x = families.seeded("rows").standard_normal((200, 3))
    whole = library(x)
    assert_same_bits(both(of(*(whole[i : i + 1] for i in range(200)))), both(of(whole)))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint8", "int32"])
def test_dtypes_are_widened_exactly(dtype, library):
    x = (40 * families.seeded("wide", dtype).random((2000, 30)) + 1).astype(dtype)
    expected = both(of(library(x.astype(np.float64))))
    assert_same_bits(both(of(library(x))), expected)
    assert_same_bits(both(of(library(x), device="cpu")), both(of(x)))


def test_bfloat16(library):
    if library.name == "cupy":
        pytest.skip("CuPy has no bfloat16")
    x = families.seeded("bfloat16").integers(-90, 90, (2000, 4))
    moments = of(library(x, "bfloat16"))
    assert_same_bits(both(moments), both(of(library(x.astype(np.float64)))))


def test_a_mean_of_1e9_deviations_keeps_its_digits(library):
    # Multiples of 2^-20 beside 2^30 are exact in float64, so that moving them rounds nothing.
    x = np.round(families.seeded("far").standard_normal((6000, 5)) * 2.0**20) / 2.0**20
    far = of(library(x + 2.0**30))
    np.testing.assert_allclose(far.covariance, np.cov(x.T), atol=1e-14)
    np.testing.assert_allclose(far.mean - 2.0**30, x.mean(axis=0), atol=1e-6)


def test_a_drifting_mean(library):
    x = families.seeded("drift").standard_normal((9000, 4)) + np.arange(9000)[:, None] * 10.0
    assert in_deviations(of(library(x)).covariance, np.cov(x.T)) < STATED


def test_rows_may_be_overwritten_after_the_call(library):
    if library.name == "jax":
        pytest.skip("JAX arrays are not overwritten")
    x = families.seeded("overwritten").standard_normal((3000, 4))
    expected, buffer, moments = both(of(library(x))), library(x[:1000]), Moments(4)
    for part in np.split(x, 3):
        buffer[:] = library(part)
        moments.update(buffer)
    assert_same_bits(both(moments), expected)


# --- where the sums are ---------------------------------------------------------------------------


def test_rows_from_elsewhere_are_brought_to_the_sums(library):
    x = families.seeded("elsewhere").standard_normal((4000, 6), dtype=np.float32)
    there, here = both(of(library(x))), both(of(x))
    assert_same_bits(both(of(library(x[:100]), x[100:])), there)
    moments = of(x[:100], library(x[100:]))
    assert moments.device == "cpu"
    assert_same_bits(both(moments), here)
    assert_same_bits(both(of(library(x), device="cpu")), here)


def test_rows_of_read_only_memory_are_brought_too(library, tmp_path):
    x = families.seeded("read-only").standard_normal((3000, 6))
    np.save(tmp_path / "x.npy", x)
    moments = of(library(x[:1]))
    moments.update(np.load(tmp_path / "x.npy", mmap_mode="r")[1:])
    assert_same_bits(both(moments), both(of(library(x))))


def parts_of(x, library, kinds):
    cuts = np.split(x, [1, 1900, 4500])
    return [of(library(p) if kind == "there" else p) for p, kind in zip(cuts, kinds, strict=True)]


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2)])
@pytest.mark.parametrize(
    "kinds",
    [("there",) * 4, ("there", "here", "here", "there"), ("here", "there", "there", "here")],
)
def test_merging_in_any_order_and_from_anywhere(order, kinds, library):
    x = families.seeded("merge").standard_normal((6000, 30)) * np.geomspace(1e-3, 1e3, 30) + 7
    parts = parts_of(x, library, kinds)
    before = [both(parts[i]) for i in (1, 2, 3)]
    total = Moments(30)
    for i in order:
        total.merge(parts[i])
    assert total.count == 6000
    assert total.device == parts[order[0]].device
    np.testing.assert_allclose(total.mean, x.mean(axis=0), rtol=1e-13)
    assert in_deviations(total.covariance, np.cov(x.T)) < STATED
    assert_same_bits(total.covariance, total.covariance.T.copy())
    assert_same_bits([both(parts[i]) for i in (1, 2, 3)], before)


def test_merging_nothing_and_itself(library):
    x = families.seeded("itself").standard_normal((2500, 3))
    moments, few = of(library(x)), of(library(x[:5]))
    expected = both(moments)
    moments.merge(Moments(3))
    assert_same_bits(both(moments), expected)
    moments.merge(moments)
    few.merge(few)
    assert (moments.count, few.count) == (5000, 10)
    assert in_deviations(moments.covariance, np.cov(np.tile(x.T, 2))) < STATED
    assert in_deviations(few.covariance, np.cov(np.tile(x[:5].T, 2))) < STATED
    few.update(library(x))
    assert in_deviations(few.covariance, np.cov(np.vstack([x[:5], x[:5], x]).T)) < STATED


@pytest.mark.parametrize("n", [1, 40, 1919, 2500])
def test_copies_and_pickles_go_on_to_the_bit(n, library):
    x = families.seeded("pickle").standard_normal((5000, 60))
    moments = of(library(x[:n]))
    expected, now = both(of(library(x))), moments.mean
    for twin in (pickle.loads(pickle.dumps(moments)), copy.copy(moments), copy.deepcopy(moments)):
        assert repr(twin) == repr(moments) == f"Moments(d=60, count={n})"
        assert_same_bits(twin.mean, now)
        twin.update(library(x[n:]))
        assert twin.device == library.device
        assert_same_bits(both(twin), expected)
    assert moments.count == n


def test_a_pickle_goes_on_where_there_is_no_such_device(library, monkeypatch):
    x = families.seeded("elsewhere").standard_normal((5000, 6))
    pickled = pickle.dumps(of(library(x[:3000])))
    monkeypatch.setattr("fastgen.library_devices.device_named", lambda *names: "no such device")
    moments = pickle.loads(pickled)
    moments.update(x[3000:])
    assert (moments.device, moments.count) == ("cpu", 5000)
    assert in_deviations(moments.covariance, np.cov(x.T)) < STATED


def test_files_go_on_anywhere(library, tmp_path):
    x = families.seeded("save").standard_normal((5000, 20)) + 1e9
    for first, rest in ((library(x[:3000]), x[3000:]), (x[:3000], library(x[3000:]))):
        moments = of(first)
        moments.save(tmp_path / "moments.npz")
        loaded = Moments.load(tmp_path / "moments.npz")
        assert_same_bits(loaded.mean, moments.mean)
        np.testing.assert_allclose(loaded.covariance, moments.covariance, rtol=2.0**-51)
        loaded.update(rest)
        assert loaded.device == (library.device if rest is not x[3000:] else "cpu")
        assert in_deviations(loaded.covariance, np.cov((x - 1e9).T)) < STATED


# --- what changes nothing -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (lambda x: x[:, :2], ValueError, "`batch` with d = 3 columns, got shape (2001, 2)"),
        (lambda x: x[0], ValueError, "`batch` of shape (n, d), got shape (3,)"),
        (lambda x: x[:0], ValueError, "`batch` with at least one row and one column"),
        (
            lambda x: np.where(x == x[2000, 2], np.nan, x),
            ValueError,
            "`batch` to be finite, got nan in row 2000, column 2",
        ),
        (
            lambda x: np.where(x == x[7, 1], -np.inf, x).astype("f4"),
            ValueError,
            "`batch` to be finite, got -inf in row 7, column 1",
        ),
        (
            lambda x: np.where(x == x[1, 0], 2.0**501, x),
            ValueError,
            f"`batch` within 2^500 in magnitude, got {2.0**501} in row 1, column 0",
        ),
        (lambda x: x > 0, TypeError, "`batch` of dtype float16, float32, float64 or integer, got"),
        (lambda x: x * 1j, TypeError, "`batch` of dtype float16, float32, float64 or integer, got"),
    ],
)
def test_a_failed_update_changes_nothing(change, error, text, library, monkeypatch):
    monkeypatch.setattr("fastgen.library_rows._BLOCK_BYTES", 999)  # many blocks
    x = families.seeded("failed").standard_normal((2001, 3))
    moments = of(library(x))
    expected = both(moments)
    with pytest.raises(error, match=f"^Moments.update: expected {re.escape(text)}"):
        moments.update(library(change(x)))
    assert moments.count == 2001
    assert_same_bits(both(moments), expected)
    fresh = Moments(3)
    with pytest.raises(error, match=r"^Moments.update: expected"):
        fresh.update(library(change(x)))
    assert (fresh.count, fresh.device) == (0, "cpu")


def test_the_worse_of_two_bad_numbers_is_told(library):
    x = np.ones((4, 3))
    x[2] = [1.0, 2.0**501, np.nan]
    with pytest.raises(ValueError, match="to be finite, got nan in row 2, column 2"):
        of(library(x))
    x[1, 1] = 2.0**501
    with pytest.raises(ValueError, match="in row 1, column 1; multiply all sets"):
        of(library(x))


@pytest.mark.parametrize("at", [0.0, 0.5, 1.0])
def test_an_exception_from_progress_changes_nothing(at, library, monkeypatch):
    monkeypatch.setattr("fastgen.workers._ADVANCE_SECONDS", 0.0)
    x = library(families.seeded("progress").standard_normal((9000, 10)))
    moments, fresh = of(x[:2500]), Moments(10)
    expected = both(moments)
    for one in (moments, fresh):
        with pytest.raises(KeyboardInterrupt):
            one.update(x[2500:], progress=stopping(at))
    assert (moments.count, fresh.count, fresh.device) == (2500, 0, "cpu")
    assert_same_bits(both(moments), expected)
    moments.update(x[2500:])
    assert_same_bits(both(moments), both(of(x)))


def test_progress_tells_the_fraction(library, monkeypatch):
    monkeypatch.setattr("fastgen.workers._ADVANCE_SECONDS", 0.0)
    told = []
    Moments(4).update(library(np.ones((9000, 4))), progress=told.append)
    assert len(told) == 4
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_looking_changes_nothing(library):
    x = families.seeded("look").standard_normal((2500, 6))
    moments, whole = Moments(6), library(x)
    for start in range(0, 2500, 100):
        moments.update(whole[start : start + 100])
        moments.mean[:] = moments.covariance[:] = 9.0
        moments.merge(Moments(6))
        pickle.dumps(moments)
    assert_same_bits(both(moments), both(of(whole)))


def test_variances_beyond_float64_are_an_error(library):
    moments = of(library(np.array([[0.0, 1.0], [2.0**500, 2.0]])))
    assert moments.covariance[0, 0] == 2.0**999
    for _ in range(27):
        moments.merge(moments)
    text = "expected `variances` within float64, got inf for feature 0"
    with pytest.raises(ValueError, match=f"^Moments.covariance: {text}"):
        _ = moments.covariance


# --- streams and memory ---------------------------------------------------------------------------


class Stream:
    """A stream of a device that notes what waits for it."""

    def __init__(self, name, log):
        self.name, self._log = name, log

    def synchronize(self):
        self._log.append(self.name)


def test_another_stream_waits_for_the_one_before(library):
    log, x = [], families.seeded("streams").standard_normal((4000, 3))
    first, second = Stream("first", log), Stream("second", log)
    current = [first]

    class WithStreams(Device):
        def stream(self):
            return current[0]

    whole = library(x)
    device = of(whole).place
    device = WithStreams(device.xp, device.handle, device.library, device.name)
    moments = Moments.on(3, device, 1)
    moments.update(whole[:100])
    moments.update(whole[100:2000])
    assert log == []
    current[0] = second
    moments.update(whole[2000:])
    # The old work is over, and its memory is let go only when the copies are made.
    assert log == ["first", "second"]
    assert_same_bits(both(moments), both(of(whole)))
    assert log == ["first", "second"]


def test_lack_of_memory_on_the_device_is_told_alike(library):
    device = of(library(np.ones((2, 2)))).place

    class OutOfMemoryError(RuntimeError):
        pass

    text = f"fastgen: out of memory on {library.device}: tried to allocate 2 GB"
    with pytest.raises(MemoryError, match=f"^{text}$"), device.context():
        raise OutOfMemoryError("tried to allocate 2 GB")
    text = "CUDA error: out of memory"  # of torch's other allocations
    with pytest.raises(MemoryError, match=text), device.context(), device.context():
        raise RuntimeError(text)
    text = f"^fastgen: out of memory on {library.device}: cudaErrorMemoryAllocation"
    with pytest.raises(MemoryError, match=text), device.context(), device.context():
        raise RuntimeError("cudaErrorMemoryAllocation: out of memory")
    with pytest.raises(ZeroDivisionError), device.context():
        raise ZeroDivisionError
