"""Frechet distances on a device: by matrix products, within their bounds, and few of them."""

from __future__ import annotations

import math
import re
from collections import Counter

import frechet_cases
import numpy as np
import pytest
from checks import assert_same_bits
from families import seeded
from frechet_cases import CONDITIONS, KINDS, from_roots, graded_roots, rotation
from library_arrays import library, refuse

from fastgen import fid, frechet_distance, matrix_sqrt, polar
from fastgen import matrices as of_libraries

__all__ = ["library"]  # a fixture


def distance(library, s_1, s_2, method="auto"):
    zeros = np.zeros(len(s_1))
    return frechet_distance(library(zeros), library(s_1), zeros, library(s_2), method)


def trace(*covariances):
    return math.fsum(float(s.trace()) for s in covariances)


# --- covariances ----------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 2, 5, 16, 64])
@pytest.mark.parametrize(
    ("condition", "tolerance"), [(1.0, 1e-14), (1e4, 1e-13), (1e8, 1e-11), (1e12, 1e-10)]
)
def test_ill_conditioned_covariances(d, condition, tolerance, library):
    for kind in KINDS:
        rng = seeded("device", "condition", d, str(condition), kind)
        roots = graded_roots(rng, d, condition, kind)
        expected, traces = from_roots(*roots)
        found = distance(library, *(root @ root.T for root in roots))
        assert found.value >= 0
        assert found.method == "newton_schulz"
        assert abs(found.value - expected) <= min(tolerance * traces, found.error_bound), kind
        assert found.error_bound <= 4e-6 * traces, kind


@pytest.mark.parametrize("d", [2, 5, 16, 64])
def test_a_condition_number_beyond_float64(d, library):
    for kind in KINDS:
        roots = graded_roots(seeded("device", "beyond", d, kind), d, 1e16, kind)
        expected, traces = from_roots(*roots)
        found = distance(library, *(root @ root.T for root in roots))
        assert abs(found.value - expected) <= min(1e-7 * traces, found.error_bound), kind


@pytest.mark.parametrize("d", [1, 2, 5, 16, 64])
def test_singular_covariances(d, library):
    rng = seeded("device", "singular", d)
    for name, *roots in frechet_cases.singular_roots(rng, d):
        expected, traces = from_roots(*roots)
        found = distance(library, *(root @ root.T for root in roots))
        assert found.value >= 0, name
        # Nothing of the size of 2^-26 is left in the directions that are 0.
        assert abs(found.value - expected) <= min(1e-13 * traces, found.error_bound), name
        assert found.error_bound <= 6e-6 * traces, name


def test_the_bound_bounds(library):
    pytest.importorskip("mpmath")
    compared = 0
    for condition in (*CONDITIONS, 1e14, 1e17):
        for d in (1, 2, 4):
            rng = seeded("device", "bound", d, str(condition))
            for kind in KINDS:
                s_1, s_2 = (r @ r.T for r in graded_roots(rng, d, condition, kind))
                exact = frechet_cases.exactly(s_1, s_2)
                if exact is None:  # rounding has made it indefinite
                    continue
                compared += 1
                found = distance(library, s_1, s_2)
                assert abs(found.value - exact) <= found.error_bound, (condition, d, kind)
    assert compared >= 40


@pytest.mark.parametrize("d", [1, 16, 64])
def test_the_bound_is_small_where_covariances_are_well_conditioned(d, library):
    rng = seeded("device", "small bound", d)
    s_1, s_2 = (np.atleast_2d(np.cov(rng.standard_normal((d, 6 * d + 4)))) for _ in range(2))
    assert distance(library, s_1, s_2).error_bound <= 1e-10 * trace(s_1, s_2)


@pytest.mark.parametrize("spread", [1.0, 1e4, 1e16, 1e100])
def test_diagonal(spread, library):
    a, b = np.geomspace(1, 1 / spread, 20), np.geomspace(1 / spread, 1, 20)
    a[3] = b[7] = 0.0
    found = distance(library, np.diag(a), np.diag(b))
    expected = math.fsum((np.sqrt(a) - np.sqrt(b)) ** 2)
    assert abs(found.value - expected) <= min(1e-14 * math.fsum([*a, *b]), found.error_bound)


def test_zero_covariances(library):
    s = np.diag([4.0, 1.0, 0.0])
    for first, second, expected in ((0 * s, s, 5.0), (s, 0 * s, 5.0), (0 * s, 0 * s, 0.0)):
        found = distance(library, first, second)
        assert found.value == expected
        assert found.error_bound <= 1e-5


@pytest.mark.parametrize("rank", [1, 4, 29, 30])
def test_equal_distributions_are_at_distance_zero(rank, library):
    root = seeded("device", "equal", rank).standard_normal((30, rank))
    s = root @ root.T
    found = distance(library, s, s)
    assert 0 <= found.value <= min(1e-10 * trace(s), found.error_bound)


def test_powers_of_two_scale_the_distance_to_the_bit(library):
    rng = seeded("device", "powers")
    for rank in (12, 7):
        s_1, s_2 = (r @ r.T for r in rng.standard_normal((2, 12, rank)))
        expected = distance(library, s_1, s_2)
        for power in (-200, -7, 1, 200):
            c = 4.0**power
            found = distance(library, c * s_1, c * s_2)
            assert (found.value, found.error_bound) == (
                c * expected.value,
                c * expected.error_bound,
            )


def test_scales_of_features_do_not_matter(library):
    rng = seeded("device", "scales")
    scales = np.geomspace(1e-9, 1e9, 12)[:, np.newaxis]
    for rank in (12, 5):
        roots = [root * scales for root in rng.standard_normal((2, 12, rank))]
        expected, traces = from_roots(*roots)
        found = distance(library, *(root @ root.T for root in roots))
        assert abs(found.value - expected) <= min(1e-9 * traces, found.error_bound)
        assert found.error_bound <= 4e-6 * traces


def test_methods_of_lapack_take_arrays_of_a_device(library):
    rng = seeded("device", "methods")
    s_1, s_2 = (r @ r.T for r in rng.standard_normal((2, 9, 9)))
    zeros = np.zeros(9)
    for method in ("eigh", "eigvals"):
        expected = frechet_distance(zeros, s_1, zeros, s_2, method)
        found = distance(library, s_1, s_2, method)
        assert (found.value, found.method) == (expected.value, method)
    expected = distance(library, s_1, s_2)
    assert_same_bits(distance(library, s_1, s_2, "newton_schulz"), expected)


@pytest.mark.parametrize("dtype", ["float16", "float32", "int32"])
def test_dtypes(dtype, library):
    s_1, s_2 = np.array([[4.0, 2.0], [2.0, 5.0]]), np.array([[9.0, -1.0], [-1.0, 1.0]])
    means = np.array([[1.0, 2.0], [4.0, 6.0]])
    expected = frechet_distance(*map(library, (means[0], s_1, means[1], s_2)))
    arrays = [library(a, dtype) for a in (means[0], s_1, means[1], s_2)]
    assert_same_bits(frechet_distance(*arrays), expected)
    assert expected.mean_term == 25.0


# --- which way, and how much work -----------------------------------------------------------------


def test_no_eigenvalues_where_a_gap_parts_what_is_zero(library, monkeypatch):
    monkeypatch.setattr("fastgen.polar_fidelity.by_eigenvalues", refuse)
    rng = seeded("device", "gap")
    for ranks in ((40, 40), (40, 10), (10, 40), (15, 3), (39, 1)):
        roots = [rng.standard_normal((40, rank)) for rank in ranks]
        expected, traces = from_roots(*roots)
        found = distance(library, *(root @ root.T for root in roots))
        assert abs(found.value - expected) <= 1e-13 * traces


def test_eigenvalues_where_there_is_no_gap(library, monkeypatch):
    roots = graded_roots(seeded("device", "no gap"), 30, 1e17, "random rotation")
    covariances = [root @ root.T for root in roots]
    distance(library, *covariances)
    monkeypatch.setattr("fastgen.polar_fidelity.by_eigenvalues", refuse)
    with pytest.raises(AssertionError, match="was called"):
        distance(library, *covariances)


class Operations:
    """Count what torch is asked to do."""

    def __init__(self, torch):
        from torch.utils._python_dispatch import TorchDispatchMode

        counted: Counter[str] = Counter()

        class Mode(TorchDispatchMode):
            def __torch_dispatch__(self, function, types, arguments=(), options=None):
                counted[function.__name__.split(".")[0]] += 1
                return function(*arguments, **(options or {}))

        self.mode, self.counted = Mode(), counted

    def of(self, call):
        self.counted.clear()
        with self.mode:
            call()
        products = self.counted["mm"] + self.counted["addmm"]
        factorisations = self.counted["linalg_cholesky_ex"] + 10 * self.counted["_linalg_eigh"]
        # A number that is brought to the host waits for all work before it.
        return products, factorisations, self.counted["_local_scalar_dense"]


def test_few_products_and_fewer_waits(library):
    if library.name != "torch":
        pytest.skip("counts the operations of torch")
    operations = Operations(library.module)
    rng = seeded("device", "count")
    counts = {}
    for d in (64, 128):
        full = [np.cov(rng.standard_normal((d, 4 * d))) for _ in range(2)]
        low = [np.cov(rng.standard_normal((d, d // 2))) for _ in range(2)]
        few = [library(rng.standard_normal((d // 2, d))) for _ in range(2)]
        counts["regular", d] = operations.of(lambda s=full: distance(library, *s))
        counts["singular", d] = operations.of(lambda s=low: distance(library, *s))
        counts["few rows", d] = operations.of(lambda x=few: fid(real=x[0], fake=x[1]))
    for d in (64, 128):
        products, factorisations, waits = counts["regular", d]
        assert (products <= 40, factorisations, waits <= 16) == (True, 3, True)
        products, factorisations, waits = counts["singular", d]
        assert (products <= 165, factorisations <= 7, waits <= 32) == (True, True, True)
        products, factorisations, waits = counts["few rows", d]
        assert (products <= 55, factorisations, waits <= 12) == (True, 1, True)


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("matrix", "text"),
    [
        (np.ones((2, 3)), "of shape (2, 2), got shape (2, 3)"),
        (np.array([[1.0, 0.5], [0.25, 1.0]]), "to be symmetric, got 0.5 and 0.25"),
        (np.array([[1.0, 2.0], [2.0, 1.0]]), "to be positive semi-definite, got the eigenvalue -"),
        (np.diag([1.0, -2.0]), "to be positive semi-definite, got the eigenvalue -2.0"),
        (np.diag([1.0, np.inf]), "to be finite, got inf in row 1, column 1"),
        (np.diag([1.0, 1e-200]), "with variances of 0 or from 1e-150 to 1e+150, got 1e-200"),
    ],
)
def test_bad_covariances(matrix, text, library):
    text = f"^frechet_distance: expected `covariance_2` {re.escape(text)}"
    with pytest.raises(ValueError, match=text):
        distance(library, np.eye(2), matrix)


def test_one_covariance_alone_on_a_device(library):
    text = "`covariance_2` of the library and on the device of `covariance_1`"
    with pytest.raises(TypeError, match=re.escape(text)):
        frechet_distance(np.zeros(2), library(np.eye(2)), np.zeros(2), np.eye(2))


# --- what they are made of ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values", [np.ones(40), np.geomspace(1, 1e-9, 40), np.r_[1.0, np.zeros(9)]]
)
def test_sum_of_singular_values(values, library):
    rng = seeded("device", "nuclear", len(values))
    n = len(values)
    a = rotation(rng, n + 5)[:, :n] * values @ rotation(rng, n).T
    made = n * 2.0**-52 * values.sum()  # what rounding did to the matrix
    for matrix in (a, a.T):
        value, error = polar.nuclear_norm(library(matrix))
        assert abs(value - values.sum()) <= error + made
        assert error <= 2e-10 * value
        wrong = library(-np.linalg.svd(matrix, full_matrices=False)[0] @ np.eye(n, matrix.shape[1]))
        value, error = polar.certificate(library(matrix), wrong)
        assert abs(value - values.sum()) <= error + made


def test_a_known_bound_saves_steps(library, monkeypatch):
    asked = []
    steps = polar.quintic_steps
    monkeypatch.setattr(polar, "quintic_steps", lambda least: asked.append(least) or steps(least))
    a = np.diag(np.linspace(0.5, 1, 12)) * 2.0**40
    expected = polar.nuclear_norm(library(a))
    found = polar.nuclear_norm(library(a), smallest=2.0**39)
    assert found[0] == pytest.approx(expected[0], rel=1e-14)
    assert found[1] <= 1e-12 * found[0]
    assert asked[0] == polar.LEAST
    assert 0.5 / 12**0.125 / 2 <= asked[1] <= 0.5


def test_products_and_factors(library):
    rng = seeded("device", "products")
    a, b, c = rng.standard_normal((3, 8, 8))
    there = library(a)
    xp = of_libraries.namespace(there)
    found = of_libraries.add_product(xp, there, library(b), 2.0, library(c), -3.0)
    assert np.asarray(found.tolist()) == pytest.approx(2 * a @ b - 3 * c, abs=1e-13)
    root = of_libraries.cholesky(xp, library(a @ a.T + np.eye(8)))
    assert np.asarray(root.tolist()) == pytest.approx(np.linalg.cholesky(a @ a.T + np.eye(8)))
    inverse = np.asarray(of_libraries.lower_inverse(xp, root).tolist())
    assert inverse @ np.asarray(root.tolist()) == pytest.approx(np.eye(8), abs=1e-12)
    assert of_libraries.cholesky(xp, library(np.diag([1.0, -1.0]))) is None
    assert of_libraries.cholesky(xp, library(np.array([[1.0, 2.0], [2.0, 1.0]]))) is None
    assert of_libraries.cholesky(xp, library(np.array([[np.nan]]))) is None


@pytest.mark.parametrize("condition", [1e2, 1e12])
def test_matrix_sqrt(condition, library):
    q = rotation(seeded("device", "root"), 30)
    a = q * np.geomspace(1, 1 / condition, 30) @ q.T
    a = 0.5 * (a + a.T)
    found = matrix_sqrt(library(a))
    assert found.residual <= 1e-14
    assert found.value.device == library(a).device
    root = np.asarray(found.value.tolist())
    assert np.abs(root @ root - a).max() <= 1e-14
    assert_same_bits(root, root.T.copy())
