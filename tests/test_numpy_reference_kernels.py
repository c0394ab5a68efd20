"""The reference's kernels, their sums over rows and the median distance."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from checks import assert_same_bits
from slow_kernels import KERNELS, slow_matrix, two_sets

from fastgen import kernels
from fastgen import numpy_reference as reference
from fastgen.numpy_reference import Energy, Gaussian, Polynomial


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64"])
def test_kernel_matrix_follows_the_definitions(kernel, dtype):
    x, y = two_sets("matrix", n=6, m=4, d=5)
    x, y = (3 * x).astype(dtype), (3 * y).astype(dtype)
    found = reference.kernel_matrix(x, y, kernel)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, slow_matrix(x, y, kernel), rtol=1e-13, atol=1e-13)


def test_kernel_matrix_agrees_with_scikit_learn():
    pairwise = pytest.importorskip("sklearn.metrics.pairwise")
    x, y = two_sets("sklearn", n=30, m=21, d=40)
    expected = pairwise.polynomial_kernel(x, y)
    np.testing.assert_allclose(reference.kernel_matrix(x, y), expected, rtol=1e-12)
    expected = pairwise.polynomial_kernel(x, y, degree=5, gamma=0.1, coef0=2)
    kernel = Polynomial(degree=5, gamma=0.1, coef0=2)
    np.testing.assert_allclose(
        reference.kernel_matrix(x, y, kernel), expected, rtol=1e-12, atol=1e-12
    )
    expected = pairwise.rbf_kernel(x, y, gamma=1 / (2 * 6.0**2))
    np.testing.assert_allclose(reference.kernel_matrix(x, y, Gaussian(6.0)), expected, rtol=1e-12)


def test_kernels_of_very_close_and_very_far_rows():
    x, near, far = np.zeros((1, 4)), np.full((1, 4), 1e-9), np.full((1, 4), 1e100)
    near_one = [Gaussian(1.0), reference.Laplacian(1.0), reference.RationalQuadratic()]
    for kernel, slope in zip(near_one, (2e-18, 2e-9, 2e-18), strict=True):
        assert reference.kernel_matrix(x, x, kernel) == 1.0
        assert 0 <= reference.kernel_matrix(x, far, kernel) < 1e-200
        found = reference.mmd(x, near, kernel, "biased").value
        assert found == pytest.approx(2 * slope, rel=1e-8)  # k - 1 keeps its digits
    tiny = Gaussian(1e-200), Gaussian(1e200)  # whose squares are no float64
    assert [float(reference.kernel_matrix(x, near, kernel)[0, 0]) for kernel in tiny] == [0.0, 1.0]


def test_sums_of_kernels_flatten():
    one, two, three = Polynomial(degree=2), Gaussian(3.0), Energy()
    assert ((one + two) + three).parts() == (one + (two + three)).parts() == (one, two, three)
    x, y = two_sets("flatten", n=5, m=4)
    parts = [reference.kernel_matrix(x, y, kernel) for kernel in (one, two, three)]
    found = reference.kernel_matrix(x, y, one + two + three)
    np.testing.assert_allclose(found, sum(parts), rtol=1e-14, atol=1e-14)


def namesake(name: str, **values: Any) -> Any:
    """Return an object of a class of that name, as the package has its own."""

    def parts(self: Any) -> tuple[Any, ...]:
        return (self,)

    space = {"__annotations__": dict.fromkeys(values, Any), "parts": parts}
    return dataclasses.dataclass(frozen=True)(type(name, (), space))(**values)


def test_kernels_of_another_class_are_known_by_name_and_fields():
    theirs = namesake("Polynomial", degree=2, gamma=None, coef0=0.5)
    ours = Polynomial(degree=2, coef0=0.5)
    x, y = two_sets("namesake", n=5, m=4)
    assert_same_bits(reference.kernel_matrix(x, y, theirs), reference.kernel_matrix(x, y, ours))
    both = ours + namesake("Energy")
    expected = reference.kernel_matrix(x, y, ours + Energy())
    assert_same_bits(reference.kernel_matrix(x, y, both), expected)
    # Defaults of the package's signatures are compared with those of the reference.
    assert theirs == ours
    assert ours == theirs
    assert hash(ours) == hash(Polynomial(2, None, 0.5))
    assert ours != Polynomial()
    assert ours != Gaussian(2.0)
    assert ours != 2
    assert Gaussian(1.0) + ours != ours
    for wrong in (namesake("Linear"), 3, "median"):
        with pytest.raises(TypeError, match="`kernel` to be a kernel, got"):
            reference.kernel_matrix(x, y, wrong)


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_kernels_of_the_package_are_known(kernel):
    theirs = [
        getattr(kernels, type(part).__name__)(**dataclasses.asdict(part)) for part in kernel.parts()
    ]
    theirs = theirs[0] if len(theirs) == 1 else kernels.KernelSum(tuple(theirs))
    assert theirs == kernel
    x, y = two_sets("package", n=5, m=4)
    expected = reference.kernel_matrix(x, y, kernel)
    assert_same_bits(reference.kernel_matrix(x, y, theirs), expected)


def test_kernels_of_the_package_have_the_same_defaults():
    assert kernels.Polynomial() == Polynomial()
    assert kernels.RationalQuadratic() == reference.RationalQuadratic()


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_kernel_sums_add_the_rows(kernel):
    x, y = two_sets("rows", n=9, m=6)
    expected = slow_matrix(x, y, kernel).sum(axis=1)
    np.testing.assert_allclose(reference.kernel_sums(x, y, kernel), expected, rtol=1e-13)
    own = slow_matrix(x, x, kernel)
    np.fill_diagonal(own, 0.0)
    found = reference.kernel_sums(x, kernel=kernel)
    np.testing.assert_allclose(found, own.sum(axis=1), rtol=1e-13)


def test_kernel_sums_by_hand():
    x = np.array([[0.0], [0.0], [3.0]])
    assert_same_bits(reference.kernel_sums(x, kernel=Energy()), np.array([-3.0, -3.0, -6.0]))
    # An array that is passed excludes nothing; an equal row elsewhere counts.
    cubes = np.array([3.0, 3.0, 2 + 10.0**3])
    assert_same_bits(reference.kernel_sums(x, x), cubes)
    assert_same_bits(reference.kernel_sums(x), np.array([2.0, 2.0, 2.0]))
    assert_same_bits(reference.kernel_sums(x[:1]), np.array([0.0]))


# --- the median -----------------------------------------------------------------------------------


def test_median_distance_by_hand():
    # Distances of 0, 1, 5 and 9: 1 4 4 5 8 9.
    assert reference.median_distance([[0.0], [9.0]], [[5.0], [1.0]]) == 4.5
    with pytest.raises(ValueError, match="median distance above 0, got 0"):
        reference.median_distance([[1.0], [1.0]], [[1.0]])


def test_median_distance_agrees_with_scipy():
    distance = pytest.importorskip("scipy.spatial.distance")
    x, y = two_sets("median", n=700, m=650)
    pooled = np.concatenate([x, y])
    expected = np.median(distance.pdist(pooled[:1000]))
    found = reference.median_distance(x, y[:300], seed=5)  # all 1000 rows: no seed matters
    assert found == pytest.approx(expected, rel=1e-12)
    for seed, number in ((None, 0), (0, 0), (7, 7)):
        rows = np.sort(np.random.default_rng(number).choice(1350, 1000, replace=False))
        expected = np.median(distance.pdist(pooled[rows]))
        assert reference.median_distance(x, y, seed) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (Gaussian, "bandwidth"),
        (reference.Laplacian, "bandwidth"),
        (reference.RationalQuadratic, "length_scale"),
    ],
)
def test_the_word_median_is_the_median_of_both_sets(make, word):
    x, y = two_sets("word", n=8, m=5)
    by_word = make(**{word: "median"})
    by_number = make(**{word: reference.median_distance(x, y)})
    assert reference.mmd(x, y, by_word) == reference.mmd(x, y, by_number)
    expected = reference.kernel_sums(x, y, by_number)
    assert_same_bits(reference.kernel_sums(x, y, by_word), expected)
    by_number = make(**{word: reference.median_distance(x[:1], x[1:])})
    expected = reference.kernel_sums(x, kernel=by_number)
    assert_same_bits(reference.kernel_sums(x, kernel=by_word), expected)
