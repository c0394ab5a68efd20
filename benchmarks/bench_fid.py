"""The Frechet distance from moments and from features, the moments themselves, and matrix roots.

The unit of the distance is one `scipy.linalg.eigvalsh` of the first covariance, measured in turns
with it; that of the moments is `numpy.cov`. Every answer is compared with what the factors say that
the covariances were made of (`covariances.py`): that error stands beside the time, for fastgen and
for the formulas of other libraries.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from contenders import FrechetContender, frechet_contenders
from covariances import KINDS, WELL_CONDITIONED, Pair, covariance_pair
from features import feature_pair, relu_features
from harness import Bench, Line, in_turns

import fastgen

if TYPE_CHECKING:
    from collections.abc import Callable

D, QUICK_D = 2048, 128
TARGET, CAREFUL_TARGET = 2.0, 6.0
# Of the traces: what is promised for fastgen; nothing is for formulas.
TOLERANCE = 1e-8
ROWS, QUICK_ROWS = 50_000, 3_000
MOMENTS_TARGET = 0.7
FEATURES = {"10k + 10k": (10_000, 10_000), "1k + 1k": (1_000, 1_000)}
QUICK_FEATURES = {"10k + 10k": (500, 500), "1k + 1k": (60, 60)}


@pytest.mark.parametrize("kind", KINDS)
def bench_frechet(kind: str, bench: Bench, benchmark: Any) -> None:
    pair = covariance_pair(kind, QUICK_D if bench.quick else D)
    found, units = timed(benchmark, pair, lambda: distance(pair), f"{kind}/fastgen")
    error = abs(found.value - pair.value) / pair.traces
    assert error <= TOLERANCE
    assert abs(found.value - pair.value) <= found.error_bound + 1e-12 * pair.traces
    target = TARGET if kind in WELL_CONDITIONED else CAREFUL_TARGET
    notes = [f"error {error:.0e} of the traces, bound {found.error_bound / pair.traces:.0e}"]
    record(bench, benchmark, units, target, notes)


@pytest.mark.parametrize("kind", ["4 d normal rows", "rank d/2"])
def bench_frechet_newton_schulz(kind: str, bench: Bench, benchmark: Any) -> None:
    pair = covariance_pair(kind, QUICK_D if bench.quick else D)
    case = f"{kind}/fastgen, newton_schulz"
    found, units = timed(benchmark, pair, lambda: distance(pair, "newton_schulz"), case, rounds=1)
    error = abs(found.value - pair.value) / pair.traces
    assert error <= TOLERANCE
    notes = [f"error {error:.0e} of the traces, bound {found.error_bound / pair.traces:.0e}"]
    record(bench, benchmark, units, None, notes)


@pytest.mark.parametrize("kind", ["4 d normal rows", "condition 1e12", "rank d/2"])
@pytest.mark.parametrize("contender", frechet_contenders(), ids=lambda contender: contender.name)
def bench_frechet_contender(
    contender: type[FrechetContender], kind: str, bench: Bench, benchmark: Any
) -> None:
    pair = covariance_pair(kind, QUICK_D if bench.quick else D)
    case = f"{kind}/{contender.name}"

    def call() -> float:
        return contender().covariance_term(pair.first, pair.second)

    found, units = timed(benchmark, pair, call, case, rounds=1)
    notes = [f"error {abs(found - pair.value) / pair.traces:.0e} of the traces"]
    record(bench, benchmark, units, None, notes)


def bench_moments(isa: str, bench: Bench, use_isa: Callable[[str], None], benchmark: Any) -> None:
    use_isa(isa)
    n, d = (QUICK_ROWS, QUICK_D) if bench.quick else (ROWS, D)
    rows = relu_features(n, d, seed=1)

    def call() -> fastgen.Moments:
        moments = fastgen.Moments(d, threads=bench.threads)
        moments.update(rows)
        return moments

    benchmark.group = "fid"
    benchmark.name = case = f"moments/n={n},d={d}/f32/cpu-{isa}"
    found, seconds = in_turns(benchmark, call, lambda: np.cov(rows, rowvar=False), rounds=5)
    expected = np.cov(rows[:, :100].astype(np.float64), rowvar=False)
    np.testing.assert_allclose(found.covariance[:100, :100], expected, rtol=1e-9, atol=1e-12)
    # Half of the products, by symmetry.
    rate = float(n) * d * d / benchmark.stats.stats.median
    notes = [f"{rate / 1e9:.0f} GFLOP/s, {rate / bench.peak(isa)['float64']:.0%} of float64 peak"]
    ratio = benchmark.stats.stats.median / statistics.median(seconds)
    target = MOMENTS_TARGET if isa != "avx2" else None
    seconds_of = benchmark.stats.stats.median
    line = Line(case, "numpy.cov", ratio, seconds=seconds_of, target=target, notes=notes)
    bench.record(benchmark, line)


@pytest.mark.parametrize("sizes", FEATURES)
def bench_fid(sizes: str, bench: Bench, benchmark: Any) -> None:
    n, m = (QUICK_FEATURES if bench.quick else FEATURES)[sizes]
    d = QUICK_D if bench.quick else D
    real, fake = feature_pair(n, m, d)

    def formula() -> float:
        means = real.mean(axis=0, dtype=np.float64) - fake.mean(axis=0, dtype=np.float64)
        first, second = np.cov(real, rowvar=False), np.cov(fake, rowvar=False)
        term = next(each for each in frechet_contenders() if each.name == "numpy-eigvals")
        return float(means @ means + term().covariance_term(first, second))

    benchmark.group = "fid"
    benchmark.name = case = f"fid/n={n},m={m},d={d}/f32/cpu"
    found = benchmark.pedantic(
        lambda: fastgen.fid(real=real, fake=fake, threads=bench.threads),
        rounds=3,
        warmup_rounds=1,
    )
    started = time.perf_counter()
    other = formula()
    seconds = time.perf_counter() - started
    notes = [f"FID {found.value:.6g} +- {found.error_bound:.0e}; numpy-eigvals {other:.6g}"]
    ratio = benchmark.stats.stats.median / seconds
    line = Line(case, "numpy-eigvals", ratio, seconds=benchmark.stats.stats.median, notes=notes)
    bench.record(benchmark, line)


@pytest.mark.parametrize("method", ["eigh", "newton_schulz"])
def bench_matrix_sqrt(method: str, bench: Bench, benchmark: Any) -> None:
    pair = covariance_pair("4 d normal rows", QUICK_D if bench.quick else D)
    case = f"matrix_sqrt/{method}"
    found, units = timed(
        benchmark, pair, lambda: fastgen.matrix_sqrt(pair.first, method=method), case, rounds=1
    )
    assert found.residual <= 1e-12
    record(bench, benchmark, units, None, [f"residual {found.residual:.0e}"])


def distance(pair: Pair, method: str = "auto") -> fastgen.Frechet:
    """Return the distance of two distributions with the same mean."""
    zeros = np.zeros(len(pair.first))
    return fastgen.frechet_distance(zeros, pair.first, zeros, pair.second, method)


def timed(
    benchmark: Any, pair: Pair, call: Callable[[], Any], what: str, *, rounds: int = 3
) -> tuple[Any, list[float]]:
    """Time a call, in turns with the unit; return what it returned and the unit's seconds."""
    import scipy.linalg

    benchmark.group = "fid"
    benchmark.name = f"frechet/d={len(pair.first)}/{what}"
    return in_turns(benchmark, call, lambda: scipy.linalg.eigvalsh(pair.first), rounds=rounds)


def record(
    bench: Bench, benchmark: Any, units: list[float], target: float | None, notes: list[str]
) -> None:
    """Record the ratio of the benchmark's median to that of the unit."""
    unit, seconds = statistics.median(units), benchmark.stats.stats.median
    notes = [*notes, f"eigvalsh {unit:.3g} s"]
    line = Line(
        benchmark.name, "eigvalsh", seconds / unit, seconds=seconds, target=target, notes=notes
    )
    bench.record(benchmark, line)
