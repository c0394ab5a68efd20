"""Densities at the ends of what numbers can hold: nothing is wrong there without a word.

Values come from decimal arithmetic or by hand; the bound is that of test_density_accuracy.py.
"""

from __future__ import annotations

import math

import families
import numpy as np
import pytest
from density_errors import Sums, paths_for, typical_distance

import fastgen
from fastgen import pairwise

core = pytest.importorskip("fastgen._core", reason="the compiled module has to be built")

ISAS = core.instruction_sets()
WIDE = (2, 20)  # where every path is forced, and where there is but one

pytestmark = pytest.mark.filterwarnings("ignore::fastgen.DensityWarning")


def along(values, d: int, dtype: str = "float64"):
    """Return rows that differ in the last feature only."""
    rows = np.zeros((len(values), d), dtype=dtype)
    rows[:, -1] = values
    return rows


def by_every_path(points, samples, widths, weights=None):
    """Yield what each path and instruction set says, and how it was asked."""
    for path in paths_for(samples.shape[1]):
        for isa in ISAS:
            how = {"path": path, "isa": isa}
            yield pairwise.log_kernel_sums(points, samples, widths, weights=weights, **how), how


# --- bandwidths -----------------------------------------------------------------------------------


@pytest.mark.parametrize("d", WIDE)
def test_minus_infinity_is_what_no_float64_can_hold(d):
    # |x|^2 / 2 h^2 = 1.28e308 is nearly the largest float64, and 2e308 is none.
    for found, how in by_every_path(along([1.6e150, 2e150], d), along([0.0], d), [1e-4, 1e-3]):
        assert found[1].tolist() == [-math.inf, pytest.approx(-2e306)], how
        assert found[0].tolist() == [pytest.approx(-1.28e308), pytest.approx(-1.28e306)], how


@pytest.mark.parametrize("d", WIDE)
@pytest.mark.parametrize("h", [1e-140, 1e-150, 1e-153, 1e140, 1e153, 1e200, 1e300])
def test_bandwidths_beyond_all_scale(d, h):
    expected = -0.5 / h / h
    for found, how in by_every_path(along([0.0, 1.0], d), along([0.0], d), h):
        assert found.tolist() == [0.0, pytest.approx(expected, rel=2.0**-43, abs=1e-10)], how


@pytest.mark.parametrize("middle", [1e-100, 1e-15, 1.0, 1e15, 1e100])
@pytest.mark.parametrize("d", WIDE)
def test_bandwidths_of_one_call_may_differ_by_1e30(d, middle):
    points, samples = along([1.0], d), along([0.0, 1.0], d)
    widths = middle * np.array([1e15, 1e-15, 1.0, 1e10])
    # One sample is at the point, and the other counts where the bandwidth is large.
    expected = [math.log1p(math.exp(-0.5 / h / h)) for h in widths]
    for dtype in ("float32", "float64"):
        off = 1e-5 if dtype == "float32" else 1e-10
        for found, how in by_every_path(points.astype(dtype), samples.astype(dtype), widths):
            np.testing.assert_allclose(found, [expected], rtol=0, atol=off, err_msg=str(how))


# --- weights --------------------------------------------------------------------------------------


@pytest.mark.parametrize("exponent", [-200, -280, -289])
@pytest.mark.parametrize("d", WIDE)
def test_weights_down_to_the_smallest_that_are_taken(d, exponent):
    # Two samples of small weight next to the point, and a heavy one very far away.
    small = float(f"1e{exponent}")
    samples = along([0.0, 1.0, 1e4], d)
    expected = math.log(small) + math.log1p(math.exp(-0.5))
    for found, how in by_every_path(along([0.0], d), samples, 1.0, [small, small, 1.0]):
        assert found.tolist() == [pytest.approx(expected, abs=1e-9)], how


@pytest.mark.parametrize("d", WIDE)
def test_smaller_weights_are_refused(d):
    with pytest.raises(ValueError, match=r"expected `weights` of 0 or at least 1e-290 of"):
        list(by_every_path(along([0.0], d), along([0.0, 1.0], d), 1.0, [1e-300, 1.0]))


def test_weights_too_small_to_be_divided_are_refused():
    with pytest.raises(ValueError, match=r"expected `weights` of 0 or at least 1e-290 of"):
        pairwise.log_kernel_sums(along([0.0], 1), along([0.0, 1.0], 1), weights=[1e-300, 1e100])


@pytest.mark.parametrize("h", [1e70, 1e80, 1e160, 1e300])
@pytest.mark.parametrize("d", WIDE)
def test_a_row_is_left_out_of_its_sum_under_any_bandwidth(d, h):
    weights = np.array([1.0, 1e-100, 1e-100, 1e-100])
    for path in paths_for(d):
        rows = along([0.0, 1.0, 2.0, 3.0], d)
        found = pairwise.log_kernel_sums(rows, bandwidth=h, weights=weights, path=path)
        assert found[0] == pytest.approx(math.log(3e-100), abs=1e-9), path


# --- magnitudes -----------------------------------------------------------------------------------


OUTLIERS = {
    "float32": ((1e-10, 1e20), (1e-30, 1e30), (1e-35, 3e38)),
    "float64": ((1e-60, 1e60), (1.0, 1e150)),
}


@pytest.mark.parametrize("d", WIDE)
@pytest.mark.parametrize(
    ("dtype", "small", "large"), [(dtype, *pair) for dtype in OUTLIERS for pair in OUTLIERS[dtype]]
)
def test_an_outlier_beyond_all_scale(d, dtype, small, large):
    samples = along([small, -small, large], d, dtype)
    expected = math.log(2) - 0.5 * (float(samples[0, -1]) / small) ** 2
    off = 1e-5 if dtype == "float32" else 1e-10
    for found, how in by_every_path(along([0.0], d, dtype), samples, small):
        assert found.tolist() == [pytest.approx(expected, abs=off)], how


@pytest.mark.parametrize("family", families.FLOAT64_FAMILIES)
@pytest.mark.parametrize("d", WIDE)
def test_rows_whose_squares_are_no_float64(family, d):
    rng = families.seeded("range", family, d)
    points, samples = families.FLOAT64_FAMILIES[family](rng, 20, d, "float64", 30)
    sums = Sums(points, samples, typical_distance(points, samples) * np.array([0.05, 1.0, 1e3]))
    for path in paths_for(d):
        for isa in ISAS:
            for columns in (None, 0, 1, 2):
                sums.check(columns, path=path, isa=isa)


@pytest.mark.parametrize("c", [1e-300, 1e-200, 1e-160, 1e149])
@pytest.mark.parametrize("d", [1, 2, 17])
def test_units_of_float64(c, d):
    points, samples = families.gaussian(families.seeded("units", d), 9, d, "float64", 30)
    c = 2.0 ** round(math.log2(c))  # which rounds nothing
    widths = np.array([0.05, 1.0, 20.0])
    expected = pairwise.log_kernel_sums(points, samples, widths)
    found = pairwise.log_kernel_sums(c * points, c * samples, c * widths)
    np.testing.assert_allclose(found, expected, rtol=2.0**-43, atol=1e-10)


def test_the_mean_of_log_densities_that_add_up_to_more_than_a_float64():
    found = fastgen.heldout_log_likelihood(along([1.5e150] * 3, 1), along([0.0], 1), 1e-4)
    assert found.mean == pytest.approx(-1.125e308)
    best = fastgen.select_bandwidth(along([0.0, 1.5e150, 3e150], 1), [1e-4])
    assert best.scores.tolist() == [pytest.approx(-1.125e308)]
    assert best.bandwidth == 1e-4


@pytest.mark.parametrize("value", [0.1, 0.3, 1 / 3, 123.456])
def test_equal_rows_have_no_spread_whatever_their_mean_rounds_to(value):
    text = r"^select_bandwidth: expected `samples` that differ, or `candidates`, got equal rows$"
    for n in (2, 3, 6, 7, 10, 49, 100):
        for dtype in ("float32", "float64"):
            with pytest.raises(ValueError, match=text):
                fastgen.select_bandwidth(np.full((n, 2), value, dtype=dtype))
