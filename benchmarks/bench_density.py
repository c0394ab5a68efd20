"""`log_density` under Scott's rule, of independent normal rows, beside what computes it elsewhere.

In 2 dimensions both ways are measured: "direct" looks at every pair, and what the planner chooses
walks along an order and takes far groups of samples as polynomials. The samples' own covariance is
the identity there, so that SciPy's density is the same one. Float64 rows take turns with float32
rows, and a grid of bandwidths with one.
"""

from __future__ import annotations

import statistics
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from contenders import DensityContender, density_contenders
from features import normal_pair
from harness import Line, in_turns

import fastgen
from fastgen import numpy_reference, pairwise
from fastgen.bandwidths import scott

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Bench
    from numpy.typing import NDArray

    Matrix = NDArray[np.float32]
    Floats = NDArray[np.float64]

# At so many features one sample decides most values, as the warning says.
pytestmark = pytest.mark.filterwarnings("ignore::fastgen.DensityWarning")

# Points and as many samples, by features.
ROWS = {2: 20_000, 16: 10_000, 64: 10_000, 784: 4_000}
QUICK_DIVISOR = 10
ROUNDS = {2: 20, 16: 15, 64: 7, 784: 5}
# "chosen" is what `log_density` does; the last is that with `covariance="sample"`, in float64.
COVARIANCE = "covariance"
WAYS = [(2, "chosen"), (2, "direct"), (2, COVARIANCE), (16, "chosen"), (64, "chosen")]
WAYS += [(784, "chosen")]
FLOAT64_WAYS = [(d, way) for d, way in WAYS if way != COVARIANCE]
FASTEST = ("amx", "avx512vnni")  # what has a target
# Beyond this, products are what the time goes into, and float64 ones are the unit.
PRODUCTS_FROM_D, PRODUCTS_TARGET = 784, 1.5
FLOAT64_RATE = 0.4
CONTENDER_TARGETS = {
    (2, "sklearn-kernel-density"): 350.0,
    (2, "scipy-gaussian-kde"): 300.0,
    (16, "sklearn-kernel-density"): 150.0,
    (64, "sklearn-kernel-density"): 150.0,
}
# In units of Scott's rule, and what the whole grid may cost in units of one bandwidth.
GRIDS = {
    "20 bandwidths in ratio sqrt 2": (2.0 ** (np.arange(-10, 10) / 2), 4.0),
    "20 bandwidths of any ratio": (np.geomspace(0.03, 30, 20), 8.0),
}
GRID_D, GRID_ROUNDS = 16, 5
# Points compared with the float64 reference before anything is timed.
CHECKED = 100
TOLERANCES = {"float32": 2e-5, "float64": 2e-10}  # nats; a little more than what is promised
# Of contenders, in nats. In 64 dimensions scikit-learn's tree is off by 40, in 16 by 0.004.
CONTENDER_TOLERANCE, CONTENDER_TOLERANCE_D = 0.05, 16

# Seconds of fastgen in the same run, by features and by way and instruction set.
_measured: dict[int, dict[str, float]] = {}


@pytest.mark.parametrize(("d", "way"), WAYS, ids=str)
def bench_density(
    d: int, way: str, isa: str, bench: Bench, use_isa: Callable[[str], None], benchmark: Any
) -> None:
    use_isa(isa)
    points, samples = rows(d, bench.quick)
    call = way_of_call(way, bench.threads)
    covariance = "sample" if way == COVARIANCE else None
    assert_close(call, points, samples, covariance=covariance)

    case = case_id(points, samples, way, f"cpu-{isa}")
    benchmark.group = "density"
    benchmark.name = case
    benchmark.pedantic(call, args=(points, samples), rounds=ROUNDS[d], warmup_rounds=1)
    seconds = benchmark.stats.stats.median
    _measured.setdefault(d, {})[label(isa, way)] = seconds

    products = d >= PRODUCTS_FROM_D
    bench.record_gemm(
        benchmark,
        case,
        (len(points), len(samples), d),
        unit="float64" if products else "float32",
        target=PRODUCTS_TARGET if products and isa in FASTEST else None,
        notes=[rate(points, samples, seconds)],
    )


@pytest.mark.parametrize(("d", "way"), FLOAT64_WAYS, ids=str)
def bench_density_float64(
    d: int, way: str, bench: Bench, use_isa: Callable[[str], None], benchmark: Any
) -> None:
    isa = bench.instruction_sets()[0]
    use_isa(isa)
    points, samples = rows(d, bench.quick)
    wide_points, wide_samples = points.astype(np.float64), samples.astype(np.float64)
    call = way_of_call(way, bench.threads)
    assert_close(call, wide_points, wide_samples)

    case = case_id(wide_points, wide_samples, way, f"cpu-{isa}")
    benchmark.group = "density"
    benchmark.name = case
    _, narrow = in_turns(
        benchmark,
        partial(call, wide_points, wide_samples),
        partial(call, points, samples),
        rounds=ROUNDS[d],
    )
    seconds = benchmark.stats.stats.median
    other = statistics.median(narrow)
    line = Line(
        case,
        "float32 rate",
        other / seconds,
        seconds=seconds,
        target=FLOAT64_RATE,
        higher_is_better=True,
        notes=[rate(points, samples, seconds), f"float32 {other:.3g} s, in turns"],
    )
    bench.record(benchmark, line, seconds_float32=narrow)


@pytest.mark.parametrize("grid", GRIDS)
def bench_density_grid(
    grid: str, isa: str, bench: Bench, use_isa: Callable[[str], None], benchmark: Any
) -> None:
    use_isa(isa)
    points, samples = rows(GRID_D, bench.quick)
    factors, target = GRIDS[grid]
    one = scott(float(len(samples)), GRID_D)
    call = partial(fastgen.log_density, threads=bench.threads)
    bandwidths = {"bandwidth": one * factors}
    assert_close(partial(call, **bandwidths), points, samples, **bandwidths)

    case = case_id(points, samples, grid, f"cpu-{isa}")
    benchmark.group = "density"
    benchmark.name = case
    _, single = in_turns(
        benchmark,
        partial(call, points, samples, **bandwidths),
        partial(call, points, samples, bandwidth=one),
        rounds=GRID_ROUNDS,
    )
    seconds, other = benchmark.stats.stats.median, statistics.median(single)
    line = Line(
        case,
        "one bandwidth",
        seconds / other,
        seconds=seconds,
        target=target,
        notes=[f"one bandwidth {other:.3g} s, in turns"],
    )
    bench.record(benchmark, line, seconds_one_bandwidth=single)


@pytest.mark.parametrize("d", [2, 16, 64], ids=lambda d: f"d={d}")
@pytest.mark.parametrize("contender", density_contenders(), ids=lambda contender: contender.name)
def bench_density_contender(
    contender: type[DensityContender], d: int, bench: Bench, benchmark: Any
) -> None:
    if contender.covariance is not None and d != 2:
        pytest.skip("the samples' own covariance is the identity in 2 dimensions only")
    points, samples = rows(d, bench.quick)
    expected = fastgen.log_density(points, samples, threads=bench.threads)
    contender().log_density(points[:8], samples[: 2 * d], bench.threads)  # imports, threads

    case = case_id(points, samples, "scott", contender.name)
    benchmark.group = "density"
    benchmark.name = case
    found = benchmark.pedantic(  # once: of the seconds that most take little is due to chance
        contender().log_density,
        args=(points, samples, bench.threads),
        rounds=1,
        warmup_rounds=0,
    )
    off = float(np.abs(found - expected).max())
    assert d > CONTENDER_TOLERANCE_D or off <= CONTENDER_TOLERANCE

    seconds = benchmark.stats.stats.median
    notes = [rate(points, samples, seconds), f"off by up to {off:.1g} nats"]
    bench.record_gemm(benchmark, case, (len(points), len(samples), d), notes=notes)
    target = CONTENDER_TARGETS.get((d, contender.name))
    targets = {} if target is None else dict.fromkeys(FASTEST, target)
    measured = {
        name: value
        for name, value in _measured.get(d, {}).items()
        if contender.covariance or not name.endswith(COVARIANCE)
    }
    bench.record_against(benchmark, case, measured, targets)


def rows(d: int, quick: bool) -> tuple[Matrix, Matrix]:
    """Return the points and samples of so many features."""
    n = ROWS[d] // QUICK_DIVISOR if quick else ROWS[d]
    return normal_pair(n, n, d)


def way_of_call(way: str, threads: int) -> Callable[[Any, Any], Floats]:
    """Return a function of points and samples."""
    if way == "direct":
        return partial(every_pair, threads=threads)
    covariance = "sample" if way == COVARIANCE else None
    return partial(fastgen.log_density, covariance=covariance, threads=threads)


def every_pair(points: Any, samples: Any, *, threads: int) -> Floats:
    """Return the log-densities by looking at every pair, whatever the planner would choose."""
    m, d = samples.shape
    width = scott(float(m), d)
    found = pairwise.log_kernel_sums(points, samples, width, path="direct", threads=threads)
    return found - (np.log(m) + d * np.log(width * np.sqrt(2 * np.pi)))


def assert_close(
    call: Callable[[Any, Any], Floats], points: Any, samples: Any, **options: Any
) -> None:
    """Compare some of the points with the float64 reference, all points being in the call."""
    found = call(points, samples)[:CHECKED]
    expected = numpy_reference.log_density(points[:CHECKED], samples, **options)
    # What is promised grows with the exponent of the nearest sample, here by less than log p does.
    allowed = TOLERANCES[samples.dtype.name] + 2.0**-44 * np.abs(expected)
    assert np.all(np.abs(found - expected) <= allowed)


def rate(points: Any, samples: Any, seconds: float) -> str:
    """Return how many pairs a second were answered for, looked at or not."""
    return f"{len(points) * len(samples) / seconds / 1e9:.3g}e9 pairs/s"


def label(isa: str, way: str) -> str:
    """Return what stands for a way in the table: the chosen one has the plain name."""
    return isa if way == "chosen" else f"{isa}, {way}"


def case_id(points: Any, samples: Any, way: str, who: str) -> str:
    """Return the name of a case: shape, way, and who computes it."""
    dtype = f"f{samples.dtype.name[-2:]}"
    n, m, d = len(points), *samples.shape
    return f"density/n={n},m={m},d={d}/{way}/{dtype}/{who}"
