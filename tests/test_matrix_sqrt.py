"""The square root of a matrix: closed forms, residuals, the reference, every library, errors."""

from __future__ import annotations

import re

import families
import numpy as np
import pytest
from checks import assert_same_bits

from fastgen._errors import BackendUnavailableError
from fastgen.metrics.matrix_root import matrix_sqrt
from fastgen.numpy_reference import frechet as reference

METHODS = ("auto", "newton_schulz", "eigh")

SPECTRA = {
    "equal": np.full(30, 2.0),
    "well conditioned": np.linspace(1, 3, 30),
    "graded to 1e-8": np.geomspace(1, 1e-8, 30),
    "graded to 1e-16": np.geomspace(1, 1e-16, 30),
    "singular": np.r_[np.linspace(0.1, 1, 20), np.zeros(10)],
    "rank 1": np.r_[1.0, np.zeros(29)],
    "one large": np.r_[1.0, np.full(29, 1e-10)],
    "two features": np.array([1.0, 0.3]),
}


def with_eigenvalues(rng, values):
    """Return (A, its root), exactly symmetric."""
    vectors = np.linalg.qr(rng.standard_normal((len(values),) * 2))[0]
    a, root = vectors * values @ vectors.T, vectors * np.sqrt(values) @ vectors.T
    return 0.5 * (a + a.T), 0.5 * (root + root.T)


def residual(root, a):
    return np.linalg.norm(root @ root - a) / np.linalg.norm(a)


# --- Closed forms ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_one_feature(method):
    found = matrix_sqrt(np.array([[9.0]]), method)
    assert found.value == pytest.approx(np.array([[3.0]]), rel=1e-15)
    assert found.residual <= 1e-15


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("d", [1, 5])
def test_zero(method, d):
    found = matrix_sqrt(np.zeros((d, d)), method)
    assert_same_bits(found.value, np.zeros((d, d)))
    assert found.residual == 0.0


@pytest.mark.parametrize("method", METHODS)
def test_diagonal(method):
    values = np.append(np.geomspace(1e8, 1e-7, 16), 0.0)
    found = matrix_sqrt(np.diag(values), method)
    assert np.abs(found.value - np.diag(np.sqrt(values))).max() <= 1e-14 * 1e4
    assert found.residual <= 1e-15


@pytest.mark.parametrize("method", METHODS)
def test_projection_is_its_own_root(method):
    vectors = np.linalg.qr(families.seeded("root", "projection").standard_normal((20, 8)))[0]
    projection = vectors @ vectors.T
    assert np.abs(matrix_sqrt(projection, method).value - projection).max() <= 1e-7
    assert matrix_sqrt(projection, method).residual <= 1e-14


@pytest.mark.parametrize("method", METHODS)
def test_two_by_two(method):
    found = matrix_sqrt(np.array([[5, 4], [4, 5]]), method)
    assert found.value == pytest.approx(np.array([[2.0, 1.0], [1.0, 2.0]]), rel=1e-14)


# --- Families -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", SPECTRA)
def test_root(name, method):
    values = SPECTRA[name]
    a, root = with_eigenvalues(families.seeded("root", name), values)
    found = matrix_sqrt(a, method)
    # Rounding of A, 1e-15 of its norm, moves a root by that over the smallest one, or by 1e-7.
    allowed = min(1e-14 / np.sqrt(values.min()) if values.min() else 1, 1e-7)
    assert np.linalg.norm(found.value - root) <= max(allowed, 1e-14) * np.linalg.norm(root)
    assert_same_bits(found.value, found.value.T.copy())
    assert np.linalg.eigvalsh(found.value)[0] >= -1e-14
    assert residual(found.value, a) <= 1e-14
    assert found.residual == pytest.approx(residual(found.value, a), rel=0.01, abs=1e-16)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["well conditioned", "graded to 1e-8", "two features"])
def test_agrees_with_the_reference(name, method):
    a, _ = with_eigenvalues(families.seeded("root", "reference", name), SPECTRA[name])
    expected = reference.matrix_sqrt(a)
    found = matrix_sqrt(a, method)
    assert np.abs(found.value - expected.value).max() <= 1e-11
    assert expected.residual <= 1e-14


def test_methods_take_their_own_ways():
    a, _ = with_eigenvalues(families.seeded("root", "ways"), np.linspace(1, 2, 12))
    by_eigh = matrix_sqrt(a, "eigh").value
    assert_same_bits(matrix_sqrt(a).value, by_eigh)
    assert np.any(matrix_sqrt(a, "newton_schulz").value != by_eigh)


def test_method_without_eigenvalues_needs_none(monkeypatch):
    a, root = with_eigenvalues(families.seeded("root", "products"), np.linspace(1, 2, 12))

    def refuse(*arguments):
        raise AssertionError("eigh was called")

    monkeypatch.setattr(np.linalg, "eigh", refuse)
    monkeypatch.setattr("array_api_compat.numpy.linalg.eigh", refuse)
    assert np.abs(matrix_sqrt(a, "newton_schulz").value - root).max() <= 1e-14
    with pytest.raises(AssertionError, match="eigh was called"):
        matrix_sqrt(a, "eigh")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("power", [-332, -60, 1, 60, 332])  # 4^332 is 1e200
def test_powers_of_four_change_no_digit(method, power):
    a, _ = with_eigenvalues(families.seeded("root", "scale"), np.geomspace(1, 1e-3, 10))
    plain = matrix_sqrt(a, method)
    found = matrix_sqrt(a * 4.0**power, method)
    assert_same_bits(found.value, plain.value * 2.0**power)
    assert found.residual == plain.residual


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scale", [5e-324, 1e-310, 3e200, 1.7e308])
def test_ends_of_the_range(method, scale):
    found = matrix_sqrt(np.diag([scale, scale]), method)
    assert found.value == pytest.approx(np.diag([scale, scale]) ** 0.5, rel=1e-14)
    assert found.residual <= 1e-15


@pytest.mark.parametrize("method", METHODS)
def test_rounding_of_the_input_is_forgiven(method):
    a, root = with_eigenvalues(families.seeded("root", "rounded"), np.linspace(1, 2, 15))
    a[0, 1] += 5e-7  # asymmetric
    assert np.abs(matrix_sqrt(a, method).value - root).max() <= 1e-6
    negative = np.diag([1.0, -9e-7])
    assert np.abs(matrix_sqrt(negative, method).value - np.diag([1.0, 0.0])).max() <= 1e-15
    assert matrix_sqrt(negative, method).residual == pytest.approx(9e-7, rel=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float32", "int64", ">f8"])
def test_other_dtypes_become_float64(dtype):
    a = np.array([[5, 4], [4, 5]], dtype=dtype)
    assert_same_bits(matrix_sqrt(a), matrix_sqrt(a.astype(np.float64)))


def test_input_is_left_alone_and_may_be_a_file(tmp_path):
    a, _ = with_eigenvalues(families.seeded("root", "inputs"), np.linspace(1, 2, 9))
    before = a.copy()
    a.flags.writeable = False
    found = matrix_sqrt(a)
    assert_same_bits(a, before)
    np.save(tmp_path / "a.npy", a)
    assert_same_bits(matrix_sqrt(tmp_path / "a.npy"), found)
    assert sorted(found.to_dict()) == ["residual", "value"]


# --- torch ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["well conditioned", "graded to 1e-8", "singular"])
def test_torch_agrees_with_numpy(name, method):
    torch = pytest.importorskip("torch")
    a, _ = with_eigenvalues(families.seeded("root", "torch", name), SPECTRA[name])
    tensor = torch.from_numpy(a.copy()).requires_grad_()
    found = matrix_sqrt(tensor, method, device="cpu")
    assert isinstance(found.value, torch.Tensor)
    assert (found.value.dtype, found.value.device) == (torch.float64, tensor.device)
    assert not found.value.requires_grad
    assert torch.equal(found.value, found.value.T)
    assert isinstance(found.residual, float)
    assert found.residual <= 1e-14
    difference = np.abs(found.value.numpy() - matrix_sqrt(a, method).value).max()
    assert difference <= (1e-7 if name == "singular" else 1e-11)
    assert torch.equal(tensor.detach(), torch.from_numpy(a))


def test_half_precision_tensors_become_float64():
    torch = pytest.importorskip("torch")
    a = torch.tensor([[5.0, 4.0], [4.0, 5.0]])
    for dtype in (torch.float16, torch.bfloat16, torch.int32):
        assert torch.equal(matrix_sqrt(a.to(dtype)).value, matrix_sqrt(a).value)


# --- Errors ---------------------------------------------------------------------------------------

LIST = (
    "matrix_sqrt: expected `a` to be an array of shape (n, d) or the path of one, got list; "
    "pass np.asarray(a)"
)
SQUARE = "matrix_sqrt: expected `a` of shape (d, d), got shape (2, 3)"
WRONG = {
    "a list": (
        [[1.0]],
        TypeError,
        LIST,
    ),
    "not square": (np.ones((2, 3)), ValueError, SQUARE),
    "not finite": (
        np.array([[1.0, 0.0], [np.nan, 1.0]]),
        ValueError,
        "matrix_sqrt: expected `a` to be finite, got nan in row 1, column 0",
    ),
    "not symmetric": (
        np.array([[1.0, 0.5], [0.25, 1.0]]),
        ValueError,
        "matrix_sqrt: expected `a` to be symmetric, got 0.5 and 0.25 in rows 0 and 1",
    ),
    "hardly asymmetric": (
        np.array([[1.0, 0.0], [0.0, 1.0]]) + np.array([[0.0, 1.1e-6], [0.0, 0.0]]),
        ValueError,
        "matrix_sqrt: expected `a` to be symmetric, got 1.1e-06 and 0.0 in rows 0 and 1",
    ),
    "indefinite": (
        np.diag([4.0, -1.0]),
        ValueError,
        "matrix_sqrt: expected `a` to be positive semi-definite, got the eigenvalue -1.0",
    ),
    "indefinite at any scale": (
        np.diag([4.0, -1.0]) * 2.0**900,
        ValueError,
        f"matrix_sqrt: expected `a` to be positive semi-definite, got the eigenvalue {-(2.0**900)}",
    ),
    "negative": (
        np.diag([-2.0, -2.0]),
        ValueError,
        "matrix_sqrt: expected `a` to be positive semi-definite, got the eigenvalue -2.0",
    ),
    "no diagonal": (
        np.array([[0.0, 1.0], [1.0, 0.0]]),
        ValueError,
        "matrix_sqrt: expected `a` to be positive semi-definite, got the eigenvalue -1.0",
    ),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", WRONG)
def test_wrong_matrix(name, method):
    a, error, message = WRONG[name]
    with pytest.raises(error) as caught:
        matrix_sqrt(a, method)
    # The last digit of an eigenvalue is the library's.
    assert re.sub(r"-0\.9{12}\d+|-1\.0{12}\d+", "-1.0", str(caught.value)) == message


@pytest.mark.parametrize("method", ["cholesky", "Eigh", None, 3, np.array(["eigh"])])
def test_wrong_method(method):
    message = 'matrix_sqrt: expected `method` "auto", "newton_schulz" or "eigh", got ' + repr(
        method
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        matrix_sqrt(np.eye(2), method)


@pytest.mark.parametrize(
    ("device", "error", "hint"),
    [
        ("cuda", BackendUnavailableError, "; copy `a` there first"),
        ("cuda:1", BackendUnavailableError, "; copy `a` there first"),
        ("tpu", ValueError, ""),
    ],
)
def test_wrong_device(device, error, hint):
    message = f'matrix_sqrt: expected `device` "cpu" or None, where `a` is, got {device!r}{hint}'
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        matrix_sqrt(np.eye(2), device=device)


def test_wrong_tensors():
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match=f"^{re.escape(SQUARE)}$"):
        matrix_sqrt(torch.ones(2, 3))
    for name in ("not finite", "not symmetric", "indefinite"):
        a, error, message = WRONG[name]
        with pytest.raises(error, match=f"^{re.escape(message)}$"):
            matrix_sqrt(torch.from_numpy(a), "newton_schulz")
