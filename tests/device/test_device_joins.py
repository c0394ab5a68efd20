"""Bit for bit the reference on a CUDA device: every decision and every radius, by every path."""

from __future__ import annotations

import itertools
from dataclasses import asdict
from typing import Any

import families
import numpy as np
import pytest
from checks import assert_same_bits, remembered_distances
from test_exactness import Case, Questions

import fastgen
from fastgen import numpy_reference as reference
from fastgen import pairwise

DTYPES = ("float16", "float32", "float64")
DIRECT_D = 16  # features up to which differences are taken
# Around a tile of 128 rows; widths around 16, a slice of 128 bytes and a power of 2.
SWEEPS = (((1, 2, 3, 7, 16), (37, 129, 140)), ((17, 33, 64, 100, 192), (61, 128, 131)))
# Three tiles of 128 rows, two of 256.
WIDER = [("integers", 260, 16), ("clusters_1e-4", 260, 3), ("sparse", 259, 192)]


def _swept() -> list[Case]:
    cases: dict[str, Case] = {}
    for f, family in enumerate([*families.DATA_FAMILIES, *families.FLOAT64_FAMILIES]):
        for s, (widths, sizes) in enumerate(SWEEPS):
            dtype = "float64" if family in families.FLOAT64_FAMILIES else DTYPES[(f + s) % 3]
            d, n = widths[(f + s) % len(widths)], sizes[(f // 2 + s) % len(sizes)]
            case = Case(family, n, d, dtype, len(cases))
            cases.setdefault(str(case), case)
    for family, n, d in WIDER:
        case = Case(family, n, d, "float32", len(cases))
        cases.setdefault(str(case), case)
    return list(cases.values())


def _paths(d: int) -> list[str | None]:
    return [None, "scan", *(["direct"] if d <= DIRECT_D else []), "int8", "float32"]


@pytest.mark.parametrize("case", _swept(), ids=str)
def test_bits_equal_the_reference(case):
    real, fake = case.data()
    with remembered_distances():
        questions = Questions(real, fake)
        for turn, path in enumerate(_paths(case.d)):
            questions.ask(turn + case.number, f"path={path}", path=path, device="cuda")


LARGE = [
    Case("gaussian", 1511, 64, "float32", 0),
    Case("integers", 1511, 64, "float16", 1),
    Case("half_equal", 1511, 64, "float32", 2),
    Case("few_distinct", 1511, 64, "float64", 3),
    Case("near_duplicates", 1511, 64, "float32", 4),
    Case("clusters_1e-4", 1511, 64, "float32", 5),
    Case("all_equal", 1511, 100, "float32", 6),
    Case("heavy_tailed", 2311, 3, "float32", 7),
    Case("heavy_tailed", 523, 768, "float32", 8),
    Case("relu", 523, 2048, "float16", 9),
    Case("spheres", 1511, 33, "float64", 10),
]


@pytest.mark.gpu
@pytest.mark.parametrize("case", LARGE, ids=str)
def test_bits_equal_the_reference_over_many_tiles(case):
    real, fake = case.data()
    with remembered_distances():
        questions = Questions(real, fake)
        for turn, path in enumerate(_paths(case.d)):
            questions.ask(turn + case.number, f"path={path}", path=path, device="cuda")


@pytest.mark.gpu
@pytest.mark.parametrize("d", [2, 64, 512])
def test_twenty_thousand_rows_as_on_the_cpu(d):
    real, fake = Case("relu", 20_000, d, "float32", 0).data()
    ours = fastgen.membership(real=real, fake=fake, k=5, device="cuda")
    assert_same_bits(ours, fastgen.membership(real=real, fake=fake, k=5))
    ours = fastgen.nearest(fake, real, k=7, device="cuda")
    assert_same_bits(ours, fastgen.nearest(fake, real, k=7))


@pytest.mark.parametrize(("real_dtype", "fake_dtype"), list(itertools.permutations(DTYPES, 2)))
def test_sets_of_different_dtype(real_dtype, fake_dtype):
    real, _ = Case("relu", 83, 33, real_dtype, 0).data()
    _, fake = Case("relu", 83, 33, fake_dtype, 0).data()
    Questions(real, fake).ask(0, "auto", device="cuda")


@pytest.mark.parametrize("k", [129, 257, 299])
def test_large_k(k):
    real, _ = Case("relu", 300, 40, "float32", 0).data()
    expected = reference.sq_nearest(real, k=k)
    assert_same_bits(pairwise.sq_knn(real, k=k, indices=True, device="cuda"), expected)


@pytest.mark.parametrize("path", [None, "int8", "float32", "scan", "direct"])
def test_a_row_is_left_out_by_index_and_equal_rows_come_in_their_order(path):
    d = 3 if path == "direct" else 40
    x = np.tile(families.seeded("row").standard_normal((1, d)).astype(np.float32), (300, 1))
    x[250] += 1
    how: dict[str, Any] = {"path": path, "device": "cuda"}
    sq, rows = pairwise.sq_knn(x, k=3, indices=True, **how)
    far = sq[250, 0]
    assert far > 0
    expected = np.tile(np.arange(3), (300, 1))
    expected[0], expected[1], expected[2] = [1, 2, 3], [0, 2, 3], [0, 1, 3]
    assert_same_bits(rows, expected)
    assert_same_bits(sq, np.where(np.arange(300)[:, np.newaxis] == 250, far, np.zeros((300, 3))))
    # An array that is passed excludes nothing, even if it is the same.
    sq, rows = pairwise.sq_knn(x, x, k=2, indices=True, **how)
    expected = np.tile(np.arange(2), (300, 1))
    expected[250] = [250, 0]
    assert_same_bits(rows, expected)
    assert_same_bits(sq[250], np.array([0.0, far]))


@pytest.mark.parametrize("ties", ["closed", "open"])
@pytest.mark.parametrize("family", ["integers", "half_equal", "clusters_1e-4"])
def test_public_functions(family, ties):
    real, fake = Case(family, 150, 40, "float32", 0).data()
    sets: dict[str, Any] = {"real": real, "fake": fake, "k": [1, 4], "ties": ties}
    for name in ("prdc", "precision_recall", "membership"):
        ours = getattr(fastgen, name)(**sets, device="cuda")
        assert_same_bits(ours, getattr(reference, name)(**sets), name)
    report = fastgen.evaluate(real=real, fake=fake, metrics=["prdc"], k=4, device="cuda")
    expected = reference.prdc(real=real, fake=fake, k=4)
    assert report.metrics["prdc"].to_dict() == asdict(expected)


def test_the_same_bits_from_run_to_run():
    real, fake = Case("near_duplicates", 203, 48, "float32", 0).data()
    runs = [fastgen.membership(real=real, fake=fake, k=5, device="cuda") for _ in range(3)]
    assert_same_bits(runs[1], runs[0])
    assert_same_bits(runs[2], runs[0])


@pytest.mark.parametrize("d", [3, 40])
def test_several_devices_change_no_bit(d):
    # Of one device, "all" is one share; the emulator has two in this suite's second run.
    real, fake = Case("half_equal", 300, d, "float32", 0).data()
    alone = fastgen.membership(real=real, fake=fake, k=3, device="cuda")
    together = fastgen.membership(real=real, fake=fake, k=3, device="cuda:all")
    assert_same_bits(together, alone)
    neighbours = fastgen.nearest(fake, real, k=[1, 9], device="cuda:all")
    assert_same_bits(neighbours, reference.nearest(fake, real, k=[1, 9]))
