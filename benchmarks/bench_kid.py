"""`kid` over 100 subsets of 1000 rows, the usual estimate, against what computes it elsewhere.

The unit is the bare float32 product of the whole sets: 100 subsets of 1000 have as many pairs as
10,000 rows, so the products alone take 2 units here as they do for the full sample, which is
measured beside it. Every contender's mean is compared with fastgen's over the very same subsets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from contenders import KidContender, kid_contenders
from features import feature_pair

import fastgen
from fastgen import numpy_reference

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from harness import Bench
    from numpy.typing import NDArray

    Matrix = NDArray[np.float32]

SHAPE, SUBSETS, SUBSET_SIZE = (10_000, 10_000, 2048), 100, 1000
QUICK_SHAPE, QUICK_SUBSETS, QUICK_SUBSET_SIZE = (600, 500, 256), 10, 200
TARGETS = {"avx512vnni": 2.3, "amx": 2.3}
SEED = 2020
TOLERANCE = 1e-5
# Of the contenders, relative: they add float32 numbers near 2 up to a difference near 0.01.
CONTENDER_TOLERANCE = 1e-3

# Seconds of fastgen in the same run, by instruction set, for the contenders below.
_measured: dict[str, float] = {}


def sizes(quick: bool) -> tuple[tuple[int, int, int], int, int]:
    """Return the shape (n, m, d), the number of subsets and their size."""
    if quick:
        return QUICK_SHAPE, QUICK_SUBSETS, QUICK_SUBSET_SIZE
    return SHAPE, SUBSETS, SUBSET_SIZE


def case_id(shape: tuple[int, int, int], what: str, who: str) -> str:
    """Return the name of a case: shape, what is averaged, and who computes it."""
    n, m, d = shape
    return f"kid/n={n},m={m},d={d}/{what}/f32/{who}"


def bench_kid(isa: str, bench: Bench, use_isa: Callable[[str], None], benchmark: Any) -> None:
    use_isa(isa)
    shape, subsets, size = sizes(bench.quick)
    real, fake = feature_pair(*shape)
    assert_close(real[:400], fake[:300], {"subsets": 5, "subset_size": 200, "seed": SEED})

    case = case_id(shape, f"{subsets}x{size}", f"cpu-{isa}")
    options = {"subsets": subsets, "subset_size": size, "threads": bench.threads}
    pairs = 4.0 * subsets * size * size / 2.0  # two half squares and a whole one
    measure(bench, benchmark, case, shape, isa, (real, fake), options, pairs=pairs, rounds=5)
    _measured[isa] = benchmark.stats.stats.median


def bench_kid_full_sample(bench: Bench, use_isa: Callable[[str], None], benchmark: Any) -> None:
    isa = bench.instruction_sets()[0]
    use_isa(isa)
    shape, _, _ = sizes(bench.quick)
    n, m, _ = shape
    real, fake = feature_pair(*shape)
    assert_close(real[:400], fake[:300], {})

    case = case_id(shape, "full sample", f"cpu-{isa}")
    pairs = (float(n) * n + float(m) * m) / 2.0 + float(n) * m
    options = {"threads": bench.threads}
    measure(bench, benchmark, case, shape, isa, (real, fake), options, pairs=pairs, rounds=3)


@pytest.mark.parametrize("contender", kid_contenders(), ids=lambda contender: contender.name)
def bench_kid_contender(contender: type[KidContender], bench: Bench, benchmark: Any) -> None:
    shape, subsets, size = sizes(bench.quick)
    real, fake = feature_pair(*shape)
    found: list[Any] = []
    problem = contender.problem()
    if problem is not None:
        pytest.skip(f"{contender.name} is installed, but cannot be imported: {problem}")
    contender().kid(real[:64], fake[:64], 1, 64, SEED, bench.threads)  # imports, threads

    case = case_id(shape, f"{subsets}x{size}", contender.name)
    benchmark.group = "kid"
    benchmark.name = case
    benchmark.pedantic(
        lambda: found.append(contender().kid(real, fake, subsets, size, SEED, bench.threads)),
        rounds=3,
        warmup_rounds=0,
    )
    drawn = contender().draws(len(real), len(fake), subsets, size, SEED)
    expected = fastgen.kid(real=real, fake=fake, subset_indices=drawn, threads=bench.threads)
    assert found[0].mean == pytest.approx(expected.mean, rel=CONTENDER_TOLERANCE, abs=0)
    if found[0].std is not None:
        assert found[0].std == pytest.approx(expected.std, rel=CONTENDER_TOLERANCE, abs=0)

    bench.record_gemm(benchmark, case, shape)
    bench.record_against(benchmark, case, _measured)


def measure(
    bench: Bench,
    benchmark: Any,
    case: str,
    shape: tuple[int, int, int],
    isa: str,
    sets: tuple[Matrix, Matrix],
    options: dict[str, int],
    *,
    pairs: float,
    rounds: int,
) -> None:
    """Time and record one way of calling `kid` that looks at so many pairs."""
    benchmark.group = "kid"
    benchmark.name = case
    benchmark.pedantic(
        fastgen.kid,
        kwargs={"real": sets[0], "fake": sets[1], **options},
        rounds=rounds,
        warmup_rounds=1,
    )
    bench.record_gemm(
        benchmark,
        case,
        shape,
        isa=isa,
        pair_operations=2.0 * pairs * shape[2],
        path="float32",
        target=TARGETS.get(isa),
    )


def assert_close(real: Matrix, fake: Matrix, options: dict[str, int]) -> None:
    """Compare a part of the data with the float64 reference, over the same subsets."""
    found = fastgen.kid(real=real, fake=fake, **options)
    expected = numpy_reference.kid(real=real, fake=fake, **options)
    assert found.mean == pytest.approx(expected.mean, rel=TOLERANCE, abs=0)
    assert found.std == pytest.approx(expected.std, rel=10 * TOLERANCE, abs=0)
