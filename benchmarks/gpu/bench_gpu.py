"""The figures promised for one GPU, each beside the floor that its peak rates set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import device
import pytest
import torch

import fastgen

if TYPE_CHECKING:
    from conftest import Sizes, Table

# The least share of its time that a neighbour search may take of a tiled `cdist` and `topk`.
RADII_RATIO = 25.0
INT8_SHARE = 0.45


@pytest.mark.parametrize("n", [50_000, 1_000_000])
def bench_prdc(n: int, table: Table, sizes: Sizes, benchmark: Any) -> None:
    d = sizes(2048, 256, 40)
    n = sizes(n, n // 50, 60)
    # A million rows of float32 twice are 16 GB; they stay that: the conversion is part of the work.
    real = device.features(n, d, seed=1)
    fake = device.features(n, d, seed=2, spread=0.9)
    if n <= 50_000:
        found = fastgen.prdc(real=real[:2000], fake=fake[:1500], k=5, device="cuda")
        expected = fastgen.prdc(real=real[:2000].cpu(), fake=fake[:1500].cpu(), k=5)
        assert found == expected
    line = table.measure(
        benchmark,
        f"prdc {n} + {n}, d={d}, k=5, float32",
        lambda: fastgen.prdc(real=real, fake=fake, k=5, device="cuda"),
        rounds=2 if n > 100_000 else sizes(7, 7, 1),
        target=sizes.target(15.0 if n > 100_000 else 0.060),
        floor={"int8": 2 * 2.0 * n * n * d},
    )
    line.notes.append(f"{4.0 * n * n * d / line.seconds / 1e12:.0f} TOP/s of pairs looked at")


@pytest.mark.parametrize("d", [64, 2048])
def bench_knn_radii(d: int, table: Table, sizes: Sizes, benchmark: Any) -> None:
    n, d = sizes((50_000, d), (2000, d), (60, min(d, 70)))
    rows = device.features(n, d, seed=1)
    line = table.measure(
        benchmark,
        f"knn_radii {n}, d={d}, k=3",
        lambda: fastgen.knn_radii(rows, k=3, device="cuda"),
        rounds=sizes(5, 5, 1),
        floor={"int8": float(n) * n * d},
    )

    def tiled() -> Any:
        radii = [
            torch.cdist(rows[start : start + 5000], rows).topk(4, largest=False).values[:, -1]
            for start in range(0, n, 5000)
        ]
        return torch.cat(radii)

    contender = table.time(f"torch cdist + topk, tiles of 5000 x {n}, d={d}", tiled)
    ratio = contender.seconds / line.seconds
    verdict = "met" if ratio >= RADII_RATIO else "missed"
    contender.notes.append(f"{ratio:.1f} x knn_radii; >= {RADII_RATIO:g} asked: {verdict}")


def bench_tiles(table: Table, sizes: Sizes, benchmark: Any) -> None:
    """Time the int8 tiles with nothing to emit: no ball reaches any other row."""
    from fastgen.session import Session
    from fastgen.workers import drive

    n, d = sizes((65_536, 2048), (2048, 256), (200, 64))
    with Session("bench_tiles", device="cuda") as session:
        rows = session.rows("x", device.normal(n, d, seed=1))
        assert session.gpu is not None
        module, view = session.gpu.module, session.gpu.handle(rows)
    prepared = module.Prepared(view, "int8")
    drive(prepared)
    radii = torch.zeros((1, n), dtype=torch.float64).numpy()

    def walk() -> None:
        drive(module.Balls(prepared, prepared, radii, None, False, (0, 1)))

    operations = 2.0 * n * n * d
    line = table.measure(
        benchmark,
        f"int8 tiles {n} x {n}, d={d}",
        walk,
        rounds=sizes(5, 5, 1),
        floor={"int8": operations},
    )
    if table.peaks:
        share = operations / line.seconds / table.peaks["int8"]
        verdict = "met" if share >= INT8_SHARE else "missed"
        line.notes.append(f"{share:.0%} of the int8 peak; >= {INT8_SHARE:.0%} asked: {verdict}")


def bench_mmd(table: Table, sizes: Sizes, benchmark: Any) -> None:
    n, d = sizes((50_000, 2048), (2000, 256), (60, 40))
    real = device.features(n, d, seed=1)
    fake = device.features(n, d, seed=2, spread=0.9)
    table.measure(
        benchmark,
        f"mmd {n} + {n}, d={d}, polynomial, all pairs",
        lambda: fastgen.mmd(real, fake, device="cuda"),
        rounds=sizes(5, 5, 1),
        target=sizes.target(0.150),
        floor={"float16": 3 * 2 * 2.0 * n * n * d},
    )


@pytest.mark.parametrize(("d", "target"), [(2, 0.5), (64, 1.2)])
def bench_density(d: int, target: float, table: Table, sizes: Sizes, benchmark: Any) -> None:
    n = sizes(1_000_000, 20_000, 60)
    points = device.normal(n, d, seed=1)
    samples = device.normal(n, d, seed=2)
    floor = {"exponentials": float(n) * n}
    if d > 16:
        floor["float16"] = 3 * 2.0 * n * n * d
    table.measure(
        benchmark,
        f"log_density {n} x {n}, d={d}, Scott's rule",
        lambda: fastgen.log_density(points, samples, device="cuda"),
        rounds=sizes(3, 3, 1),
        target=sizes.target(target),
        floor=floor,
    )


@pytest.mark.parametrize("singular", [False, True], ids=["regular", "singular"])
def bench_frechet(singular: bool, table: Table, sizes: Sizes, benchmark: Any) -> None:
    d = sizes(2048, 256, 20)
    sets = []
    for seed in (1, 2):
        rows = device.normal(d // 2 if singular else 4 * d, d, seed=seed, dtype=torch.float64)
        sets.append((rows.mean(0), torch.cov(rows.T)))
    (mean_1, covariance_1), (mean_2, covariance_2) = sets
    line = table.measure(
        benchmark,
        f"frechet_distance d={d}, {'singular' if singular else 'regular'}",
        lambda: fastgen.frechet_distance(mean_1, covariance_1, mean_2, covariance_2),
        target=sizes.target(0.150 if singular else 0.020),
        # Thirteen steps of two products of d^3 each are the least that the iteration needs.
        floor={"float64": 26 * 2.0 * d**3},
    )
    found = fastgen.frechet_distance(mean_1, covariance_1, mean_2, covariance_2)
    line.notes.append(f"{found.value:.6g} +- {found.error_bound:.1g} by {found.method}")
