"""Log sums of Gaussian kernels on a CUDA device, within 1e-5 (float64: 1e-10) + 2^-44 E nats.

E is the exponent ``|x - y|^2 / 2 h^2`` of the nearest sample.
"""

from __future__ import annotations

import math

import families
import numpy as np
import pytest
from checks import assert_same_bits
from density_errors import Sums, typical_distance
from test_density_accuracy import PARTS, WIDTHS, Case, some_weights

import fastgen
from fastgen import numpy_reference as reference
from fastgen import pairwise

DTYPES = ("float16", "float32", "float64")
PATHS = {"direct": 16, "tiles": 10**6}
SWEEPS = (
    ((1, 2, 3, 8, 16), ((1, 1), (5, 300), (130, 257), (40, 53))),
    ((17, 33, 64, 130), ((3, 129), (60, 1), (30, 96))),
)

pytestmark = pytest.mark.filterwarnings("ignore::fastgen.DensityWarning")


def _swept() -> list[Case]:
    cases: list[Case] = []
    for f, family in enumerate(families.DATA_FAMILIES):
        for s, (features, sizes) in enumerate(SWEEPS):
            size, d = sizes[(f + s) % len(sizes)], features[(f // 2 + s) % len(features)]
            cases.append(Case(family, *size, d, DTYPES[(f + s) % 3], len(cases)))
    return cases


def _paths(d: int) -> list[str]:
    return [path for path, most in PATHS.items() if d <= most]


@pytest.mark.parametrize("case", _swept(), ids=str)
def test_sums_are_those_of_the_reference(case):
    points, samples = case.data()
    alone = len(samples) > 1 and case.number % 3 == 1
    widths = typical_distance(points, samples) * WIDTHS
    weights = some_weights(len(samples), case.number % 5)
    sums = Sums(None if alone else points, samples, widths, weights)
    choices = [None, [3, 2, 4], *range(7)]
    for turn, path in enumerate(_paths(case.d), case.number):
        for columns in (choices[turn % 9], choices[(turn + 4) % 9]):
            sums.check(columns, path=path, device="cuda")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [1, 2, 16, 40])
def test_grids_of_bandwidths(d, dtype):
    points, samples = families.gaussian(families.seeded("grids", d), 40, d, dtype, 260)
    own = math.sqrt(d)
    rng = families.seeded("grids of bandwidths")
    grids = {
        "ratio sqrt 2": 0.5 * own * PARTS[:12],
        "ratio 2": own * 2.0 ** np.arange(-6.0, 4),
        "unordered": own * rng.permutation(np.geomspace(0.01, 50, 9) * rng.uniform(0.9, 1.1, 9)),
        "over 1e12": own * np.geomspace(1e-7, 1e5, 7),
        "repeated": own * np.array([0.3, 1.0, 0.3, 2.0**-0.5, 1.0]),
    }
    for widths in grids.values():
        sums = Sums(points, samples, widths)
        for path in _paths(d):
            sums.check(path=path, device="cuda")


@pytest.mark.parametrize("d", range(1, 18))
def test_every_number_of_features(d):
    points, samples = families.gaussian(families.seeded("features", d), 20, d, "float32", 70)
    sums = Sums(points, samples, [0.3 * math.sqrt(d), 2.0 * math.sqrt(d)])
    for columns in (0, 1, None):
        sums.check(columns, device="cuda")


@pytest.mark.parametrize("d", [2, 40])
@pytest.mark.parametrize("away", [1e2, 1e4])
def test_points_far_from_every_sample(d, away):
    points, samples = families.gaussian(families.seeded("far", d), 30, d, "float32", 90)
    sums = Sums(points + np.float32(away), samples, [1.0, 0.7])
    for columns in (0, 1, None):
        sums.check(columns, device="cuda")


@pytest.mark.parametrize("d", [2, 20])
def test_public_functions(d):
    points, samples = families.gaussian(families.seeded("public", d), 60, d, "float32", 150)
    found = fastgen.log_density(points, samples, device="cuda")
    np.testing.assert_allclose(found, reference.log_density(points, samples), atol=2e-5, rtol=0)
    ours = fastgen.select_bandwidth(samples, device="cuda")
    theirs = fastgen.select_bandwidth(samples)
    assert ours.bandwidth == theirs.bandwidth
    np.testing.assert_allclose(ours.scores, theirs.scores, atol=2e-5, rtol=0)
    held = fastgen.heldout_log_likelihood(points, samples, 0.7, device="cuda")
    expected = fastgen.heldout_log_likelihood(points, samples, 0.7)
    assert held.mean == pytest.approx(expected.mean, abs=2e-5)


@pytest.mark.parametrize("d", [2, 40])
def test_the_same_bits_from_run_to_run_and_on_several_devices(d):
    points, samples = families.gaussian(families.seeded("bits", d), 140, d, "float32", 300)
    first = pairwise.log_kernel_sums(points, samples, 0.7, device="cuda")
    assert_same_bits(pairwise.log_kernel_sums(points, samples, 0.7, device="cuda"), first)
    assert_same_bits(pairwise.log_kernel_sums(points, samples, 0.7, device="cuda:all"), first)
    # A point's sum depends on no other point.
    some = pairwise.log_kernel_sums(points[17:90], samples, 0.7, device="cuda")
    assert_same_bits(some, np.ascontiguousarray(first[17:90]))
