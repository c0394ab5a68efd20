"""Arrays in the memory of a GPU: every protocol, layout and dtype; results in their library."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from checks import assert_same_bits
from device_arrays import Interface, Made, Named, Packed, Versioned

import fastgen
from fastgen import arrays, pairwise
from fastgen.device_rows import Caller

DTYPES = ("float16", "float32", "float64")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
KINDS = (Interface, Packed, Versioned)


def rows(dtype="float32", n=11, d=7):
    return np.random.default_rng(n * d).standard_normal((n, d)).astype(dtype)


def taken(value):
    return Caller("prdc").rows("real", value)


LAYOUTS = {
    "plain": lambda x: x,
    "every other row": lambda x: x[::2],
    "reversed rows": lambda x: x[::-1],
    "leading columns": lambda x: x[:, :5],
    "broadcast row": lambda x: np.broadcast_to(x[3], (4, 7)),
    "Fortran order": np.asfortranarray,
    "transposed": lambda x: x.T,
    "every other column": lambda x: x[:, ::2],
    "reversed columns": lambda x: x[:, ::-1],
    "single column": lambda x: x[:, 3:4],
    "single row": lambda x: x[5:6],
}
COPIED = ("Fortran order", "transposed", "every other column", "reversed columns")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(kind, dtype, layout):
    view = LAYOUTS[layout](rows(dtype))
    value = kind(view)
    found = taken(value)
    assert (found.shape, found.dtype, len(found)) == (view.shape, view.dtype, len(view))
    assert_same_bits(found[:], np.array(view, order="C"))
    assert (found.handle.pointer == value.pointer) == (layout not in COPIED)
    assert (found.handle.nbytes > 0) == (layout in COPIED)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_become_float64(kind, dtype):
    limits = np.iinfo(dtype)
    drawn = np.random.default_rng(0).integers(limits.min, limits.max, 28, dtype, endpoint=True)
    view = np.array([limits.min, limits.max, *drawn], dtype=dtype).reshape(5, 6)
    for some in (view, view[::-2, 1:]):
        assert_same_bits(taken(kind(some))[:], np.ascontiguousarray(some.astype(np.float64)))


def test_bfloat16_becomes_float32():
    bits = (rows(n=9, d=5).view(np.uint32) >> 16).astype(np.uint16)
    for some in (bits, bits[::2, 1:], bits[:, ::2], bits.T):
        for kind in (Packed, Versioned):
            found = taken(kind(some, dtype="bfloat16"))
            wide = (np.ascontiguousarray(some).astype(np.uint32) << 16).view(np.float32)
            assert_same_bits(found[:], wide)


def test_rows_and_blocks_of_them_come_to_the_host():
    x = rows(n=20)
    found = taken(Packed(x[::-1]))
    assert_same_bits(found[3:9], np.ascontiguousarray(x[::-1][3:9]))
    assert_same_bits(found[18:50], np.ascontiguousarray(x[::-1][18:]))
    assert_same_bits(found[7], x[::-1][7].copy())
    few = found.take(np.array([4, 0, 4]))
    assert_same_bits(few[:], x[::-1][[4, 0, 4]])
    assert_same_bits(found.widened(np.dtype("float64"))[:], x[::-1].astype(np.float64))
    assert found.widened(np.dtype("float32")) is found


def test_gradients_are_left_behind():
    class Tensor(Packed):
        requires_grad = True

        def __dlpack__(self, **options):
            raise BufferError("Can't export tensors that require gradient")

        def detach(self):
            return self.plain

    value = Tensor(rows())
    value.plain = Packed(rows())
    assert_same_bits(taken(value)[:], rows())


def test_negatives_of_what_is_in_memory_are_resolved():
    class Tensor(Packed):
        def is_neg(self):
            return True

        def resolve_neg(self):
            return Packed(-self.array)

    assert_same_bits(taken(Tensor(rows()))[:], -rows())
    numbers = Tensor(rows("float64")[2])
    assert_same_bits(arrays.as_numbers("f", "a", numbers), -rows("float64")[2])


# --- what is refused ------------------------------------------------------------------------------


def fails(error, text):
    return pytest.raises(error, match=f"^prdc: expected `real` {text}")


@pytest.mark.parametrize("kind", KINDS)
def test_unusable_arrays(kind):
    x = rows()
    for value, error, text in (
        (
            x[0],
            ValueError,
            r"of shape \(n, d\), got shape \(7,\); a single feature is real.reshape",
        ),
        (x[np.newaxis], ValueError, r"of shape \(n, d\), got shape \(1, 11, 7\)"),
        (x[:0], ValueError, r"with at least one row and one column, got shape \(0, 7\)"),
        (x[:, :0], ValueError, r"with at least one row and one column, got shape \(11, 0\)"),
        (x > 0, TypeError, "of dtype float16, float32, float64 or integer, got bool; convert it"),
        (x.astype(complex), TypeError, "of dtype .* or integer, got complex128; pass real and ima"),
        (np.where(x == x[3, 1], np.nan, x), ValueError, "to be finite, got nan in row 3, column 1"),
        (np.where(x == x[10, 6], -np.inf, x), ValueError, "to be finite, got -inf in row 10, colu"),
        (
            np.where(x == x[2, 2], 2.0**501, x.astype(float)),
            ValueError,
            r"within 2\^500 in magnitude, got 6.5467\d+e\+150 in row 2, column 2; multiply all",
        ),
    ):
        with fails(error, text):
            fastgen.prdc(real=kind(value), fake=kind(rows(n=9)), k=1)


def test_arrays_that_their_library_does_not_give_out():
    class Broken(Packed):
        def __dlpack__(self, **options):
            raise BufferError("Cannot export\nfor reasons")

    text = r"of dtype float16, float32 or float64 in GPU memory, got .*{} of dtype float32 \({}"
    with fails(TypeError, text.format("Broken", r"Cannot export\)")):
        taken(Broken(rows()))
    with fails(TypeError, text.format("Interface", "data type 'nonsense' not understood")):
        taken(Interface(rows(), typestr="nonsense"))


def test_arrays_that_kernels_cannot_read():
    class Float8(Packed):
        code = 10

    with fails(TypeError, "of dtype float16, float32, float64 or integer, got DLPack type 10"):
        taken(Float8(np.zeros((3, 2), dtype=np.uint8)))
    with fails(TypeError, "without a mask, got a masked array"):
        taken(Interface(rows(), mask=Interface(rows())))
    with fails(TypeError, "in native byte order, got >f4"):
        taken(Interface(rows(), typestr=">f4"))
    shifted = Interface(rows())
    shifted.pointer += 2
    with fails(ValueError, "aligned to its numbers, got an array that is not"):
        taken(shifted)
    elsewhere = Interface(rows())
    elsewhere.pointer = elsewhere.array.ctypes.data
    with fails(ValueError, "in the memory of a GPU, got an array that is not"):
        taken(elsewhere)


def test_newer_capsules_that_nobody_can_read():
    class Newer(Versioned):
        major = 2

    with pytest.raises(BufferError, match="a DLPack tensor of version 2"):
        taken(Newer(rows()))


def test_other_devices_than_cuda_are_refused():
    class Metal(Packed):
        def __dlpack_device__(self):
            return 8, 0

    text = "in CPU memory, got an array on device metal:0; this build has no backend for it; copy"
    with pytest.raises(fastgen.BackendUnavailableError, match=f"^prdc: expected `real` {text}"):
        fastgen.prdc(real=Metal(rows()), fake=rows())


# --- numbers and results --------------------------------------------------------------------------


def test_numbers_come_to_the_host():
    for value in (rows("float64"), rows("float64")[2], np.arange(5), np.array(3.5)):
        for kind in KINDS:
            assert_same_bits(arrays.as_numbers("f", "a", kind(value)), value.astype(np.float64))
    with pytest.raises(
        ValueError, match=r"^f: expected `a` with at most 2 axes, got shape \(1, 1, "
    ):
        arrays.as_numbers("f", "a", Packed(rows()[np.newaxis, np.newaxis]))
    with pytest.raises(ValueError, match=r"^f: expected `a` to be finite, got inf"):
        arrays.as_numbers("f", "a", Packed(np.array([1.0, np.inf])))
    assert arrays.as_numbers("f", "a", Packed(np.empty(0))).shape == (0,)


def unpacked(found):
    if isinstance(found, Made):
        assert found.device == "cuda:0"
        return found.values
    return found


def test_results_are_made_by_the_library_of_the_first_array_on_its_device():
    x, y = rows(n=40, d=12), rows(n=30, d=12)
    made = fastgen.knn_radii(Named(x), k=[1, 3])
    assert all(isinstance(one, Made) for one in made)
    assert_same_bits([unpacked(one) for one in made], fastgen.knn_radii(x, k=[1, 3]))
    found, expected = fastgen.nearest(Named(x), Packed(y), k=2), fastgen.nearest(x, y, k=2)
    assert_same_bits(unpacked(found.distances), expected.distances)
    assert_same_bits(unpacked(found.indices), expected.indices)
    assert isinstance(found.indices, Made)
    several = fastgen.nearest(Named(x), k=[1, 2])
    assert isinstance(several[1].distances, Made)
    found, expected = (
        fastgen.membership(real=real, fake=y if real is x else Packed(y), k=2)
        for real in (Named(x), x)
    )
    for name in ("fake_in_real", "real_in_fake", "fake_counts", "realism"):
        assert isinstance(getattr(found, name), Made)
        assert_same_bits(unpacked(getattr(found, name)), getattr(expected, name))
    squares, places = pairwise.sq_knn(Named(x), Packed(y), 3, indices=True)
    assert_same_bits((unpacked(squares), unpacked(places)), pairwise.sq_knn(x, y, 3, indices=True))
    counts = pairwise.ball_counts(Named(x), Packed(y), np.full(40, 9.0))
    expected = pairwise.ball_counts(x, y, np.full(40, 9.0))
    assert_same_bits({name: unpacked(one) for name, one in counts.items()}, expected)
    ratios = pairwise.sq_realism(Named(x), Packed(y), np.full(40, 9.0))
    assert_same_bits(unpacked(ratios), pairwise.sq_realism(x, y, np.full(40, 9.0)))


def test_results_without_a_library_are_numpy_arrays():
    x = rows(n=40, d=12)
    for kind in KINDS:
        assert_same_bits(fastgen.knn_radii(kind(x)), fastgen.knn_radii(x))


@pytest.mark.parametrize("wide", [False, True])
def test_jax_that_would_round_results_does_not_make_them(monkeypatch, wide):
    jax = SimpleNamespace(config=SimpleNamespace(jax_enable_x64=wide), Array=type("Array", (), {}))
    monkeypatch.setitem(sys.modules, "jax", jax)
    kind = type("ArrayImpl", (Named,), {"__module__": "jaxlib._jax"})
    x = rows(n=40, d=12)
    found = fastgen.knn_radii(kind(x))
    assert isinstance(found, Made if wide else np.ndarray)
    assert_same_bits(unpacked(found), fastgen.knn_radii(x))


def test_radii_may_stay_on_the_device():
    x, y = rows(n=40, d=12), rows(n=30, d=12)
    sq_radii = pairwise.sq_knn(x, k=3)[0][:, 2].copy()
    expected = pairwise.ball_counts(x, y, sq_radii)
    assert_same_bits(pairwise.ball_counts(Packed(x), Packed(y), Packed(sq_radii)), expected)
    assert_same_bits(pairwise.ball_counts(x, y, Interface(sq_radii)), expected)


def test_every_join_takes_arrays_on_the_device():
    x, y = rows("float16", 60, 20), rows("float64", 50, 20)
    sets = {"real": x, "fake": y}
    there = {"real": Packed(x), "fake": Interface(y)}
    for name in ("prdc", "precision_recall", "membership"):
        function = getattr(fastgen, name)
        assert_same_bits(function(**there, k=[1, 4]), function(**sets, k=[1, 4]))
    report = fastgen.evaluate(**there, metrics=["prdc"])
    assert report.metrics == fastgen.evaluate(**sets, metrics=["prdc"]).metrics
    assert (report.n, report.m, report.d) == (60, 50, 20)


def test_rows_serve_several_calls():
    from fastgen.session import Session

    x, y = rows(n=50, d=20), rows(n=40, d=20)
    with Session("here") as session:
        first, second = session.pair("x", Packed(x), "y", Packed(y))
        session.check_values(first, second)
    squares, _ = pairwise.sq_knn(first, k=2)
    assert_same_bits(squares, pairwise.sq_knn(x, k=2)[0])
    radii = np.ascontiguousarray(squares[:, 1])
    assert_same_bits(pairwise.ball_counts(first, second, radii), pairwise.ball_counts(x, y, radii))
