"""Log sums of Gaussian kernels within their bound: 1e-5 (float64: 1e-10) + 2^-44 E.

E is the exponent ``|x - y|^2 / 2 h^2`` of the nearest sample. Ranges beyond the usual are in
test_density_range.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal

import families
import numpy as np
import pytest
from checks import assert_same_bits
from density_errors import Sums, paths_for, typical_distance
from exact_density import exact

import fastgen
from fastgen import numpy_reference as reference
from fastgen import pairwise

core = pytest.importorskip("fastgen._core", reason="the compiled module has to be built")

DTYPES = ("float16", "float32", "float64")
ISAS = core.instruction_sets()
PARTS = 2.0 ** (np.arange(-16, 9) / 2)  # the default grid: ratio sqrt 2

# Every family and dtype meets one width and one size of each row: below and above blocks of 256
# points and 512 samples, and of 16 samples.
SWEEPS = (
    ((1, 2, 3, 8), ((1, 1), (5, 513), (257, 130), (40, 53), (2, 1030))),
    ((9, 16, 17, 33, 64), ((3, 385), (193, 17), (1, 40), (60, 1), (30, 96))),
    ((128, 256, 784), ((7, 31), (20, 65), (2, 50))),
)
WIDTHS = np.array([1e-6, 1e-3, 0.05, 0.4, 1.0, 30.0, 1e6])  # in units of the median distance

pytestmark = pytest.mark.filterwarnings("ignore::fastgen.DensityWarning")


@dataclass(frozen=True)
class Case:
    """A data family at one size; `number` moves the choices that change from case to case."""

    family: str
    n: int
    m: int
    d: int
    dtype: str
    number: int

    def __str__(self) -> str:
        return f"{self.family}-n={self.n}-m={self.m}-d={self.d}-{self.dtype}"

    def data(self):
        draw = families.DATA_FAMILIES[self.family]
        rng, n, m = families.seeded("density", str(self)), max(self.n, 2), max(self.m, 2)
        points, samples = draw(rng, n, self.d, self.dtype, m)
        return points[: self.n], samples[: self.m]


def _swept() -> list[Case]:
    cases: list[Case] = []
    for f, family in enumerate(families.DATA_FAMILIES):
        for t, dtype in enumerate(DTYPES):
            for s, (features, sizes) in enumerate(SWEEPS):
                size = sizes[(f + t + s) % len(sizes)]
                d = features[(f + 3 * t + s) % len(features)]
                cases.append(Case(family, *size, d, dtype, len(cases)))
    return cases


def some_weights(m: int, kind: int):
    """Return weights of one of five kinds; 0 is none."""
    rng = families.seeded("density weights", m, kind)
    weights = {
        1: rng.uniform(0.5, 7.0, m),
        2: 10 ** rng.uniform(-6, 0, m),
        3: rng.uniform(0.5, 7.0, m) * (rng.random(m) < 0.6),
        4: 10 ** rng.uniform(-200, 0, m),
    }.get(kind)
    if weights is not None:
        weights[: min(m, 2)] = 1.0  # to be left out, and to be left
    return weights


@pytest.mark.parametrize("case", _swept(), ids=str)
def test_sums_are_those_of_the_reference(case):
    points, samples = case.data()
    alone = len(samples) > 1 and case.number % 3 == 1
    widths = typical_distance(points, samples) * WIDTHS
    weights = some_weights(len(samples), case.number % 5)
    sums = Sums(None if alone else points, samples, widths, weights)
    # One bandwidth; some that float32 takes together; all of them, which it does not.
    choices = [None, [3, 2, 4], *range(7)]
    turn = case.number
    for path in paths_for(case.d):
        for isa in ISAS:
            for columns in (choices[turn % 9], choices[(turn + 4) % 9]):
                sums.check(columns, path=path, isa=isa, threads=1 + turn % 2)
            turn += 1


# --- bandwidths -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [1, 2, 8, 16, 40])
def test_grids_of_bandwidths(d, dtype):
    points, samples = families.gaussian(families.seeded("grids", d), 60, d, dtype, 530)
    own = math.sqrt(d)
    rng = families.seeded("grids of bandwidths")
    grids = {
        "ratio sqrt 2": 0.5 * own * PARTS,
        "ratio 2": own * 2.0 ** np.arange(-6.0, 7),
        "unordered": own * rng.permutation(np.geomspace(0.01, 50, 20) * rng.uniform(0.9, 1.1, 20)),
        "nearly ratio sqrt 2": own * PARTS[:9] * (1 + 1e-13 * np.arange(9)),
        "over 1e12": own * np.geomspace(1e-7, 1e5, 9),
        "repeated": own * np.array([0.3, 1.0, 0.3, 2.0**-0.5, 1.0]),
    }
    for turn, widths in enumerate(grids.values()):
        for weights in (None, some_weights(530, 2)):
            few = slice(20 * turn % 60, 20 * turn % 60 + 20)
            sums = Sums(points[few], samples, widths, weights)
            for path in paths_for(d):
                for isa in ISAS:
                    sums.check(path=path, isa=isa)


@pytest.mark.parametrize("d", [2, 8, 40])
def test_several_bandwidths_are_single_ones(d):
    points, samples = families.gaussian(families.seeded("several", d), 70, d, "float32", 600)
    for widths in (PARTS, [3.0, 0.2, 3.0, 0.21]):
        found = pairwise.log_kernel_sums(points, samples, widths)
        single = np.stack([pairwise.log_kernel_sums(points, samples, h) for h in widths], axis=1)
        sums = Sums(points, samples, widths)
        assert np.all(np.abs(found - single) <= 2 * sums.allowed)
    one = pairwise.log_kernel_sums(points, samples, [0.7])
    assert one.shape == (70, 1)
    assert_same_bits(one[:, 0].copy(), pairwise.log_kernel_sums(points, samples, 0.7))


# --- far points, offsets, outliers, units ---------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [1, 2, 3, 8, 16, 17, 64])
def test_points_far_from_every_sample(d, dtype):
    points, samples = families.gaussian(families.seeded("far", d), 9, d, dtype, 40)
    points[3:6] += np.asarray(200.0, dtype=dtype)
    points[6:] *= np.asarray(1000.0, dtype=dtype)
    # 200 and 1000 are 1e4, 1e6 and 1e8 of these; E is up to 1e16.
    sums = Sums(points, samples, [1e-5, 1e-4, 2e-2, 1e-1, 1.0])
    assert sums.exponents.max() > 1e14
    for path in paths_for(d):
        for isa in ISAS:
            for columns in (None, [0, 1], 0, 2, 3, 4):
                sums.check(columns, path=path, isa=isa)
    assert np.isfinite(sums.values).all()


@pytest.mark.parametrize(
    ("dtype", "offset"), [("float32", 1e3), ("float64", 1e3), ("float64", 1e9)]
)
@pytest.mark.parametrize("d", [1, 2, 8, 16, 17, 64, 256])
def test_a_large_offset(d, dtype, offset):
    points, samples = families.gaussian(families.seeded("offset", d), 30, d, "float64", 50)
    points, samples = (points + offset).astype(dtype), (samples + offset).astype(dtype)
    points[:2] = samples[:2]
    for weights in (None, some_weights(50, 2)):
        sums = Sums(points, samples, math.sqrt(d) * np.array([1e-6, 0.01, 0.3, 2.0]), weights)
        for path in paths_for(d):
            for isa in ISAS:
                for columns in (None, 0, 1, 2):
                    sums.check(columns, path=path, isa=isa)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("factor", [1e6, 1e15])
@pytest.mark.parametrize("d", [1, 2, 8, 16, 17, 64])
def test_one_row_far_larger_than_all_others(d, factor, dtype):
    points, samples = families.gaussian(families.seeded("outlier", d), 20, d, dtype, 50)
    far_sample, far_point = samples.copy(), points.copy()
    far_sample[7] *= np.asarray(factor, dtype=dtype)
    far_point[3] *= np.asarray(factor, dtype=dtype)
    widths = math.sqrt(d) * np.array([0.01, 0.2, 1.0, 0.1 * factor])
    for sets in ((points, far_sample), (far_point, samples), (None, far_sample)):
        sums = Sums(*sets, widths)
        for path in paths_for(d):
            for isa in ISAS:
                for columns in (None, 1, 2):
                    sums.check(columns, path=path, isa=isa)


UNITS = {"float32": (1e-42, 1e-38, 1e-30, 1e30), "float64": (1e-140, 1e-30, 1e30, 1e149)}


@pytest.mark.parametrize(
    ("dtype", "unit"), [(dtype, unit) for dtype, units in UNITS.items() for unit in units]
)
@pytest.mark.parametrize("d", [1, 2, 8, 17, 64])
def test_units_change_nothing(d, dtype, unit):
    points, samples = families.gaussian(families.seeded("units", d), 20, d, "float64", 50)
    points, samples = (unit * points).astype(dtype), (unit * samples).astype(dtype)
    sums = Sums(points, samples, unit * math.sqrt(d) * np.array([0.01, 0.2, 1.0, 1e4]))
    for path in paths_for(d):
        for isa in ISAS:
            for columns in (None, 0, 1, 2, 3):
                sums.check(columns, path=path, isa=isa)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [2, 8, 30])
def test_copies_of_a_sample(d, dtype):
    points, samples = families.gaussian(families.seeded("copies", d), 6, d, dtype, 3)
    samples = samples[np.repeat([0, 1, 2, 0], [510, 3, 1, 20])]
    for sets in ((points, samples), (samples[::7], samples), (None, samples)):
        sums = Sums(*sets, [1e-5, 0.1, 1.0, 1e5])
        for path in paths_for(d):
            for isa in ISAS:
                sums.check(path=path, isa=isa)
                sums.check(0, path=path, isa=isa)
                sums.check(2, path=path, isa=isa)


# --- public functions -----------------------------------------------------------------------------


@pytest.mark.parametrize(("d", "exponent"), [(17, 300), (64, 400), (784, 1200)])
def test_points_that_differ_in_one_feature_only(d, exponent):
    # All that rounding of a row may spoil is in the feature by which it is far from the samples.
    rng = np.random.default_rng(d)
    samples = (0.01 * rng.normal(size=(2000, d))).astype(np.float32)
    points = (0.01 * rng.normal(size=(60, d))).astype(np.float32)
    points[:, 0] = math.sqrt(exponent) * np.linspace(0.98, 1.02, 60)
    for isa in ISAS:
        Sums(points, samples, [1.0]).check(isa=isa)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [1, 2, 8, 16, 17, 256])
def test_log_density_is_that_of_the_reference(d, dtype):
    points, samples = families.gaussian(families.seeded("public", d), 15, d, dtype, 60)
    weights = some_weights(60, 3)
    wide = points.astype(np.float64), samples.astype(np.float64)
    error = 1e-10 if dtype == "float64" else 1e-5
    bandwidths = (None, "scott", "silverman", 0.3, [0.05, 0.7, 2.0])
    for bandwidth in bandwidths:
        for given in (None, weights):
            found = fastgen.log_density(points, samples, bandwidth, weights=given)
            expected = reference.log_density(*wide, bandwidth, weights=given)
            np.testing.assert_allclose(found, expected, rtol=2.0**-40, atol=error)
            assert found.dtype == np.float64
            alone = fastgen.log_density(
                samples, samples, bandwidth, weights=given, leave_one_out=True
            )
            expected = reference.log_density(
                None, wide[1], bandwidth, weights=given, leave_one_out=True
            )
            np.testing.assert_allclose(alone, expected, rtol=2.0**-40, atol=error)


def test_integers_and_two_dtypes_are_the_wider_one():
    points, samples = families.integers(families.seeded("mixed"), 20, 3, "float32", 30)
    points, samples = points.astype(np.int8), samples.astype(np.int8)
    expected = reference.log_density(points, samples, 0.5)
    for x in (points, points.astype("float16"), points.astype("float64")):
        for y in (samples, samples.astype("float32").astype(np.int64)):
            np.testing.assert_allclose(fastgen.log_density(x, y, 0.5), expected, atol=1e-10)
    single = fastgen.log_density(points.astype("float16"), samples.astype("float32"), 0.5)
    np.testing.assert_allclose(single, expected, atol=1e-5)


@pytest.mark.parametrize(("d", "known"), [(256, -447.796), (784, -1380.595)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_high_dimension_where_trees_that_add_up_bounds_are_wrong(d, known, dtype):
    # scikit-learn 1.9 says -263.673 at d = 256 (ball_tree) and -748.145 at d = 784 (kd_tree).
    rng = np.random.default_rng(0)
    samples, point = rng.standard_normal((1000, d)), rng.standard_normal((1, d))
    if dtype == "float64":
        assert fastgen.log_density(point, samples, "scott")[0] == pytest.approx(known, abs=6e-4)
    point, samples = point.astype(dtype), samples.astype(dtype)
    h = 1000 ** (-1 / (d + 4))
    true, nearest = exact(point[0], samples, h)
    for isa in ISAS:
        # log_density takes the process's instruction set; its constant is added here.
        found = pairwise.log_kernel_sums(point, samples, h, isa=isa)[0]
        found -= math.log(1000) + d * math.log(h) + d / 2 * math.log(2 * math.pi)
        error = (1e-10 if dtype == "float64" else 1e-5) + 2.0**-44 * float(nearest)
        assert abs(Decimal(found) - true) <= error
    assert abs(Decimal(fastgen.log_density(point, samples, "scott")[0]) - true) <= error


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("d", [1, 2, 7, 16, 17, 65])
def test_far_points_in_decimal_arithmetic(d, dtype):
    points, samples = families.gaussian(families.seeded("decimal", d), 3, d, dtype, 25)
    points *= np.array([[1.0], [1e4], [1e8]]).astype(dtype)
    for h in (0.3, 1.0):
        for point, row in zip(points, points[:, np.newaxis], strict=True):
            true, nearest = exact(point, samples, h)
            found = fastgen.log_density(row, samples, h)[0]
            error = (1e-10 if dtype == "float64" else 1e-5) + 2.0**-44 * float(nearest)
            assert abs(Decimal(found) - true) <= error
