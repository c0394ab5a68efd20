"""`prdc`, everything included: in units of the bare float32 product, and against contenders."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from contenders import PrdcContender, prdc_contenders
from features import feature_pair
from numpy.typing import NDArray

import fastgen
from fastgen import numpy_reference

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Bench

K = 5
SHAPE = (10_000, 10_000, 2048)
QUICK_SHAPE = (600, 500, 256)
GEMM_TARGETS = {"avx512vnni": 1.0}
BLOCKED_TARGETS = {"avx512vnni": 5.0}
# Contenders round distances to float32; this many rows may fall on the other side of a ball.
TOLERANCE = 5e-4

Matrix = NDArray[np.float32]

# Seconds of fastgen in the same run, by instruction set, for the contenders below.
_measured: dict[str, float] = {}


def feature_sets(quick: bool) -> tuple[Matrix, Matrix]:
    """Return the real and the fake set."""
    return feature_pair(*(QUICK_SHAPE if quick else SHAPE))


def case_id(real: Matrix, fake: Matrix, who: str) -> str:
    """Return the name of a case: shape, type, and who computes it."""
    return f"prdc/n={len(real)},m={len(fake)},d={real.shape[1]},k={K}/f32/{who}"


def bench_prdc(isa: str, bench: Bench, use_isa: Callable[[str], None], benchmark: Any) -> None:
    use_isa(isa)
    real, fake = feature_sets(bench.quick)
    assert_exact(real[:400], fake[:300])

    case = case_id(real, fake, f"cpu-{isa}")
    benchmark.group = "prdc"
    benchmark.name = case
    benchmark.pedantic(
        fastgen.prdc,
        kwargs={"real": real, "fake": fake, "k": K, "threads": bench.threads},
        rounds=5,
        warmup_rounds=1,
    )
    _measured[isa] = benchmark.stats.stats.median
    n, m, d = len(real), len(fake), real.shape[1]
    # Each set against itself at half its pairs, and every pair across, of d multiply-adds each.
    operations = (float(n) * n + float(m) * m + 2.0 * n * m) * d
    bench.record_gemm(
        benchmark,
        case,
        (n, m, d),
        isa=isa,
        pair_operations=operations,
        target=GEMM_TARGETS.get(isa),
    )


@pytest.mark.parametrize("contender", prdc_contenders(), ids=lambda contender: contender.name)
def bench_prdc_contender(contender: type[PrdcContender], bench: Bench, benchmark: Any) -> None:
    real, fake = feature_sets(bench.quick)
    expected = fastgen.prdc(real=real, fake=fake, k=K, ties="open", threads=bench.threads)
    found = []
    contender().prdc(real[:64], fake[:64], K, bench.threads)  # imports, threads

    case = case_id(real, fake, contender.name)
    benchmark.group = "prdc"
    benchmark.name = case
    benchmark.pedantic(
        lambda: found.append(contender().prdc(real, fake, K, bench.threads)),
        rounds=3 if contender.name == "numpy-blocked-f32" else 1,
        warmup_rounds=0,
    )
    for name, value in asdict(found[0]).items():
        # Density counts up to k m pairs in units of k m; one misplaced row moves it by 1 / (k m).
        assert abs(value - getattr(expected, name)) <= TOLERANCE, name

    bench.record_gemm(benchmark, case, (len(real), len(fake), real.shape[1]))
    targets = BLOCKED_TARGETS if contender.name == "numpy-blocked-f32" else None
    bench.record_against(benchmark, case, _measured, targets)


def assert_exact(real: Matrix, fake: Matrix) -> None:
    """Compare a part of the data with the reference, to the last bit."""
    for ties in ("closed", "open"):
        found = fastgen.prdc(real=real, fake=fake, k=K, ties=ties)
        expected = numpy_reference.prdc(real=real, fake=fake, k=K, ties=ties)
        assert isinstance(expected, numpy_reference.PRDC)
        assert found.to_dict() == asdict(expected)
