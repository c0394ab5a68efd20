"""The largest error of log-densities, in nats, beside that of what computes them elsewhere.

No times: what is recorded is how far values are from `fastgen.numpy_reference`, which computes in
float64 without a matrix product. Some of the points are asked for, all of the samples summed over.
In high dimension the trees of scikit-learn lose the nearest samples; at 10,000 bandwidths from all
of them, densities are below the range of float64 and only their logarithms are left.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from contenders import DensityContender, density_contenders
from features import normal_pair
from harness import Line
from scipy.spatial.distance import cdist

import fastgen
from fastgen import numpy_reference
from fastgen.bandwidths import scott

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Bench
    from numpy.typing import NDArray

    Matrix = NDArray[np.float32]
    Floats = NDArray[np.float64]

# At so many features one sample decides most values, as the warning says.
pytestmark = pytest.mark.filterwarnings("ignore::fastgen.DensityWarning")

POINTS = 200
# Features, samples, and bandwidths by which the points are moved away.
CASES = {
    "d=2": (2, 20_000, 0.0),
    "d=2, far": (2, 20_000, 1e4),
    "d=16": (16, 10_000, 0.0),
    "d=64": (64, 10_000, 0.0),
    "d=256": (256, 1_000, 0.0),
    "d=784": (784, 1_000, 0.0),
}
QUICK_DIVISOR = 5
# What is promised, in nats, and in the exponent of the nearest sample.
PROMISED = {"float32": 1e-5, "float64": 1e-10}
PROMISED_OF_EXPONENT = 2.0**-44
# More than this many times what is promised is no rounding error.
WRONG = 10.0


@pytest.mark.parametrize("dtype", PROMISED)
@pytest.mark.parametrize("name", CASES)
def bench_density_accuracy(
    name: str, dtype: str, bench: Bench, use_isa: Callable[[str], None], benchmark: Any
) -> None:
    isa = bench.instruction_sets()[0]
    use_isa(isa)
    points, samples = (each.astype(dtype) for each in rows(name, bench.quick))
    expected = reference(name, None, bench.quick)
    case = case_id(points, samples, f"cpu-{isa}")
    found = once(
        benchmark, case, lambda: fastgen.log_density(points, samples, threads=bench.threads)
    )
    width = scott(float(len(samples)), samples.shape[1])
    farthest = (cdist(points, samples).min(axis=1) / width).max() ** 2 / 2
    promised = PROMISED[dtype] + PROMISED_OF_EXPONENT * farthest
    error = largest(found, expected)
    assert error <= WRONG * promised
    line = error_line(case, name, error, expected)
    line.target = promised
    bench.record(benchmark, line)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("contender", density_contenders(), ids=lambda contender: contender.name)
def bench_density_accuracy_contender(
    contender: type[DensityContender], name: str, bench: Bench, benchmark: Any
) -> None:
    d, _, _ = CASES[name]
    if contender.covariance is not None and d > 16:
        pytest.skip("the samples' own covariance is far from their kernel's")
    points, samples = rows(name, bench.quick)
    expected = reference(name, contender.covariance, bench.quick)
    case = case_id(points, samples, contender.name)
    found = once(benchmark, case, lambda: contender().log_density(points, samples, bench.threads))
    # No number is right or wrong here: some lose their samples, some their range.
    bench.record(benchmark, error_line(case, name, largest(found, expected), expected))


def rows(name: str, quick: bool) -> tuple[Matrix, Matrix]:
    """Return points and samples."""
    d, m, away = CASES[name]
    if quick:
        m //= QUICK_DIVISOR
    points, samples = normal_pair(POINTS, m, d)
    points += np.float32(away * scott(float(m), d) / math.sqrt(d))
    return points, samples


@cache
def reference(name: str, covariance: str | None, quick: bool) -> Floats:
    """Return the reference's answer."""
    return numpy_reference.log_density(*rows(name, quick), covariance=covariance)


def largest(found: Floats, expected: Floats) -> float:
    """Return the largest error in nats; infinity for a density of 0."""
    return float(np.abs(found - expected).max())


def error_line(case: str, name: str, error: float, expected: Floats) -> Line:
    """Return the line of an error."""
    note = f"{name}: log-densities {expected.min():.6g} to {expected.max():.6g}"
    return Line(case, "nats (largest error)", error, notes=[note])


def case_id(points: Any, samples: Any, who: str) -> str:
    """Return the name of a case: shape and who computes it."""
    n, m, d = len(points), *samples.shape
    return f"density-accuracy/n={n},m={m},d={d}/f{samples.dtype.name[-2:]}/{who}"


def once(benchmark: Any, case: str, call: Callable[[], Any]) -> Any:
    """Make the call as a benchmark of one round, so that the plugin runs and keeps it."""
    benchmark.group = "accuracy"
    benchmark.name = case
    return benchmark.pedantic(call, rounds=1)
