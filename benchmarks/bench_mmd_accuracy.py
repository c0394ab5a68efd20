"""The error of MMD^2 and CMMD on raw float32 features, beside that of the float32 formulas in use.

No times: what is recorded is how far a value is from `fastgen.numpy_reference`, which computes in
float64. MMD^2 is a difference of means of a kernel whose values are about 2 here, so the less two
sets differ, the more of its digits are lost to rounding on the way. The fake sets are independent
draws from a distribution a little narrower than the real one's.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from contenders import CmmdFormula, MmdContender, mmd_formulas
from features import relu_features
from harness import Bench, Line

import fastgen
from fastgen import numpy_reference
from fastgen.numpy_reference.results import MMD

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    Pair = tuple[NDArray[np.float32], NDArray[np.float32]]

N, D = 2_000, 2048
QUICK_N, QUICK_D = 300, 256
# MMD^2 of the two sets, and the spread and seed of the fake one that give it. At this n an estimate
# is uncertain by 3e-4, so that small values are a matter of the seed.
CASES = {1e-2: (0.917, 2), 1e-3: (0.976, 2), 1e-4: (0.9982, 2), 1e-5: (0.9938, 12)}
TARGET = 1e-5  # of MMD^2
# CMMD embeds in 768 dimensions.
CMMD_D, CMMD_QUICK_D = 768, 128
CMMD_SPREADS = [0.9, 0.1]
CMMD_SCALE = 1000.0  # what the metric multiplies MMD^2 by
CMMD_TARGET = 1e-6  # of the scale
# More than this is no rounding error.
WRONG = 1e-3
FORMULA_WRONG = 1.0


@pytest.mark.parametrize("size", CASES, ids=lambda size: f"{size:g}")
def bench_mmd_accuracy(
    size: float, isa: str, bench: Bench, use_isa: Callable[[str], None], benchmark: Any
) -> None:
    use_isa(isa)
    pair, expected = mmd_case(size, bench.quick)
    case = case_id("mmd", pair, f"polynomial,{size:g}", f"cpu-{isa}")
    found = once(benchmark, case, lambda: fastgen.mmd(*pair, threads=bench.threads))
    error = relative(found.value, expected.value)
    assert error <= WRONG
    off = relative(found.standard_error, expected.standard_error)
    notes = [f"MMD^2 {expected.value:.3g}, standard error {expected.standard_error:.2g}"]
    notes.append(f"the latter is off by {off:.1g}")
    bench.record(benchmark, Line(case, "MMD^2 (error)", error, target=TARGET, notes=notes))


@pytest.mark.parametrize("size", CASES, ids=lambda size: f"{size:g}")
@pytest.mark.parametrize("formula", mmd_formulas(), ids=lambda formula: formula.name)
def bench_mmd_accuracy_formula(
    formula: type[MmdContender], size: float, bench: Bench, benchmark: Any
) -> None:
    pair, expected = mmd_case(size, bench.quick)
    case = case_id("mmd", pair, f"polynomial,{size:g}", formula.name)
    found = once(benchmark, case, lambda: formula().mmd(*pair, bench.threads))
    error = relative(found, expected.value)
    assert error <= FORMULA_WRONG
    bench.record(benchmark, Line(case, "MMD^2 (error)", error))


@pytest.mark.parametrize("spread", CMMD_SPREADS)
def bench_cmmd_accuracy(
    spread: float, isa: str, bench: Bench, use_isa: Callable[[str], None], benchmark: Any
) -> None:
    use_isa(isa)
    pair, expected = cmmd_case(spread, bench.quick)
    real, fake = pair
    case = case_id("cmmd", pair, f"spread={spread:g}", f"cpu-{isa}")
    found = once(benchmark, case, lambda: fastgen.cmmd(real=real, fake=fake, threads=bench.threads))
    assert relative(found.value, expected) <= WRONG
    line = cmmd_line(case, found.value, expected)
    line.target = CMMD_TARGET
    bench.record(benchmark, line)


@pytest.mark.parametrize("spread", CMMD_SPREADS)
def bench_cmmd_accuracy_formula(spread: float, bench: Bench, benchmark: Any) -> None:
    pair, expected = cmmd_case(spread, bench.quick)
    case = case_id("cmmd", pair, f"spread={spread:g}", CmmdFormula.name)
    found = once(benchmark, case, lambda: CmmdFormula().cmmd(*pair, bench.threads))
    assert relative(found, expected) <= FORMULA_WRONG
    bench.record(benchmark, cmmd_line(case, found, expected))


@cache
def mmd_case(size: float, quick: bool) -> tuple[Pair, MMD]:
    """Return two sets and the reference's answer."""
    n, d = (QUICK_N, QUICK_D) if quick else (N, D)
    spread, seed = CASES[size]
    real = relu_features(n, d, seed=1)
    fake = relu_features(n, d, seed=seed, spread=spread)
    expected = numpy_reference.mmd(real, fake)
    assert isinstance(expected, MMD)
    assert quick or 0.5 * size < expected.value < 2.0 * size
    return (real, fake), expected


@cache
def cmmd_case(spread: float, quick: bool) -> tuple[Pair, float]:
    """Return two sets and the reference's answer."""
    n, d = (QUICK_N, CMMD_QUICK_D) if quick else (N, CMMD_D)
    real = relu_features(n, d, seed=1)
    fake = relu_features(n, d, seed=2, spread=spread)
    return (real, fake), numpy_reference.cmmd(real=real, fake=fake).value


def cmmd_line(case: str, found: float, expected: float) -> Line:
    """Return the line of an error as a share of the scale."""
    error = abs(found - expected) / CMMD_SCALE
    notes = [f"CMMD {expected:.3g}", f"off by {relative(found, expected):.1g} of that"]
    return Line(case, "CMMD scale (error)", error, notes=notes)


def case_id(metric: str, pair: Pair, what: str, who: str) -> str:
    """Return the name of a case: shape, data, and who computes it."""
    n, d = pair[0].shape
    return f"{metric}-accuracy/n={n},d={d}/{what}/f32/{who}"


def relative(found: float, expected: float) -> float:
    """Return the relative error."""
    return float(abs(found - expected) / abs(expected))


def once(benchmark: Any, case: str, call: Callable[[], Any]) -> Any:
    """Make the call as a benchmark of one round, so that the plugin runs and keeps it."""
    benchmark.group = "accuracy"
    benchmark.name = case
    return benchmark.pedantic(call, rounds=1)
