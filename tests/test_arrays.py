"""The validator: every kind of input that is accepted, copied only where it has to be."""

from __future__ import annotations

import array
import ctypes

import numpy as np
import pytest
from checks import assert_same_bits

import fastgen
from fastgen import arrays, namespaces

DTYPES = ("float16", "float32", "float64")


def rows(dtype="float32", n=11, d=7):
    return np.random.default_rng(n * d).standard_normal((n, d)).astype(dtype)


def as_rows(value):
    return arrays.as_rows("prdc", "real", value)


def shares_memory(a, b):
    return np.may_share_memory(a, b)


# --- NumPy arrays in every layout ---------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_plain_arrays_are_read_in_place(dtype):
    x = rows(dtype)
    found = as_rows(x)
    assert type(found) is np.ndarray
    assert shares_memory(found, x)
    assert_same_bits(found, x)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "layout",
    [
        "every other row",
        "reversed rows",
        "leading columns",
        "broadcast row",
        "sliding window",
        "read-only",
    ],
)
def test_any_row_stride_is_read_in_place(dtype, layout):
    x = rows(dtype, n=12)
    view = {
        "every other row": x[::2],
        "reversed rows": x[::-1],
        "leading columns": x[:, :5],
        "broadcast row": np.broadcast_to(x[3], (4, 7)),
        "sliding window": np.lib.stride_tricks.sliding_window_view(x.ravel(), 9),
        "read-only": x.view(),
    }[layout]
    if layout == "read-only":
        view.flags.writeable = False
    found = as_rows(view)
    assert shares_memory(found, x)
    assert_same_bits(found, np.array(view))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "layout", ["Fortran order", "every other column", "reversed columns", "byte-swapped"]
)
def test_other_layouts_are_copied(dtype, layout):
    x = rows(dtype)
    view = {
        "Fortran order": np.asfortranarray(x),
        "every other column": x[:, ::2],
        "reversed columns": x[:, ::-1],
        "byte-swapped": x.astype(x.dtype.newbyteorder()),
    }[layout]
    found = as_rows(view)
    assert found.flags.c_contiguous
    assert found.dtype.isnative
    assert_same_bits(found, np.array(view, dtype=dtype, order="C"))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_unaligned_arrays_are_copied(dtype):
    x = rows(dtype)
    buffer = np.zeros(x.nbytes + 1, dtype=np.uint8)
    view = buffer[1:].view(dtype).reshape(x.shape)
    view[:] = x
    assert not view.flags.aligned
    found = as_rows(view)
    assert found.flags.aligned
    assert_same_bits(found, x)


def test_field_of_a_structured_array():
    table = np.zeros((9, 5), dtype=[("id", "i4"), ("value", "f4")])
    table["value"] = rows(n=9, d=5)
    assert_same_bits(as_rows(table["value"]), rows(n=9, d=5))


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1)])
def test_single_rows_and_columns(shape):
    x = rows(n=20, d=20)
    for view in (x[: shape[0], : shape[1]], x.T[: shape[0], : shape[1]], x[::-7, ::-3][:1, :1]):
        found = as_rows(view)
        assert_same_bits(found, np.array(view, order="C"))
        assert found.strides[1] == found.itemsize


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", ">i4"])
def test_integers_become_float64(dtype):
    x = np.arange(12).reshape(4, 3).astype(dtype)
    assert_same_bits(as_rows(x), np.arange(12.0).reshape(4, 3))


def test_matrix_subclass_is_seen_as_an_array():
    with pytest.warns(PendingDeprecationWarning):
        x = np.matrix([[1.0, 2.0], [3.0, 4.0]])
    assert type(as_rows(x)) is np.ndarray


def test_blocks_cover_every_row(monkeypatch):
    monkeypatch.setattr(arrays, "_BLOCK_BYTES", 100)  # three rows
    x = rows("float32", n=31, d=8)
    assert_same_bits(as_rows(x[:, ::-1]), np.ascontiguousarray(x[:, ::-1]))
    for bad in (0, 2, 3, 17, 30):
        y = x.copy()
        y[bad:, 5] = np.inf
        with pytest.raises(ValueError, match=f"got inf in row {bad}, column 5"):
            as_rows(y)


# --- protocols ------------------------------------------------------------------------------------


class Holder:
    """Something that is no array but speaks one protocol."""

    def __init__(self, value, **attributes):
        self.value = value
        for name, attribute in attributes.items():
            setattr(self, name, attribute)


class Packed(Holder):
    def __dlpack__(self, **options):
        return self.value.__dlpack__(**options)

    def __dlpack_device__(self):
        return getattr(self, "device", self.value.__dlpack_device__())


@pytest.mark.parametrize("dtype", DTYPES)
def test_dlpack(dtype):
    x = rows(dtype)
    found = as_rows(Packed(x))
    assert shares_memory(found, x)
    assert_same_bits(found, x)


def test_dlpack_strides_and_integers():
    x = np.arange(30).reshape(5, 6)
    assert_same_bits(as_rows(Packed(x[::2, ::-1])), x[::2, ::-1].astype(np.float64))


def test_dlpack_read_only():
    x = rows()
    x.flags.writeable = False
    assert_same_bits(as_rows(Packed(x)), x)


@pytest.mark.parametrize("kind", [3, 11])
def test_dlpack_pinned_memory_is_on_the_host(kind):
    # NumPy reads host memory whatever name it goes by; ROCm's it does not know in every version.
    packed = Packed(rows(), device=(kind, 0))
    try:
        np.from_dlpack(packed)
    except (BufferError, RuntimeError):
        pytest.skip("this NumPy refuses it")
    assert_same_bits(as_rows(packed), rows())


@pytest.mark.parametrize(("kind", "name"), [(2, "cuda:1"), (10, "rocm:1"), (8, "metal:1")])
def test_dlpack_on_a_gpu(kind, name, monkeypatch):
    monkeypatch.setenv("FASTGEN_CUDA_MODULE", "fastgen._nothing")
    text = f"^prdc: expected `fake` in CPU memory, got an array on device {name}; this build has no"
    with pytest.raises(fastgen.BackendUnavailableError, match=text):
        fastgen.prdc(real=rows(), fake=Packed(rows(), device=(kind, 1)))


def test_cuda_array_interface(monkeypatch):
    monkeypatch.setenv("FASTGEN_CUDA_MODULE", "fastgen._nothing")
    with pytest.raises(fastgen.BackendUnavailableError, match="got an array on a CUDA device"):
        as_rows(Holder(None, __cuda_array_interface__={}))


def test_gradients_are_left_behind():
    class Tensor(Packed):
        requires_grad = True

        def __dlpack__(self, **options):
            raise BufferError("Can't export tensors that require gradient")

        def detach(self):
            return self.value

    assert_same_bits(as_rows(Tensor(rows())), rows())


def test_array_interface():
    x = rows()
    found = as_rows(Holder(x, __array_interface__=x.__array_interface__))
    assert shares_memory(found, x)
    assert_same_bits(found, x)


def test_buffer_protocol():
    x = rows("float64", 4, 6)
    view = memoryview(bytearray(x.tobytes())).cast("d", shape=[4, 6])
    assert_same_bits(as_rows(view), x)
    with pytest.raises(ValueError, match=r"of shape \(n, d\), got shape \(3,\); a single feature"):
        as_rows(array.array("d", [1, 2, 3]))


# bfloat16 without torch: a capsule made by hand from the DLPack specification.


class _Device(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int32), ("index", ctypes.c_int32))


class _DType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _DType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _Managed(ctypes.Structure):
    _fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p))


class BFloat16:
    """A matrix of bfloat16 in CPU memory, given as the uint16 array of its bits."""

    dtype = "torch.bfloat16"

    def __init__(self, bits, offset=0, with_strides=True):
        self.bits = bits
        self.shape = bits.shape
        self.ndim = bits.ndim
        integers = ctypes.c_int64 * bits.ndim
        self._shape = integers(*bits.shape)
        self._strides = integers(*(stride // 2 for stride in bits.strides))
        self._managed = _Managed(
            tensor=_Tensor(
                data=bits.ctypes.data - offset,
                device=_Device(1, 0),
                ndim=bits.ndim,
                dtype=_DType(4, 16, 1),
                shape=self._shape,
                strides=self._strides if with_strides else None,
                byte_offset=offset,
            )
        )

    def __dlpack_device__(self):
        return 1, 0

    def __dlpack__(self):
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = (
            ctypes.py_object,
            (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p),
        )
        return new(ctypes.addressof(self._managed), b"dltensor", None)


def bfloat16_bits(n=9, d=5):
    return (rows(n=n, d=d).view(np.uint32) >> 16).astype(np.uint16)


def widened(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


@pytest.mark.parametrize(
    "bits",
    [bfloat16_bits(), bfloat16_bits()[::2, 1:], bfloat16_bits()[:, ::2], bfloat16_bits().T],
    ids=["plain", "row stride", "column stride", "transposed"],
)
def test_bfloat16_becomes_float32(bits):
    assert_same_bits(as_rows(BFloat16(bits)), widened(np.ascontiguousarray(bits)))


def test_bfloat16_without_strides_and_with_an_offset():
    tensor = BFloat16(bfloat16_bits(), offset=64, with_strides=False)
    assert_same_bits(as_rows(tensor), widened(bfloat16_bits()))


def test_bfloat16_special_values():
    bits = np.array([[0x8000, 0x0001, 0x7F7F, 0xFF7F]], dtype=np.uint16)
    assert_same_bits(as_rows(BFloat16(bits)), widened(bits))
    with pytest.raises(ValueError, match="to be finite, got nan in row 0, column 1"):
        as_rows(BFloat16(np.array([[0, 0x7FC0]], dtype=np.uint16)))


def test_bfloat16_of_another_shape():
    with pytest.raises(ValueError, match=r"of shape \(n, d\), got shape \(3, 2, 2\)"):
        as_rows(BFloat16(np.zeros((3, 2, 2), dtype=np.uint16)))


# --- torch ----------------------------------------------------------------------------------------


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.mark.parametrize("dtype", DTYPES)
def test_torch_tensors_are_read_in_place(torch, dtype):
    x = torch.from_numpy(rows(dtype))
    for tensor in (x, x[::2], x[:, 2:], x.clone().requires_grad_()):
        found = as_rows(tensor)
        assert found.__array_interface__["data"][0] == tensor.data_ptr()
        assert_same_bits(found, tensor.detach().numpy())


def test_torch_other_layouts(torch):
    x = torch.from_numpy(rows())
    assert_same_bits(as_rows(x.T), np.ascontiguousarray(rows().T))
    assert_same_bits(as_rows(torch.arange(6).reshape(2, 3)), np.arange(6.0).reshape(2, 3))
    half = x.to(torch.bfloat16)
    for tensor in (half, half[::2, 1:], half.T, half.clone().requires_grad_()):
        assert_same_bits(as_rows(tensor), tensor.detach().float().contiguous().numpy())


def test_torch_tensors_that_are_the_negative_of_their_memory(torch):
    z = torch.complex(torch.from_numpy(rows()), torch.from_numpy(rows()[::-1].copy()))
    x = z.conj().imag
    half = x.to(torch.bfloat16).neg()._neg_view()
    for tensor in (x, x[::2], x.T, x.clone().requires_grad_()._neg_view(), half, half[::2, 1:]):
        assert tensor.is_neg()
        expected = tensor.detach().resolve_neg().float().contiguous().numpy()
        assert_same_bits(as_rows(tensor), expected)
    assert_same_bits(namespaces.to_host(x), x.resolve_neg().numpy())
    numbers = torch.ones(3)._neg_view()
    assert_same_bits(arrays.as_numbers("f", "a", numbers), -np.ones(3))


def test_torch_inputs_that_are_refused(torch):
    x = torch.ones(4, 3)
    for tensor, error, text in (
        (x.bool(), TypeError, "of dtype float16, float32, float64 or integer, got bool; convert"),
        (x.to(torch.complex64), TypeError, "got complex64; pass real and imaginary parts"),
        (x.to_sparse(), TypeError, "to be a dense array, got the sparse torch.Tensor"),
        (x.to(torch.float8_e4m3fn), TypeError, "in CPU memory, got torch.Tensor of dtype torch.fl"),
        (x.to("meta"), TypeError, "in CPU memory, got torch.Tensor of dtype torch.float32"),
        (x[0], ValueError, r"of shape \(n, d\), got shape \(3,\)"),
        (x[0].bfloat16(), ValueError, r"of shape \(n, d\), got shape \(3,\)"),
    ):
        with pytest.raises(error, match=f"^prdc: expected `real` .*{text}"):
            as_rows(tensor)


def test_torch_tensors_in_public_functions(torch):
    real, fake = rows(n=40), rows(n=30)
    found = fastgen.membership(real=torch.from_numpy(real), fake=torch.from_numpy(fake))
    assert_same_bits(found, fastgen.membership(real=real, fake=fake))
