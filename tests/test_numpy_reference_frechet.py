"""The reference's Frechet distance: closed forms, its bound in decimal arithmetic, its factors."""

from __future__ import annotations

import math
import re
from decimal import Decimal, localcontext

import families
import numpy as np
import pytest
from checks import assert_same_bits

from fastgen.numpy_reference.frechet import fid, frechet_distance, matrix_sqrt

EXACT_METHODS = ("auto", "newton_schulz", "eigh")
METHODS = (*EXACT_METHODS, "eigvals")


def rotation(rng, d: int):
    return np.linalg.qr(rng.standard_normal((d, d)))[0]


def distance(covariance_1, covariance_2, method="auto"):
    zeros = np.zeros(len(covariance_1))
    return frechet_distance(zeros, covariance_1, zeros, covariance_2, method)


def from_factors(root_1, root_2):
    """Return (covariance term, sum of traces) without forming a covariance."""
    joint = np.linalg.svd(root_1.T @ root_2, compute_uv=False).sum()
    traces = (root_1**2).sum() + (root_2**2).sum()
    return traces - 2 * joint, traces


# --- closed forms ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_one_feature(method):
    found = frechet_distance([1.0], [[4.0]], [3.5], [[9.0]], method)
    assert found.value == pytest.approx(2.5**2 + 1, rel=1e-15)
    assert (found.mean_term, found.covariance_term) == pytest.approx((6.25, 1.0), rel=1e-15)
    assert found.method == ("eigh" if method == "auto" else method)


@pytest.mark.parametrize("method", EXACT_METHODS)
@pytest.mark.parametrize("spread", [1.0, 1e4, 1e16, 1e100])
def test_diagonal(method, spread):
    rng = families.seeded("frechet", "diagonal")
    a, b = np.geomspace(1, 1 / spread, 20), np.geomspace(1 / spread, 1, 20)
    a[3] = b[7] = 0.0
    mean_1, mean_2 = rng.standard_normal((2, 20))
    found = frechet_distance(mean_1, np.diag(a), mean_2, np.diag(b), method)
    mean_term = math.fsum((mean_1 - mean_2) ** 2)
    expected = mean_term + math.fsum((np.sqrt(a) - np.sqrt(b)) ** 2)
    assert abs(found.value - expected) <= 1e-15 * (math.fsum([*a, *b]) + mean_term)
    assert found.value == found.mean_term + found.covariance_term


@pytest.mark.parametrize("method", METHODS)
def test_commuting(method):
    rng = families.seeded("frechet", "commuting")
    q = rotation(rng, 30)
    a, b = rng.uniform(0.5, 2.0, 30), rng.uniform(0.1, 5.0, 30)
    found = distance(q * a @ q.T, q * b @ q.T, method)
    assert found.value == pytest.approx(math.fsum((np.sqrt(a) - np.sqrt(b)) ** 2), rel=1e-13)


def test_shift_alone():
    s = np.cov(families.seeded("frechet", "shift").standard_normal((4, 30)))
    found = frechet_distance([0, 0, 0, 0], s, [1, 2, 2, 4], s)
    assert found.mean_term == 25.0
    assert found.covariance_term <= 1e-14 * np.trace(s)


def test_rank_one():
    # Two factors with a single column u and v: the joint term is |u' v|.
    u, v = families.seeded("frechet", "rank one").standard_normal((2, 40))
    found = distance(np.outer(u, u), np.outer(v, v))
    expected = u @ u + v @ v - 2 * abs(u @ v)
    assert found.value == pytest.approx(expected, rel=1e-14)


def test_zero_covariance():
    s = np.diag([4.0, 1.0])
    for first, second, expected in ((0 * s, s, 5.0), (s, 0 * s, 5.0), (0 * s, 0 * s, 0.0)):
        found = distance(first, second)
        assert found.value == expected
        assert found.error_bound <= 2e-14


# --- accuracy -------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [2, 5, 16, 64])
def test_singular_covariances_from_known_factors(d):
    rng = families.seeded("frechet", "singular", d)
    for rank_1, rank_2 in ((1, d), (d - 1, d - 1), (max(1, d // 4), max(1, d // 2))):
        root_1, root_2 = rng.standard_normal((d, rank_1)), rng.standard_normal((d, rank_2))
        expected, traces = from_factors(root_1, root_2)
        for method in EXACT_METHODS:
            found = distance(root_1 @ root_1.T, root_2 @ root_2.T, method)
            assert abs(found.value - expected) <= min(1e-13 * traces, found.error_bound)


@pytest.mark.parametrize("d", [2, 5, 16, 64])
@pytest.mark.parametrize(
    ("condition", "tolerance"), [(1.0, 1e-14), (1e4, 1e-14), (1e8, 3e-12), (1e12, 1e-9)]
)
def test_ill_conditioned_covariances(d, condition, tolerance):
    rng = families.seeded("frechet", "condition", d)
    graded = np.sqrt(np.geomspace(1, 1 / condition, d))
    q = rotation(rng, d)
    for other in (q, q[:, ::-1] * graded, rotation(rng, d) * graded):
        expected, traces = from_factors(q * graded, other)
        found = distance(q * graded**2 @ q.T, other @ other.T)
        assert abs(found.value - expected) <= min(tolerance * traces, found.error_bound)


def test_scales_of_features_do_not_matter():
    rng = families.seeded("frechet", "scales")
    root_1, root_2 = rng.standard_normal((2, 12, 12)) * np.geomspace(1e-9, 1e9, 12)[:, np.newaxis]
    bounds = []
    for power in (0, 200, -200):
        c = 2.0 ** (power / 2)
        expected, traces = from_factors(c * root_1, c * root_2)
        found = distance(c * c * (root_1 @ root_1.T), c * c * (root_2 @ root_2.T))
        assert abs(found.value - expected) <= 1e-14 * traces
        bounds.append(found.error_bound / traces)
    assert bounds == pytest.approx([bounds[0]] * 3, rel=1e-6)


def exact_2x2(s_1, s_2):
    """Return tr S1 + tr S2 - 2 (tr S1 S2 + 2 (det S1 det S2)^(1/2))^(1/2) of the numbers given."""
    with localcontext() as context:
        context.prec = 80
        (a, b, c), (x, y, z) = (
            [Decimal(float(v)) for v in (s[0, 0], s[0, 1], s[1, 1])] for s in (s_1, s_2)
        )
        determinants = (a * c - b * b, x * z - y * y)
        if min(determinants) < 0:  # rounding has made it indefinite
            return None
        square = a * x + 2 * b * y + c * z + 2 * (determinants[0] * determinants[1]).sqrt()
        return a + c + x + z - 2 * square.sqrt()


@pytest.mark.parametrize("condition", [1.0, 1e4, 1e8, 1e12, 1e15, 1e16, 1e17])
def test_the_bound_bounds(condition):
    rng = families.seeded("frechet", "bound", str(condition))
    compared = 0
    for case in range(60):
        roots = [rotation(rng, 2) * np.sqrt([1.0, 1 / condition]) for _ in range(2)]
        if case % 3 == 1:
            roots[1] = roots[0][:, ::-1] * np.sqrt([condition, 1 / condition])
        elif case % 3 == 2:
            roots[1] = rotation(rng, 2)
        s_1, s_2 = (root @ root.T for root in roots)
        exact = exact_2x2(s_1, s_2)
        if exact is not None:
            compared += 1
            found = distance(s_1, s_2)
            assert abs(Decimal(found.value) - exact) <= Decimal(found.error_bound)
    assert compared >= 10


def test_the_bound_is_small_where_the_value_is_known():
    rng = families.seeded("frechet", "small bound")
    x, y = rng.standard_normal((2, 200, 16))
    s_1, s_2 = np.cov(x.T), np.cov(y.T)
    assert distance(s_1, s_2).error_bound <= 1e-11 * np.trace(s_1 + s_2)
    assert fid(real=x, fake=y).error_bound <= 1e-12 * np.trace(s_1 + s_2)
    assert math.isnan(distance(s_1, s_2, "eigvals").error_bound)


@pytest.mark.parametrize("method", METHODS)
def test_equal_distributions_are_at_distance_zero(method):
    rng = families.seeded("frechet", "equal")
    for d, rank in ((1, 1), (6, 6), (30, 30), (30, 4), (30, 29)):
        root = rng.standard_normal((d, rank))
        mean, s = rng.standard_normal(d), root @ root.T
        found = frechet_distance(mean, s, mean, s, method)
        tolerance = 1e-6 if method == "eigvals" else 1e-14
        assert 0 <= found.value <= tolerance * np.trace(s)
        assert found.mean_term == 0


@pytest.mark.parametrize("method", METHODS)
def test_symmetric_in_its_arguments(method):
    rng = families.seeded("frechet", "symmetric")
    x, y = rng.standard_normal((40, 9)), 2 * rng.standard_normal((5, 9))
    first, second = (x.mean(axis=0), np.cov(x.T)), (y.mean(axis=0), np.cov(y.T))
    one, other = (
        frechet_distance(*first, *second, method),
        frechet_distance(*second, *first, method),
    )
    tolerance = 1e-7 if method == "eigvals" else 1e-13
    assert one.value == pytest.approx(other.value, rel=tolerance)
    assert fid(real=x, fake=y).value == pytest.approx(fid(real=y, fake=x).value, rel=1e-14)


def test_rotations_and_translations_change_nothing():
    rng = families.seeded("frechet", "moved")
    x, y = rng.standard_normal((50, 8)), 1 + rng.standard_normal((6, 8))
    q = rotation(rng, 8)
    expected = fid(real=x, fake=y)
    assert fid(real=x @ q, fake=y @ q).value == pytest.approx(expected.value, rel=1e-13)
    moved = fid(real=x @ q + 1e6, fake=y @ q + 1e6)
    assert moved.value == pytest.approx(expected.value, rel=1e-8)  # adding 1e6 has rounded rows


def test_fid_keeps_its_digits_far_from_zero():
    # Multiples of 2^-20 beside 2^30 are exact in float64, so that moving them rounds nothing.
    x, y = np.round(families.seeded("frechet", "far").standard_normal((2, 50, 8)) * 2**20) / 2**20
    expected, moved = fid(real=x, fake=y), fid(real=x + 2.0**30, fake=y + 2.0**30)
    assert_same_bits(moved, expected)


@pytest.mark.parametrize("d", [1, 3, 17, 40])
def test_eigvals_is_the_formula_of_the_peers(d):
    scipy_linalg = pytest.importorskip("scipy.linalg")
    rng = families.seeded("frechet", "peers", d)
    x, y = rng.standard_normal((100, d)), 1.5 * rng.standard_normal((80, d)) + 0.2
    first, second = (x.mean(axis=0), np.cov(x.T)), (y.mean(axis=0), np.cov(y.T))
    s_1, s_2 = np.atleast_2d(first[1]), np.atleast_2d(second[1])
    found = frechet_distance(first[0], s_1, second[0], s_2, "eigvals")
    root = scipy_linalg.sqrtm(s_1 @ s_2)
    expected = ((first[0] - second[0]) ** 2).sum() + np.trace(s_1 + s_2 - 2 * root.real)
    assert found.value == pytest.approx(expected, rel=1e-10)
    assert found.value == pytest.approx(fid(real=x, fake=y).value, rel=1e-10)


# --- features -------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 19, 20, 21, 90])
@pytest.mark.parametrize("m", [2, 20, 21, 60])
def test_fid_is_the_distance_of_the_moments(n, m):
    rng = families.seeded("frechet", "fid", n, m)
    x, y = rng.standard_normal((n, 20)), 2 * rng.standard_normal((m, 20)) + 0.5
    found = fid(real=x, fake=y)
    s_1, s_2 = np.cov(x.T), np.cov(y.T)
    moments = frechet_distance(x.mean(axis=0), s_1, y.mean(axis=0), s_2)
    traces = np.trace(s_1 + s_2)
    assert abs(found.value - moments.value) <= 1e-12 * traces
    rows = [(a - a.mean(axis=0)).T / math.sqrt(len(a) - 1) for a in (x, y)]
    assert abs(found.covariance_term - from_factors(*rows)[0]) <= 1e-14 * traces
    assert found.method == "factors"


@pytest.mark.parametrize("shape", [(2, 1), (5, 40), (40, 5), (60, 60), (61, 60)])
@pytest.mark.parametrize("offset", [0.0, 1e8])
def test_fid_of_a_set_with_itself(shape, offset):
    x = families.seeded("frechet", "itself").standard_normal(shape) + offset
    trace = np.trace(np.atleast_2d(np.cov(x.T)))
    assert 0 <= fid(real=x, fake=x).value <= 1e-14 * trace
    assert 0 <= fid(real=x, fake=x[::-1]).covariance_term <= 1e-14 * trace


def test_fid_by_hand():
    # Means 1 and 4, variances 2 and 8.
    found = fid(real=[[0], [2]], fake=[[2], [6]])
    assert (found.mean_term, found.covariance_term) == pytest.approx((9.0, 2.0), rel=1e-15)


def test_fid_takes_any_dtype():
    rng = families.seeded("frechet", "dtype")
    x, y = rng.integers(-50, 50, (2, 12, 5))
    expected = fid(real=x, fake=y)
    for dtype in ("float16", "float32", "float64", "int8"):
        assert_same_bits(fid(real=x.astype(dtype), fake=y.astype(dtype)), expected)


# --- the matrix square root -----------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 2, 17, 60])
@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_matrix_sqrt_undoes_a_square(d, scale):
    rng = families.seeded("frechet", "sqrt", d)
    q = rotation(rng, d)
    for values in (np.linspace(1.0, 3.0, d), np.where(np.arange(d) < d // 2, 0.0, 2.0)):
        root = q * values @ q.T
        found = matrix_sqrt(scale * (q * values**2 @ q.T))
        np.testing.assert_allclose(found.value / math.sqrt(scale), root, atol=3e-7)
        assert_same_bits(found.value, found.value.T.copy())
        assert found.residual <= 1e-14
    np.testing.assert_allclose(matrix_sqrt(np.diag(np.arange(d) ** 2.0)).value, np.diag(range(d)))


def test_matrix_sqrt_of_nothing():
    found = matrix_sqrt(np.zeros((3, 3)))
    assert not found.value.any()
    assert found.residual == 0.0


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_covariances_computed_in_float32_pass(method):
    rng = families.seeded("frechet", "float32")
    x = rng.standard_normal((10, 30)).astype("float32")
    s = (x.T @ x) / np.float32(9)
    s[0, 1] += np.float32(1e-7)
    found = frechet_distance(np.zeros(30), s, np.zeros(30), 4 * s, method)
    assert found.value == pytest.approx(np.trace(s.astype("f8")), rel=1e-5)


EYE = np.eye(2)
ASYMMETRIC = [[1.0, 0.5], [0.4, 1.0]]
DISTANCE_ERRORS = [
    (([[0.0]], EYE, [0, 0], EYE), "`mean_1` of shape (d,), d at least 1, got (1, 1)"),
    (([], EYE, [], EYE), "`mean_1` of shape (d,), d at least 1, got (0,)"),
    (([0, 0], EYE, [0], EYE), "`mean_2` of shape (2,) as `mean_1`, got (1,)"),
    (([0, math.nan], EYE, [0, 0], EYE), "`mean_1` to be finite, got nan"),
    (([0, 0], EYE, [0, -math.inf], EYE), "`mean_2` to be finite, got -inf"),
    (([0, 0], [[1.0]], [0, 0], EYE), "`covariance_1` of shape (2, 2), got (1, 1)"),
    (([0, 0], EYE, [0, 0], [1.0, 1.0]), "`covariance_2` of shape (2, 2), got (2,)"),
    (([0, 0], np.full((2, 2), math.inf), [0, 0], EYE), "`covariance_1` to be finite, got inf"),
    (
        ([0, 0], EYE, [0, 0], ASYMMETRIC),
        "`covariance_2` to be symmetric, got 0.5 and 0.4 in rows 0 and 1",
    ),
    (
        ([0, 0], [[1.0, 2.0], [2.0, 1.0]], [0, 0], EYE),
        "`covariance_1` to be positive semi-definite, got the eigenvalue -1",
    ),
    (
        ([0, 0], EYE, [0, 0], [[0.0, 1.0], [1.0, 0.0]]),
        "`covariance_2` to be positive semi-definite, got the eigenvalue -1",
    ),
    (([0], [[-2.0]], [0], [[1.0]]), "`covariance_1` to be positive semi-definite, got the eigen"),
    (
        ([0, 0], EYE, [0, 0], EYE, "sqrtm"),
        '`method` "auto", "newton_schulz", "eigh" or "eigvals", got \'sqrtm\'',
    ),
]


@pytest.mark.parametrize(("arguments", "text"), DISTANCE_ERRORS)
def test_distance_errors(arguments, text):
    with pytest.raises(ValueError, match="^" + re.escape(f"frechet_distance: expected {text}")):
        frechet_distance(*arguments)


@pytest.mark.parametrize(
    ("real", "fake", "text"),
    [
        ([1.0], [[1.0]], "`real` of shape (n, d), n and d at least 1, got (1,)"),
        ([[1.0]], [[1.0], [2.0]], "`real` with at least 2 rows, got 1"),
        ([[1.0], [2.0]], [[1.0]], "`fake` with at least 2 rows, got 1"),
        ([[1.0], [2.0]], [[1.0, 2.0]], "`fake` with 1 columns as `real`, got 2"),
        ([[1.0], [2.0]], [[1.0], [math.nan]], "`fake` to be finite, got nan"),
    ],
)
def test_fid_errors(real, fake, text):
    with pytest.raises(ValueError, match="^" + re.escape(f"fid: expected {text}") + "$"):
        fid(real=real, fake=fake)


@pytest.mark.parametrize(
    ("a", "text"),
    [
        (1.0, "`a` of shape (n, d), n and d at least 1, got ()"),
        ([[1.0, 2.0]], "`a` of shape (1, 1), got (1, 2)"),
        (ASYMMETRIC, "`a` to be symmetric, got 0.5 and 0.4 in rows 0 and 1"),
        ([[-4.0]], "`a` to be positive semi-definite, got the eigenvalue -4.0"),
        ([[math.inf]], "`a` to be finite, got inf"),
    ],
)
def test_matrix_sqrt_errors(a, text):
    with pytest.raises(ValueError, match="^" + re.escape(f"matrix_sqrt: expected {text}") + "$"):
        matrix_sqrt(a)
