"""`mmd` over the full samples, standard error included, in units of the bare float32 product.

Every set meets itself, half of its pairs, and the other set: the products alone take 2 units. The
100 permutations are compared with a call without any, the two taking turns.
"""

from __future__ import annotations

import math
import statistics
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from contenders import MmdContender, mmd_contenders
from features import feature_pair, relu_features
from harness import Line, in_turns

import fastgen
from fastgen import numpy_reference

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Bench

MAIN_D = 2048
ROWS, QUICK_ROWS = (10_000, 10_000), (600, 500)
TARGETS = {("avx512vnni", MAIN_D): 2.3, ("amx", MAIN_D): 2.3}
PERMUTATIONS, PERMUTATIONS_ROUNDS = 100, 5
PERMUTATIONS_TARGET = 1.15
# Rows compared with the float64 reference before anything is timed; more than one tile of 384.
CHECKED_ROWS = (500, 400)
VALUE_TOLERANCE = 1e-5
ERROR_TOLERANCE = 1e-4  # of the standard error
# Besides the polynomial: bandwidths in multiples of half the median distance of these features.
KERNELS: dict[str, Callable[[float], Any]] = {
    "gaussian": fastgen.Gaussian,
    "rational-quadratic": partial(fastgen.RationalQuadratic, 1.0),
    "laplacian": fastgen.Laplacian,
    "energy": lambda _: fastgen.Energy(),
    "3-gaussians": lambda b: [fastgen.Gaussian(b * factor) for factor in (0.5, 1.0, 2.0)],
}

# Seconds of fastgen in the same run, by instruction set, for the contender.
_measured: dict[str, float] = {}


@pytest.mark.parametrize("d", [MAIN_D, 768, 256, 64], ids=lambda d: f"d={d}")
def bench_mmd(
    d: int, isa: str, bench: Bench, use_isa: Callable[[str], None], benchmark: Any
) -> None:
    use_isa(isa)
    measure(bench, benchmark, isa, d, "polynomial", fastgen.Polynomial(), rounds=5)
    if d == MAIN_D:
        _measured[isa] = benchmark.stats.stats.median


@pytest.mark.parametrize("name", KERNELS)
def bench_mmd_kernel(
    name: str, bench: Bench, use_isa: Callable[[str], None], benchmark: Any
) -> None:
    isa = bench.instruction_sets()[0]
    use_isa(isa)
    d = features(MAIN_D, bench.quick)
    kernel = KERNELS[name](0.5 * math.sqrt(d))
    measure(bench, benchmark, isa, MAIN_D, name, kernel, rounds=3)


def bench_mmd_float64(bench: Bench, use_isa: Callable[[str], None], benchmark: Any) -> None:
    isa = bench.instruction_sets()[0]
    use_isa(isa)
    polynomial = fastgen.Polynomial()
    measure(bench, benchmark, isa, MAIN_D, "polynomial", polynomial, rounds=3, dtype="float64")


def bench_mmd_permutations(
    isa: str, bench: Bench, use_isa: Callable[[str], None], benchmark: Any
) -> None:
    use_isa(isa)
    n, m = QUICK_ROWS if bench.quick else ROWS
    d = features(MAIN_D, bench.quick)
    x, y = feature_pair(n, m, d)
    assert_same_p_value(d, bench.threads)
    case = f"mmd/n={n},m={m},d={d}/polynomial,{PERMUTATIONS} permutations/f32/cpu-{isa}"
    benchmark.group = "mmd"
    benchmark.name = case
    _, without = in_turns(
        benchmark,
        partial(fastgen.mmd, x, y, permutations=PERMUTATIONS, threads=bench.threads),
        partial(fastgen.mmd, x, y, threads=bench.threads),
        rounds=PERMUTATIONS_ROUNDS,
    )
    seconds = benchmark.stats.stats.median
    line = Line(
        case,
        "no permutations",
        seconds / statistics.median(without),
        seconds=seconds,
        target=PERMUTATIONS_TARGET,
        notes=[f"without {statistics.median(without):.3g} s", f"{len(without)} rounds, in turns"],
    )
    bench.record(benchmark, line, seconds_without=without)


@pytest.mark.parametrize("contender", mmd_contenders(), ids=lambda contender: contender.name)
def bench_mmd_contender(contender: type[MmdContender], bench: Bench, benchmark: Any) -> None:
    n, m = QUICK_ROWS if bench.quick else ROWS
    d = features(MAIN_D, bench.quick)
    x, y = feature_pair(n, m, d)
    expected = fastgen.mmd(x, y, threads=bench.threads).value
    found: list[float] = []
    contender().mmd(x[:64], y[:64], bench.threads)  # imports, threads

    case = f"mmd/n={n},m={m},d={d}/polynomial/f32/{contender.name}"
    benchmark.group = "mmd"
    benchmark.name = case
    benchmark.pedantic(
        lambda: found.append(contender().mmd(x, y, bench.threads)), rounds=3, warmup_rounds=0
    )
    assert abs(found[0] - expected) <= VALUE_TOLERANCE * abs(expected)

    bench.record_gemm(benchmark, case, (n, m, d))
    bench.record_against(benchmark, case, _measured)


def measure(
    bench: Bench,
    benchmark: Any,
    isa: str,
    full_d: int,
    name: str,
    kernel: Any,
    *,
    rounds: int,
    dtype: str = "float32",
) -> None:
    """Check, time and record one kernel on features of `full_d` columns, fewer if quick."""
    n, m = QUICK_ROWS if bench.quick else ROWS
    d = features(full_d, bench.quick)
    x, y = (rows.astype(dtype) for rows in feature_pair(n, m, d))
    assert_close(x[: CHECKED_ROWS[0]], y[: CHECKED_ROWS[1]], kernel, bench.threads)

    case = f"mmd/n={n},m={m},d={d}/{name}/f{dtype[-2:]}/cpu-{isa}"
    benchmark.group = "mmd"
    benchmark.name = case
    benchmark.pedantic(
        fastgen.mmd,
        args=(x, y, kernel),
        kwargs={"threads": bench.threads},
        rounds=rounds,
        warmup_rounds=1,
    )
    # Each set against itself at half its pairs, and every pair across, of d multiply-adds each.
    operations = (float(n) * n + float(m) * m + 2.0 * n * m) * d
    target = TARGETS.get((isa, full_d)) if (name, dtype) == ("polynomial", "float32") else None
    bench.record_gemm(
        benchmark,
        case,
        (n, m, d),
        isa=isa,
        pair_operations=operations,
        path=dtype,
        target=target,
    )


def features(d: int, quick: bool) -> int:
    """Return the number of columns to measure in place of `d`."""
    return max(16, d // 8) if quick else d


def assert_close(x: Any, y: Any, kernel: Any, threads: int) -> None:
    """Compare a part of the data with the float64 reference."""
    found = fastgen.mmd(x, y, kernel, threads=threads)
    expected = numpy_reference.mmd(x, y, kernel)
    pairs = zip(found, expected, strict=True) if isinstance(found, list) else [(found, expected)]
    for one, other in pairs:
        assert one.value == pytest.approx(other.value, rel=VALUE_TOLERANCE, abs=0)
        assert one.standard_error == pytest.approx(other.standard_error, rel=ERROR_TOLERANCE, abs=0)


def assert_same_p_value(d: int, threads: int) -> None:
    """Compare a p-value with the reference, for two sets of one kind: it is not the smallest."""
    rows = relu_features(500, d, seed=7)  # p-values of 0.5, and 0.15 if quick
    x, y = rows[:280], rows[280:]
    found = fastgen.mmd(x, y, permutations=19, seed=1, threads=threads)
    expected = numpy_reference.mmd(x, y, permutations=19, seed=1)
    assert found.p_value == expected.p_value
