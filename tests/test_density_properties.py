"""Hypothesis: densities of small adversarial sets by every path, and laws that hold of any."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from density_errors import Sums, paths_for
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis.extra import numpy as hnp

import fastgen
from fastgen import pairwise

core = pytest.importorskip("fastgen._core", reason="the compiled module has to be built")

ISAS = core.instruction_sets()
# Values that meet: zeros, copies, neighbouring numbers, and magnitudes from one end to the other.
AWKWARD = {
    "float16": [0.0, -0.0, 1.0, -1.0, 1.001, 3.0, 6e-8, 6e-5, 65504.0, -65504.0],
    "float32": [0.0, -0.0, 1.0, -1.0, 1.0000001, 3.0, 1e-45, 1e-30, 1e-5, 1e5, 1e15, -1e15],
    "float64": [0.0, -0.0, 1.0, -1.0, 1.0 + 2.0**-52, 3.0, 1e-60, 1e-30, 1e-5, 1e15, -1e60, 1e60],
}
WIDTHS = st.floats(-8, 8).map(lambda exponent: 10.0**exponent)

pytestmark = pytest.mark.filterwarnings("ignore::fastgen.DensityWarning")
SEVERAL = settings(
    max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@st.composite
def matrices(draw, dtype: str, n: int, d: int):
    common = st.sampled_from(AWKWARD[dtype])
    value = common | st.floats(-4, 4, width={"float16": 16, "float32": 32}.get(dtype, 64))
    rows = draw(hnp.arrays(dtype, (n, d), elements=value))
    copies = draw(st.lists(st.integers(0, n - 1), max_size=n))
    rows[: len(copies)] = rows[copies]
    return rows


@st.composite
def problems(draw, dtypes=("float16", "float32", "float64"), weighted=False):
    """Points (None: the samples, leaving one out), samples, bandwidths, weights, path and isa."""
    dtype = draw(st.sampled_from(dtypes))
    d = draw(st.sampled_from([1, 2, 3, 4, 8, 9, 16, 17, 33]))
    n, m = draw(st.integers(1, 9)), draw(st.integers(1, 20))
    samples = draw(matrices(dtype, m, d))
    points = draw(matrices(dtype, n, d))
    weight = st.sampled_from([0.0, 1e-30, 1e-6, 1.0, 3.0]) | st.floats(1e-9, 10.0)
    if not weighted:
        weight = weight | st.just(1e-200)
    weights = draw(
        (st.nothing() if weighted else st.none()) | st.lists(weight, min_size=m, max_size=m)
    )
    alone = m > 1 and draw(st.booleans())
    if weights is not None:
        above = np.count_nonzero(weights)
        assume(above >= (2 if alone else 1))
    widths = draw(st.lists(WIDTHS, min_size=1, max_size=5))
    path, isa = draw(st.sampled_from(paths_for(d))), draw(st.sampled_from(ISAS))
    return None if alone else points, samples, widths, weights, path, isa


@settings(SEVERAL, max_examples=400)
@given(problems())
@example((np.zeros((1, 1)), np.zeros((1, 1)), [1.0], None, "tiles", ISAS[-1]))
@example((None, np.array([[0.0], [1e60]]), [1e-8, 1e8], [1.0, 1e-200], "ordered", ISAS[0]))
def test_any_small_problem_is_within_the_bound(problem):
    points, samples, widths, weights, path, isa = problem
    assume(max(widths) < 1e25 * min(widths))
    Sums(points, samples, widths, weights).check(path=path, isa=isa)


@SEVERAL
@given(problems(("float64",)), st.integers(-30, 30))
def test_a_power_of_two_as_unit_subtracts_its_logarithm(problem, k):
    points, samples, widths, weights, *_ = problem
    alone = points is None
    d, scale = samples.shape[1], 2.0**k
    how = {"weights": weights, "leave_one_out": alone}
    expected = fastgen.log_density(points, samples, widths, **how) - d * math.log(scale)
    moved = None if alone else points * scale
    found = fastgen.log_density(moved, samples * scale, np.multiply(widths, scale), **how)
    np.testing.assert_allclose(found, expected, rtol=2.0**-43, atol=1e-9)


@SEVERAL
@given(problems(weighted=True), st.floats(-250, 250))
def test_the_scale_of_weights_does_not_matter(problem, exponent):
    points, samples, widths, weights, *_ = problem
    how = {"leave_one_out": points is None}
    expected = fastgen.log_density(points, samples, widths, weights=weights, **how)
    scaled = np.multiply(weights, 10.0**exponent)
    found = fastgen.log_density(points, samples, widths, weights=scaled, **how)
    np.testing.assert_allclose(found, expected, rtol=2.0**-43, atol=2e-5)


@SEVERAL
@given(problems(), st.randoms(use_true_random=False))
def test_the_order_of_samples_does_not_matter(problem, random):
    points, samples, widths, weights, path, isa = problem
    assume(points is not None)
    order = random.sample(range(len(samples)), len(samples))
    shuffled = None if weights is None else np.array(weights)[order]
    sums = Sums(points, samples, widths, weights)
    how = {"path": path, "isa": isa}
    found = pairwise.log_kernel_sums(points, samples[order], widths, weights=shuffled, **how)
    sums.compare(found, slice(None), "shuffled")
    with np.errstate(invalid="ignore"):
        first = pairwise.log_kernel_sums(points, samples, widths, weights=weights, **how)
        assert np.all((np.abs(found - first) <= 2 * sums.allowed) | (found == first))


@SEVERAL
@given(problems())
def test_more_samples_make_no_sum_smaller(problem):
    points, samples, widths, _, path, isa = problem
    assume(points is not None)
    assume(len(samples) > 1)
    how = {"path": path, "isa": isa}
    fewer = pairwise.log_kernel_sums(points, samples[:-1], widths, **how)
    all_of_them = pairwise.log_kernel_sums(points, samples, widths, **how)
    allowed = Sums(points, samples[:-1], widths).allowed
    assert np.all(all_of_them >= fewer - 2 * allowed)


@SEVERAL
@given(problems())
def test_sums_lie_between_their_largest_term_and_that_of_all(problem):
    points, samples, widths, _, path, isa = problem
    sums = Sums(points, samples, widths)
    x, y = (samples, None) if points is None else (points, samples)
    found = pairwise.log_kernel_sums(x, y, widths, path=path, isa=isa)
    terms = len(samples) - (points is None)
    assert np.all(found >= -sums.exponents - sums.allowed)
    assert np.all(found <= math.log(terms) - sums.exponents + sums.allowed)
