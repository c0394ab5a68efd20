"""Polar factors: the quintics, the sum of singular values, a bound that no wrong Q fools."""

from __future__ import annotations

import math
import re
from decimal import Decimal, localcontext

import families
import numpy as np
import pytest
from checks import assert_same_bits

from fastgen import matrices, polar
from fastgen.quintics import best_quintic, quintic_steps

EPS = 2.0**-52


def rotation(rng, n):
    return np.linalg.qr(rng.standard_normal((n, n)))[0]


def with_singular_values(rng, values, m=None):
    """Return (A, its polar factor), m x n."""
    n = len(values)
    left, right = rotation(rng, m or n)[:, :n], rotation(rng, n)
    return left * np.asarray(values) @ right.T, left @ right.T


SPECTRA = {
    "equal": np.ones(40),
    "well conditioned": np.linspace(1, 3, 40),
    "graded to 1e-8": np.geomspace(1, 1e-8, 40),
    "graded to 1e-16": np.geomspace(1, 1e-16, 40),
    "graded to 1e-300": np.geomspace(1, 1e-300, 40),
    "singular": np.r_[np.linspace(0.1, 1, 25), np.zeros(15)],
    "rank 1": np.r_[1.0, np.zeros(39)],
    "one large": np.r_[1.0, np.full(39, 1e-10)],
    "one small": np.r_[np.ones(39), 3e-9],
    "one feature": np.array([0.7]),
}


# --- The quintics ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high"), [("0.025", "1"), ("0.19", "1.81"), ("0.9", "1.1"), ("0.99999", "1.00001")]
)
def test_best_quintic_equioscillates(low, high):
    with localcontext() as context:
        context.prec = 50
        low, high = Decimal(low), Decimal(high)
        (a, b, c), error = best_quintic(low, high)
        grid = [low + (high - low) * i / 3000 for i in range(3001)]
        misses = [a * x + b * x**3 + c * x**5 - 1 for x in grid]
        assert 0 < error < 1
        assert max(map(abs, misses)) <= error * (1 + Decimal(10) ** -20)
        # Four alternating extremes: no other odd quintic is closer to 1.
        extremes = [i for i, miss in enumerate(misses) if abs(miss) > error * Decimal("0.9999")]
        signs = [misses[i] > 0 for i in extremes]
        changes = [s for i, s in enumerate(signs) if i == 0 or s != signs[i - 1]]
        assert changes == [False, True, False, True]


def test_best_quintic_of_a_narrow_interval_is_the_fixed_one():
    with localcontext() as context:
        context.prec = 50
        width = Decimal("1e-7")
        coefficients, error = best_quintic(1 - width, 1 + width)
    assert [float(x) for x in coefficients] == pytest.approx([15 / 8, -10 / 8, 3 / 8], rel=1e-12)
    # 1 - p(1 - h) = 5/2 h^3 + ..., and h^3 on [-1, 1] is nearest to a quadratic at 1/4.
    assert float(error) == pytest.approx(2.5 / 4 * 1e-21, rel=1e-6)


@pytest.mark.parametrize(("least", "count"), [(1e-3, 8), (1e-6, 13), (1e-8, 16), (1e-12, 23)])
def test_composition_takes_the_interval_to_one(least, count):
    steps = quintic_steps(least)
    assert len(steps) == count
    x = np.concatenate([np.geomspace(least, 1, 20001), np.linspace(0.5, 1, 20001)])
    lowest = least
    for a, b, c in steps:
        x = x * (a + x * x * (b + x * x * c))
        assert x.min() > min(lowest, 1 - 4 * EPS)  # every step gains
        lowest = x.min()
    assert np.abs(x - 1).max() <= 2.0**-50 + 4 * EPS


def test_composition_keeps_the_rest_between_zero_and_one():
    # Singular values below the interval, and rounding above it.
    x = np.concatenate([np.geomspace(1e-30, 1e-8, 2001), 1 + np.linspace(0, 2.0**-30, 2001)])
    for a, b, c in quintic_steps(1e-8):
        x = x * (a + x * x * (b + x * x * c))
    assert x.min() > 0
    assert x.max() <= 1 + 8 * EPS
    assert np.all(np.abs(x[2001:] - 1) <= 8 * EPS)


def test_tolerance_saves_steps():
    steps = quintic_steps(1e-8, 1e-3)
    assert steps == quintic_steps(1e-8)[: len(steps)]
    x = np.geomspace(1e-8, 1, 20001)
    for a, b, c in steps:
        x = x * (a + x * x * (b + x * x * c))
    assert 1e-9 < np.abs(x - 1).max() <= 1e-3


@pytest.mark.parametrize("least", [0.0, -1.0, 1.0, math.nan])
def test_interval_has_to_be_inside(least):
    message = f"quintic_steps: expected `least` in (0, 1), got {least}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        quintic_steps(least)


# --- The polar factor and the sum -----------------------------------------------------------------


@pytest.mark.parametrize("shape", [(30, 30), (50, 20), (20, 50), (7, 1), (1, 7)])
def test_polar_factor(shape):
    m, n = max(shape), min(shape)
    a, q = with_singular_values(families.seeded("polar", m, n), np.geomspace(1, 1e-3, n), m)
    a, q = (a, q) if shape == (m, n) else (a.T, q.T)
    found = polar.polar_factor(a)
    assert found.shape == shape
    assert np.abs(found - q).max() <= 1e-12


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("extra", [0, 25])
def test_nuclear_norm_within_its_bound(name, extra):
    values = SPECTRA[name]
    n = len(values)
    a, _ = with_singular_values(families.seeded("nuclear", name, extra), values, n + extra)
    total = math.fsum(values)
    made = n * EPS * total  # what rounding did to the matrix
    for matrix in (a, a.T):
        value, error = polar.nuclear_norm(matrix)
        assert abs(value - total) <= error + made
        assert abs(value - total) <= 1e-11 * total
        assert error <= 2e-10 * total


def test_graded_diagonal_is_summed_to_its_bound():
    values = np.geomspace(1, 1e-16, 33) * np.resize([1, -1], 33)
    value, error = polar.nuclear_norm(np.diag(values))  # exact as it stands
    assert abs(value - math.fsum(abs(values))) <= error <= 1e-11


def test_poor_bound_asks_for_another_round():
    a, _ = with_singular_values(families.seeded("nuclear", "again"), SPECTRA["graded to 1e-16"])
    first = polar.certificate(a, polar.polar_factor(a))
    value, error = polar.nuclear_norm(a)
    assert first[1] > 1e-9 * value > 100 * error
    assert polar.nuclear_norm(a, tolerance=1.0) == first


def test_powers_of_two_change_no_digit():
    a, _ = with_singular_values(families.seeded("nuclear", "scale"), np.geomspace(1, 1e-2, 20))
    value, error = polar.nuclear_norm(a)
    for power in (-1000, -301, -1, 7, 1000):
        assert polar.nuclear_norm(a * 2.0**power) == (value * 2.0**power, error * 2.0**power)
        assert_same_bits(polar.polar_factor(a * 2.0**power), polar.polar_factor(a))


@pytest.mark.parametrize("entry", [5e-324, 1e-310, 1.5e308])
def test_ends_of_the_range(entry):
    value, error = polar.nuclear_norm(np.array([[entry]]))
    assert value == pytest.approx(entry, rel=1e-14)
    assert error <= 1e-14 * entry


@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (5, 3), (3, 5)])
def test_zero_matrix(shape):
    zeros = np.zeros(shape)
    assert polar.nuclear_norm(zeros) == (0.0, 0.0)
    assert_same_bits(polar.polar_factor(zeros), zeros)


def test_inputs_are_left_alone():
    a = families.seeded("polar", "inputs").standard_normal((9, 9))
    before = a.copy()
    a.flags.writeable = False
    polar.nuclear_norm(a)
    assert_same_bits(a, before)


# --- The certificate is not fooled ----------------------------------------------------------------


def wrong_factors(rng, values):
    n = len(values)
    left, right = rotation(rng, n), rotation(rng, n)
    q = left @ right.T
    skew = rng.standard_normal((n, n))
    signs, present = np.ones(n), np.ones(n)
    signs[-1], present[-1] = -1, 0
    mixed = rng.permutation(n)
    return left * values @ right.T, {
        "flipped sign of the smallest": left * signs @ right.T,
        "missing the smallest": left * present @ right.T,
        "all signs flipped": -q,
        "half of the signs flipped": left * np.resize([1, -1], n) @ right.T,
        "permuted directions": left[:, mixed] @ right.T,
        "another rotation": rotation(rng, n),
        "slightly rotated": q @ np.linalg.qr(np.eye(n) + 1e-4 * (skew - skew.T))[0],
        "twice too large": 2 * q,
        "a little too large": (1 + 1e-6) * q,
        "too small": 0.5 * q,
        "large in one direction": left * np.where(signs < 0, 30.0, 1.0) @ right.T,
        "zero": np.zeros((n, n)),
        "noise": skew,
    }


@pytest.mark.parametrize("smallest", [1e-1, 1e-5, 1e-9])
def test_wrong_factor_cannot_fool_the_bound(smallest):
    values = np.geomspace(1, smallest, 24)
    a, wrong = wrong_factors(families.seeded("certificate", str(smallest)), values)
    total = math.fsum(values)
    for name, q in wrong.items():
        value, error = polar.certificate(a, q)
        assert value == pytest.approx((q * a).sum(), abs=1e-13), name
        assert abs(total - value) <= error + 1e-14, name
        assert math.isfinite(error), name
        value, error = polar.certificate(a.T, q.T)
        assert abs(total - value) <= error + 1e-14, name


@pytest.mark.parametrize("smallest", [1e-1, 1e-4, 1e-7])
def test_bound_is_of_the_size_of_the_flaw(smallest):
    # The flaw is in one direction; the bound may be larger by the number of directions at most.
    values = np.append(np.ones(23), smallest)
    a, wrong = wrong_factors(families.seeded("certificate", "size", str(smallest)), values)
    _, flipped = polar.certificate(a, wrong["flipped sign of the smallest"])
    assert 2 * smallest * (1 - 1e-6) <= flipped <= 20 * 24 * smallest
    _, missing = polar.certificate(a, wrong["missing the smallest"])
    assert smallest * (1 - 1e-6) <= missing <= 24 * smallest


@pytest.mark.parametrize("angle", [1e-4, 0.1, 1.0])
def test_skew_part_counts(angle):
    # An orthogonal Q with a positive symmetric part, which misses 1 - cos(angle) of the sum.
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    value, error = polar.certificate(np.eye(6), np.kron(np.eye(3), turn))
    assert value == pytest.approx(6 * math.cos(angle), rel=1e-14)
    assert 6 - value <= error <= 10 * angle


def test_right_factor_has_a_small_bound():
    values = np.geomspace(1, 1e-3, 24)
    a, q = with_singular_values(families.seeded("certificate", "right"), values)
    value, error = polar.certificate(a, q)
    assert abs(value - math.fsum(values)) <= error <= 1e-12 * value


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_factor_that_is_not_finite_proves_nothing(bad):
    q = np.eye(3)
    q[1, 2] = bad
    with np.errstate(invalid="ignore"):
        assert polar.certificate(np.diag([1.0, 2.0, 3.0]), q) == (0.0, math.inf)


# --- Other libraries ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["well conditioned", "graded to 1e-16", "singular"])
def test_torch_agrees_with_numpy(name):
    torch = pytest.importorskip("torch")
    a, _ = with_singular_values(families.seeded("polar", "torch", name), SPECTRA[name], 45)
    found = polar.nuclear_norm(torch.from_numpy(a))
    expected = polar.nuclear_norm(a)
    assert [type(number) for number in found] == [float, float]
    assert found[0] == pytest.approx(expected[0], rel=1e-13)
    assert found[1] == pytest.approx(expected[1], rel=0.5)
    q = polar.polar_factor(torch.from_numpy(a))
    assert isinstance(q, torch.Tensor)
    value, error = polar.certificate(torch.from_numpy(a), -q)
    assert abs(found[0] - value) <= error + found[1]


def test_libraries_are_not_mixed():
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match="namespaces"):
        matrices.namespace(torch.eye(2), np.eye(2))


def test_cholesky_that_fails_says_so():
    import array_api_compat.numpy as xp

    assert matrices.cholesky(xp, np.array([[1.0, 2.0], [2.0, 1.0]])) is None
    assert matrices.cholesky(xp, np.array([[math.nan]])) is None
    torch = pytest.importorskip("torch")
    two = torch.tensor([[1.0, 2.0], [2.0, 1.0]], dtype=torch.float64)
    assert matrices.cholesky(matrices.namespace(two), two) is None
    with pytest.raises(
        RuntimeError, match="at least 2 dimensions"
    ):  # any other failure is not hidden
        matrices.cholesky(matrices.namespace(two), two[0])


# --- The validator --------------------------------------------------------------------------------


def as_matrix(value, d=None):
    return matrices.as_device_matrix("matrix_sqrt", "a", value, d)


def test_numpy_is_read_in_place():
    a = np.arange(6.0).reshape(2, 3)
    xp, found = as_matrix(a)
    assert xp.__name__ == "array_api_compat.numpy"
    assert found is a or np.shares_memory(found, a)
    for dtype in ("float16", "float32", "int32", ">f8"):
        assert_same_bits(as_matrix(a.astype(dtype))[1], a)


def test_torch_stays_torch():
    torch = pytest.importorskip("torch")
    a = torch.arange(6.0, dtype=torch.float64).reshape(2, 3)
    xp, found = as_matrix(a)
    assert xp.__name__ == "array_api_compat.torch"
    assert found.data_ptr() == a.data_ptr()
    for other in (a.half(), a.bfloat16(), a.float(), a.int(), a.clone().requires_grad_()):
        found = as_matrix(other)[1]
        assert found.dtype == torch.float64
        assert not found.requires_grad
        assert torch.equal(found, a)


def test_validator_says_what_is_wrong():
    wrong = [
        ([[1.0]], None, TypeError, "to be an array of shape (n, d) or the path of one, got list"),
        (np.ones((2, 3)), 2, ValueError, "of shape (2, 2), got shape (2, 3)"),
        (np.ones(4), 2, ValueError, "of shape (n, d), got shape (4,)"),
        (np.array([[1.0, 2.0], [3.0, -np.inf]]), 2, ValueError, "to be finite, got -inf in row 1"),
        (np.eye(2, dtype=bool), 2, TypeError, "of dtype float16, float32, float64 or integer"),
    ]
    for value, d, error, message in wrong:
        with pytest.raises(error, match=re.escape(f"matrix_sqrt: expected `a` {message}")):
            as_matrix(value, d)


def test_validator_says_what_is_wrong_with_tensors():
    torch = pytest.importorskip("torch")
    whole = "of shape (n, d), with at least one row and one column"
    dtypes = "of dtype float16, float32, float64 or integer"
    a = torch.eye(2)
    wrong = [
        (torch.ones(2, 3), 2, ValueError, "of shape (2, 2), got shape (2, 3)"),
        (torch.ones(3), None, ValueError, f"{whole}, got shape (3,)"),
        (torch.ones(0, 3), None, ValueError, f"{whole}, got shape (0, 3)"),
        (a / a.flip(0), 2, ValueError, "to be finite, got inf in row 0, column 0"),
        (a.bool(), 2, TypeError, f"{dtypes}, got bool"),
        (a.to(torch.complex64), 2, TypeError, f"{dtypes}, got complex64"),
        (a.to_sparse(), 2, TypeError, "to be a dense array, got the sparse torch.Tensor"),
        (a.to("meta"), 2, TypeError, "of dtype float16, float32 or float64 in CPU memory"),
    ]
    for value, d, error, message in wrong:
        with pytest.raises(error, match=re.escape(f"matrix_sqrt: expected `a` {message}")):
            as_matrix(value, d)
