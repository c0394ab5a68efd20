"""`knn_radii`, everything included, in units of the bare float32 product of the same shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from features import relu_features

import fastgen
from fastgen import numpy_reference

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Bench
    from numpy.typing import NDArray

K = 3
MAIN_SHAPE = (20_000, 2048)
SHAPES = [
    MAIN_SHAPE,
    (5_000, 2048),
    (10_000, 2048),
    (40_000, 2048),
    (20_000, 64),
    (20_000, 256),
    (20_000, 768),
]
# At the int8 peak of the machine that the target was set on, the floor is 0.12.
TARGETS = {("avx512vnni", MAIN_SHAPE): 0.30}
# Rows compared with the float64 reference before anything is timed: 1.5 ns per pair and feature.
CHECKED_ROWS = 16


@pytest.mark.parametrize(("n", "d"), SHAPES, ids=[f"n={n},d={d},k={K}" for n, d in SHAPES])
def bench_knn_radii(
    n: int,
    d: int,
    isa: str,
    bench: Bench,
    use_isa: Callable[[str], None],
    benchmark: Any,
) -> None:
    target = TARGETS.get((isa, (n, d)))
    if bench.quick:
        n, d = n // 20, max(16, d // 8)
    use_isa(isa)
    x = relu_features(n, d, seed=1)
    assert_exact(x, fastgen.knn_radii(x, k=K, threads=bench.threads))

    case = f"knn_radii/n={n},d={d},k={K}/f32/cpu-{isa}"
    benchmark.group = "knn_radii"
    benchmark.name = case
    benchmark.pedantic(
        fastgen.knn_radii,
        args=(x,),
        kwargs={"k": K, "threads": bench.threads},
        rounds=3 if n > 20_000 else 5,
        warmup_rounds=1,
    )
    # Half of the pairs are computed, each of d multiply-adds.
    bench.record_gemm(
        benchmark, case, (n, n, d), isa=isa, pair_operations=float(n) * n * d, target=target
    )


def assert_exact(x: NDArray[np.float32], radii: NDArray[np.float64]) -> None:
    """Compare a sample of rows with the reference, to the last bit."""
    rows = np.random.default_rng(0).choice(len(x), CHECKED_ROWS, replace=False)
    # Against the whole set a row finds itself first, at distance 0.
    found = numpy_reference.nearest(x[rows], x, k=K + 1)
    assert isinstance(found, numpy_reference.Neighbors)
    np.testing.assert_array_equal(radii[rows], found.distances[:, K])
