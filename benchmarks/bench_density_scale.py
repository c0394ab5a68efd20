"""Densities of many rows: a million points under a million samples, and bandwidths chosen.

In 2 dimensions, where the planner takes blocks of samples along an order: near ones pair by pair,
far ones as polynomials, and passes over those that change nothing. Twice the rows are measured in
turns with half of them; every pair, which takes minutes, with a part of the points.
"""

from __future__ import annotations

import statistics
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from features import normal_pair
from harness import Line, in_turns

import fastgen
from fastgen import numpy_reference, pairwise
from fastgen.bandwidths import scott

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Bench

pytestmark = pytest.mark.filterwarnings("ignore::fastgen.DensityWarning")

N, QUICK_N = 1_000_000, 40_000
ROUNDS = 2
SECONDS = 10.0  # on 2 cores
DOUBLING = 3.3
# Points of the sum over every pair, out of N.
PART = 100
CHECKED = 50
TOLERANCE = 2e-5  # nats
SELECTIONS = {2: (100_000, 10_000), 16: (10_000, 2_000)}  # rows by features, and if quick
SELECTION_ROUNDS = 2
SELECTION_CHECKED = 300


def bench_density_million(bench: Bench, use_isa: Callable[[str], None], benchmark: Any) -> None:
    isa = bench.instruction_sets()[0]
    use_isa(isa)
    n = QUICK_N if bench.quick else N
    points, samples = normal_pair(n, n, 2)
    half = [np.ascontiguousarray(each[: n // 2]) for each in (points, samples)]

    case = f"density/n={n},m={n},d=2/chosen/f32/cpu-{isa}"
    benchmark.group = "density"
    benchmark.name = case
    call = partial(fastgen.log_density, threads=bench.threads)
    found, halves = in_turns(
        benchmark, partial(call, points, samples), partial(call, *half), rounds=ROUNDS
    )
    expected = numpy_reference.log_density(points[:CHECKED], samples)
    assert np.all(np.abs(found[:CHECKED] - expected) <= TOLERANCE)

    seconds, other = benchmark.stats.stats.median, statistics.median(halves)
    note = f"{float(n) * n / seconds / 1e9:.3g}e9 pairs/s"
    line = Line(case, f"{SECONDS:g} s", seconds / SECONDS, seconds, target=1.0, notes=[note])
    bench.record(benchmark, line)
    note = f"{n // 2} rows {other:.3g} s, in turns"
    line = Line(case, "half of the rows", seconds / other, seconds, target=DOUBLING, notes=[note])
    bench.record(benchmark, line, seconds_half=halves)

    every = seconds_of_every_pair(points[: n // PART], samples, bench.threads) * PART
    note = f"every pair {every:.3g} s, {PART} times that of {n // PART} points"
    line = Line(case, "every pair", seconds / every, seconds, notes=[note])
    bench.record(benchmark, line, seconds_every_pair=every)


@pytest.mark.parametrize("d", SELECTIONS, ids=lambda d: f"d={d}")
def bench_density_selection(
    d: int, bench: Bench, use_isa: Callable[[str], None], benchmark: Any
) -> None:
    isa = bench.instruction_sets()[0]
    use_isa(isa)
    n = SELECTIONS[d][bench.quick]
    _, samples = normal_pair(1, n, d)
    assert_same_choice(samples[:SELECTION_CHECKED], bench.threads)
    chosen = fastgen.select_bandwidth(samples, threads=bench.threads)
    count = len(chosen.candidates)
    assert chosen.candidates[0] < chosen.bandwidth < chosen.candidates[-1]

    case = f"select_bandwidth/n={n},d={d}/{count} candidates, leave one out/f32/cpu-{isa}"
    benchmark.group = "density"
    benchmark.name = case
    options = {"leave_one_out": True, "threads": bench.threads}
    _, single = in_turns(
        benchmark,
        partial(fastgen.select_bandwidth, samples, threads=bench.threads),
        partial(fastgen.log_density, None, samples, chosen.bandwidth, **options),
        rounds=SELECTION_ROUNDS,
    )
    seconds, other = benchmark.stats.stats.median, statistics.median(single)
    note = f"the winner alone {other:.3g} s, in turns"
    line = Line(case, "one bandwidth", seconds / other, seconds, notes=[note])
    bench.record(benchmark, line, seconds_one_bandwidth=single)


def seconds_of_every_pair(points: Any, samples: Any, threads: int) -> float:
    """Time the sums over all samples by looking at every one of them."""
    width = scott(float(len(samples)), 2)
    started = time.perf_counter()
    pairwise.log_kernel_sums(points, samples, width, path="direct", threads=threads)
    return time.perf_counter() - started


def assert_same_choice(samples: Any, threads: int) -> None:
    """Compare a part of the samples with the float64 reference."""
    found = fastgen.select_bandwidth(samples, threads=threads)
    expected = numpy_reference.select_bandwidth(samples)
    assert found.bandwidth == pytest.approx(expected.bandwidth, rel=1e-12)
    assert found.scores == pytest.approx(expected.scores, rel=1e-6)
