"""Densities to the last bit: whatever threads, steps, budgets and layouts they come by."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import families
import numpy as np
import pytest
from checks import Array, assert_same_bits
from density_errors import paths_for

import fastgen
from fastgen import pairwise

core = pytest.importorskip("fastgen._core", reason="the compiled module has to be built")

ISAS = core.instruction_sets()
DTYPES = ("float16", "float32", "float64")
WIDTHS = ([1.0], [0.3, 1.0, 0.05, 20.0], [2.0 ** (i / 2) for i in range(-8, 4)])
# Few points and many samples, which threads share; many points; blocks that are not full.
SIZES = ((3, 2000), (700, 1100), (1500, 40), (257, 513))

pytestmark = pytest.mark.filterwarnings("ignore::fastgen.DensityWarning")


def sets(n: int, m: int, d: int, dtype: str) -> tuple[Array, Array]:
    points, samples = families.gaussian(families.seeded("bits", n, m, d), n, d, dtype, m)
    points[: n // 4] *= 50  # some are far, and done again
    samples[: m // 8] = samples[0]
    return points, samples


def some_weights(m: int) -> Array:
    return 10 ** families.seeded("bits weights", m).uniform(-6, 0, m)


def run(points: Array | None, samples: Array, widths, step: float = 10.0, **how):
    """Drive the engine itself, whose steps no caller chooses."""
    options = {"weights": None, "path": "auto", "isa": ISAS[0], "threads": 1} | how
    rows = samples if points is None else points
    engine = core.LogSums(rows, samples, widths, leave_one_out=points is None, **options)
    while engine.advance(step) < 1.0:
        pass
    return engine.finish()


# --- threads, steps, runs -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [1, 2, 7, 16, 40])
def test_threads_and_steps_change_no_bit(d, dtype):
    turn = 0
    for (n, m), path in itertools.product(SIZES, paths_for(d)):
        points, samples = sets(n, m, d, dtype)
        weights = some_weights(m) if turn % 2 else None
        for given in (points, None):
            isa, widths = ISAS[turn % len(ISAS)], WIDTHS[turn % 3]
            how = {"weights": weights, "path": path, "isa": isa}
            expected = run(given, samples, widths, **how)
            for threads in (2, 3):
                found = run(given, samples, widths, threads=threads, **how)
                assert_same_bits(found, expected, f"{threads} threads, {how}")
            for threads in (1, 2):
                found = run(given, samples, widths, step=0.0, threads=threads, **how)
                assert_same_bits(found, expected, f"steps, {threads} threads, {how}")
            turn += 1


def test_large_ordered_sets_do_not_depend_on_threads():
    x = families.clusters(0.01, families.seeded("ordered bits"), 40_000, 3, "float32", 2)[0]
    for widths in (0.05, [0.05, 0.2, 0.01]):
        expected = pairwise.log_kernel_sums(x[:3000], x, widths, path="ordered", threads=1)
        for threads in (2, 3):
            found = pairwise.log_kernel_sums(x[:3000], x, widths, path="ordered", threads=threads)
            assert_same_bits(found, expected, f"{threads} threads")


def test_windows_of_packed_rows_do_not_depend_on_threads():
    # 15000 rows of 784 features are two windows of packed float64 numbers.
    samples = families.gaussian(families.seeded("windows"), 15_000, 784, "float32", 2)[0]
    points = samples[:40] + np.float32(0.5)
    expected = pairwise.log_kernel_sums(points, samples, 20.0, threads=1)
    for threads in (2, 3):
        assert_same_bits(pairwise.log_kernel_sums(points, samples, 20.0, threads=threads), expected)
    halves = [pairwise.log_kernel_sums(points, part, 20.0) for part in np.split(samples, 2)]
    np.testing.assert_allclose(np.logaddexp(*halves), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("d", [2, 12, 30])
def test_public_calls_do_not_depend_on_threads_runs_or_budget(d, dtype):
    points, samples = sets(300, 700, d, dtype)
    weights = some_weights(700)

    def everything(**how):
        return [
            fastgen.log_density(points, samples, [0.1, 1.0], weights=weights, **how),
            fastgen.log_density(None, samples, leave_one_out=True, **how),
            fastgen.log_density(points, samples, covariance="sample", **how),
            fastgen.select_bandwidth(samples, **how),
            fastgen.select_bandwidth(samples, [0.5, 1.0], 3, **how),
            fastgen.heldout_log_likelihood(points, samples, 0.7, **how),
        ]

    expected = everything()
    for how in ({}, {"threads": 1}, {"threads": 2}, {"threads": 3}, {"memory": "300MB"}):
        assert_same_bits(everything(**how), expected, str(how))


def test_callers_threads_change_no_bit():
    cases = [sets(150 + 40 * i, 90 * i, d, "float32") for i, d in ((1, 2), (2, 9), (3, 33), (4, 1))]
    expected = [fastgen.log_density(*case, [0.3, 1.0]) for case in cases]
    with ThreadPoolExecutor(max_workers=4) as pool:
        for threads in (1, 3):
            found = pool.map(
                lambda case, t=threads: pairwise.log_kernel_sums(*case, [0.3, 1.0], threads=t),
                cases,
            )
            bare = [pairwise.log_kernel_sums(*case, [0.3, 1.0]) for case in cases]
            assert_same_bits(list(found), bare)
    assert_same_bits([fastgen.log_density(*case, [0.3, 1.0]) for case in cases], expected)


# --- layouts and dtypes ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [1, 3, 16, 40])
def test_layouts_change_no_bit(d, dtype):
    points, samples = sets(60, 530, d, dtype)
    swapped = np.dtype(dtype).newbyteorder()

    def strided(rows):
        wide = np.full((2 * len(rows), d + 3), np.nan, dtype=dtype)
        wide[::2, 1 : d + 1] = rows
        return wide[::2, 1 : d + 1]

    def read_only(rows):
        copy = rows.copy()
        copy.flags.writeable = False
        return copy

    layouts = [
        strided,
        np.asfortranarray,
        read_only,
        lambda rows: rows.astype(swapped),
        lambda rows: rows[::-1].copy()[::-1],
        lambda rows: np.repeat(rows, 2, axis=1)[:, ::2],
    ]
    for path in paths_for(d):
        expected = pairwise.log_kernel_sums(points, samples, [0.5, 3.0], path=path)
        alone = pairwise.log_kernel_sums(samples, None, 0.5, path=path)
        for layout in layouts:
            found = pairwise.log_kernel_sums(layout(points), layout(samples), [0.5, 3.0], path=path)
            assert_same_bits(found, expected, path)
            assert_same_bits(pairwise.log_kernel_sums(layout(samples), None, 0.5, path=path), alone)


def test_weights_of_any_kind():
    points, samples = sets(20, 50, 3, "float32")
    weights = families.seeded("whole weights").integers(1, 9, 50)
    expected = fastgen.log_density(points, samples, 0.5, weights=weights)
    for given in (
        weights.tolist(),
        weights.astype("float16"),
        weights.astype(">f4"),
        np.repeat(weights, 3)[::3],
        8.0 * weights,
        2.0**-1000 * weights,
    ):
        assert_same_bits(fastgen.log_density(points, samples, 0.5, weights=given), expected)


@pytest.mark.parametrize("d", [1, 2, 9, 16, 17, 200])
@pytest.mark.parametrize("isa", ISAS)
def test_float16_rows_are_float32_rows_of_the_same_values(isa, d):
    points, samples = sets(50, 300, d, "float16")
    wide = points.astype("float32"), samples.astype("float32")
    for path in paths_for(d):
        for widths in (1.0, [1.0, 0.01, 30.0], [1e-6, 1e6]):
            for weights in (None, some_weights(300)):
                how = {"path": path, "isa": isa, "weights": weights}
                found = pairwise.log_kernel_sums(points, samples, widths, **how)
                assert_same_bits(found, pairwise.log_kernel_sums(*wide, widths, **how))
                alone = pairwise.log_kernel_sums(samples, None, widths, **how)
                assert_same_bits(alone, pairwise.log_kernel_sums(wide[1], None, widths, **how))


@pytest.mark.parametrize("d", [2, 8, 12, 17])
def test_the_planners_path_is_one_of_those_that_can_be_forced(d):
    points, samples = sets(50, 300, d, "float32")
    planned = "tiles" if d > 16 else "direct"
    expected = pairwise.log_kernel_sums(points, samples, [0.3, 1.0], path=planned)
    for path in ("auto", None):
        found = pairwise.log_kernel_sums(points, samples, [0.3, 1.0], path=path)
        assert_same_bits(found, expected)


def test_equal_points_have_equal_densities():
    points, samples = sets(40, 700, 3, "float32")
    repeated = np.concatenate([points, points[::-1], points])
    for path in paths_for(3):
        found = pairwise.log_kernel_sums(repeated, samples, 0.5, path=path)
        assert_same_bits(found[:40].copy(), found[80:].copy())
        assert_same_bits(found[:40].copy(), found[40:80][::-1].copy())
