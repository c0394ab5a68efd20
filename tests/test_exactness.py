"""Bit for bit the reference: every decision and every radius, whatever computes it.

One reference per case; inside it every instruction set, every path of the engine and 1 to 4
threads answer the same questions. The number of threads, k and the tie rule change from one run to
the next, so that all of them meet all the others over the whole file without a full product.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from typing import Any

import families
import numpy as np
import pytest
from checks import Array, assert_same_bits, remembered_distances

import fastgen
from fastgen import numpy_reference as reference
from fastgen import pairwise

core = pytest.importorskip("fastgen._core", reason="the compiled module has to be built")

DTYPES = ("float16", "float32", "float64")
TREE_BELOW = 8  # features; the tree is a path for low dimension only
LARGEST_LIST_K = 300  # the lists' upkeep grows with k; the planner scans from 257 on

# Every family and dtype meets one width of each row, and one of its numbers of rows.
SWEEPS = (
    ((1, 2, 3, 7), (37, 333, 130)),
    ((8, 9, 15, 16, 17, 31, 32, 33, 64, 100), (61, 130, 203)),
    ((768, 2048), (61, 41, 77)),
)


@dataclass(frozen=True)
class Case:
    """A data family at one size; `number` moves the choices that change from run to run."""

    family: str
    n: int
    d: int
    dtype: str
    number: int

    def __str__(self) -> str:
        return f"{self.family}-n={self.n}-d={self.d}-{self.dtype}"

    def data(self) -> tuple[Array, Array]:
        family = (families.DATA_FAMILIES | families.FLOAT64_FAMILIES)[self.family]
        return family(families.seeded(str(self)), self.n, self.d, self.dtype)


def _swept() -> list[Case]:
    cases: dict[str, Case] = {}

    def add(family: str, d: int, n: int, dtype: str) -> None:
        case = Case(family, n, d, dtype, len(cases))
        cases.setdefault(str(case), case)

    for f, family in enumerate([*families.DATA_FAMILIES, *families.FLOAT64_FAMILIES]):
        for t, dtype in enumerate(DTYPES):
            if family in families.FLOAT64_FAMILIES and dtype != "float64":
                continue
            for widths, sizes in SWEEPS:
                add(family, widths[(f + 3 * t) % len(widths)], sizes[(f + t) % len(sizes)], dtype)
    for widths, sizes in SWEEPS:
        for w, d in enumerate(widths):
            add("gaussian", d, sizes[w % len(sizes)], "float32")
            add("integers", d, sizes[(w + 1) % len(sizes)], "float32")
            add("few_distinct", d, sizes[(w + 2) % len(sizes)], "float64")
    return list(cases.values())


def _paths(d: int, k: int) -> list[str | None]:
    paths: list[str | None] = [None, "scan"]
    if k <= LARGEST_LIST_K:
        paths += ["int8", "float32"]
    if d < TREE_BELOW:
        paths.append("tree")
    return paths


class Questions:
    """What is asked of one case, with the reference's answers."""

    def __init__(self, real: Array, fake: Array) -> None:
        self.real, self.fake = real, fake
        n, m = len(real), len(fake)
        most = min(n, m) - 1
        self.ks = sorted({1, max(1, most // 7), most})
        self.self_sq, self.self_rows = reference.sq_nearest(real, k=n - 1)
        self.cross_sq, self.cross_rows = reference.sq_nearest(real, fake, k=m)
        self.real_radii = np.array(reference.sq_knn_radii(real, self.ks))
        self.fake_radii = np.array(reference.sq_knn_radii(fake, self.ks))
        self.counts = {
            ties: reference.ball_counts(real, fake, self.real_radii, self.fake_radii, ties)
            for ties in ("closed", "open")
        }
        radii = self.real_radii[len(self.ks) // 2]
        self.kept = np.where(radii <= np.median(radii), radii, np.nan)
        self.sq_realism = reference.sq_realism(real, fake, self.kept)

    def ask(self, turn: int, what: str, **how: Any) -> None:
        """Put every question once; `turn` chooses k, the tie rule and whether indices come."""
        self.ask_knn(None, turn, what, **how)
        self.ask_knn(self.fake, turn + 1, what, **how)
        ties = ("closed", "open")[turn % 2]
        counts = pairwise.ball_counts(
            self.real, self.fake, self.real_radii, self.fake_radii, ties=ties, **how
        )
        assert_same_bits(counts, self.counts[ties], f"ball_counts {ties} {what}")
        realism = pairwise.sq_realism(self.real, self.fake, self.kept, **how)
        assert_same_bits(realism, self.sq_realism, f"sq_realism {what}")

    def ask_knn(self, y: Array | None, turn: int, what: str, **how: Any) -> None:
        sq, rows = (self.self_sq, self.self_rows) if y is None else (self.cross_sq, self.cross_rows)
        k = (1, max(1, sq.shape[1] // 7), sq.shape[1])[turn % 3]
        if how.get("path") in ("int8", "float32"):
            k = min(k, LARGEST_LIST_K)
        what = f"sq_knn {'self' if y is None else 'cross'} k={k} {what}"
        indices = turn % 2 == 0
        found_sq, found_rows = pairwise.sq_knn(self.real, y, k=k, indices=indices, **how)
        assert_same_bits(found_sq, np.ascontiguousarray(sq[:, :k]), what)
        if indices:
            assert_same_bits(found_rows, np.ascontiguousarray(rows[:, :k]), what)
        else:
            assert found_rows is None, what


def ask_public(real: Array, fake: Array, ks: list[int], turn: int, threads: int) -> None:
    """Compare the public functions, which choose their own path."""
    how: dict[str, Any] = {"threads": threads}
    k = ks[turn % len(ks)]
    ties = ("closed", "open")[turn % 2]
    sets: dict[str, Any] = {"real": real, "fake": fake}
    pairs = [
        (fastgen.knn_radii(real, k=ks, **how), reference.knn_radii(real, k=ks)),
        (fastgen.nearest(real, k=k, **how), reference.nearest(real, k=k)),
        (fastgen.nearest(fake, real, k=ks, **how), reference.nearest(fake, real, k=ks)),
    ]
    for name in ("prdc", "precision_recall", "membership"):
        ours, theirs = getattr(fastgen, name), getattr(reference, name)
        pairs.append((ours(**sets, k=ks, ties=ties, **how), theirs(**sets, k=ks, ties=ties)))
        ties = "open" if ties == "closed" else "closed"
        pairs.append((ours(**sets, k=k, ties=ties, **how), theirs(**sets, k=k, ties=ties)))
    for place, (actual, expected) in enumerate(pairs):
        assert_same_bits(actual, expected, f"public call {place}, threads={threads}")


@pytest.mark.parametrize("case", _swept(), ids=str)
def test_bits_equal_the_reference(case, monkeypatch):
    real, fake = case.data()
    with remembered_distances():
        questions = Questions(real, fake)
        sets = core.instruction_sets()
        runs = list(itertools.product(sets, _paths(case.d, case.n - 1)))
        for turn, (isa, path) in enumerate(runs):
            threads = 1 + (turn + turn // 4 + case.number) % 4
            what = f"isa={isa} path={path} threads={threads}"
            questions.ask(turn + case.number, what, isa=isa, path=path, threads=threads)
        monkeypatch.setenv("FASTGEN_ISA", sets[case.number % len(sets)])
        ask_public(real, fake, questions.ks, case.number, threads=1 + case.number // 4 % 4)


# Wider than a column block (384), more rows than a strip and than a list holds (1024).
LARGE = [
    Case("gaussian", 1511, 64, "float32", 0),
    Case("integers", 1511, 64, "float16", 1),
    Case("half_equal", 1511, 64, "float32", 2),
    Case("few_distinct", 1511, 64, "float64", 3),
    Case("near_duplicates", 1511, 64, "float32", 4),
    Case("clusters_1e-4", 1511, 64, "float32", 5),
    Case("strokes_twice", 1511, 64, "float32", 6),
    Case("all_equal", 1511, 100, "float32", 7),
    Case("heavy_tailed", 2311, 3, "float32", 8),
    Case("integers", 2311, 2, "float32", 9),
    Case("heavy_tailed", 523, 768, "float32", 10),
    Case("relu", 523, 2048, "float16", 11),
    Case("spheres", 1511, 33, "float64", 12),
]


@pytest.mark.parametrize("case", LARGE, ids=str)
def test_bits_equal_the_reference_over_many_blocks(case):
    real, fake = case.data()
    k = 5 + case.number
    with remembered_distances():
        sq, rows = reference.sq_nearest(real, k=k)
        cross_sq, cross_rows = reference.sq_nearest(real, fake, k=k)
        real_radii = np.array(reference.sq_knn_radii(real, [1, k]))
        fake_radii = np.array(reference.sq_knn_radii(fake, [1, k]))
        ties = ("closed", "open")[case.number % 2]
        counts = reference.ball_counts(real, fake, real_radii, fake_radii, ties)
        realism = reference.sq_realism(real, fake, real_radii[1])
    for turn, isa in enumerate(core.instruction_sets()):
        for path in _paths(case.d, k):
            if path == "scan" and case.d > 100:
                continue  # the slowest way, and its blocks do not depend on d
            how: dict[str, Any] = {"isa": isa, "path": path, "threads": 1 + turn % 4}
            found = pairwise.sq_knn(real, k=k, indices=True, **how)
            assert_same_bits(found, (sq, rows), f"self {how}")
            found = pairwise.sq_knn(real, fake, k=k, indices=True, **how)
            assert_same_bits(found, (cross_sq, cross_rows), f"cross {how}")
            found = pairwise.ball_counts(real, fake, real_radii, fake_radii, ties=ties, **how)
            assert_same_bits(found, counts, f"balls {how}")
            found = pairwise.sq_realism(real, fake, real_radii[1], **how)
            assert_same_bits(found, realism, f"realism {how}")


@pytest.mark.parametrize(("value", "d"), [(0.123, 131072), (0.1, 500000)])
@pytest.mark.parametrize("ties", ["closed", "open"])
def test_sums_over_very_many_features_stay_within_their_bound(value, d, ties):
    # Rows that equal their set's centre have no residual: only the bound on rounding is left.
    row = np.full(d, value)
    real, fake = np.array([-row, 0 * row, row]), np.array([row, row])
    ours = fastgen.prdc(real=real, fake=fake, k=1, ties=ties)
    theirs = reference.prdc(real=real, fake=fake, k=1, ties=ties)
    assert ours.to_dict() == asdict(theirs)


@pytest.mark.parametrize("path", ["int8", "float32", "scan"])
def test_realism_with_radii_that_overflow_in_the_engines_units(path):
    size = 1e-130
    v, w = size * np.eye(64)[0], size * np.eye(64)[1]
    x, y = np.array([v, -v, w, -w, 0 * v]), np.array([1e-4 * w, -1e-4 * w])
    sq_radii = np.array([1e30, 1e30, 1e30, 1e30, 1e23])
    ours = pairwise.sq_realism(x, y, sq_radii, path=path)
    np.testing.assert_array_equal(ours, reference.sq_realism(x, y, sq_radii))


@pytest.mark.parametrize("k", [479, 480, 481, 700, 1109])
def test_large_k(k):
    real, _ = Case("relu", 1110, 40, "float32", 0).data()
    expected = reference.sq_nearest(real, k=k)
    assert_same_bits(pairwise.sq_knn(real, k=k, indices=True, threads=2), expected)
    radii = fastgen.knn_radii(real, k=[1, k], threads=3)
    assert_same_bits(radii[1], np.sqrt(expected[0][:, -1]))


@pytest.mark.parametrize("d", [3, 64])
@pytest.mark.parametrize("path", [None, "int8", "float32", "scan"])
def test_threads_and_instruction_sets_agree(d, path):
    real, fake = Case("half_equal", 903, d, "float32", 0).data()
    radii = np.array(reference.sq_knn_radii(real, [3]))
    first: Any = None
    for isa, threads in itertools.product(core.instruction_sets(), (1, 2, 3, 4)):
        how: dict[str, Any] = {"isa": isa, "threads": threads, "path": path}
        found = [
            pairwise.sq_knn(real, k=3, indices=True, **how),
            pairwise.sq_knn(fake, real, k=3, **how)[0],
            pairwise.ball_counts(real, fake, radii, **how),
            pairwise.sq_realism(real, fake, radii[0], **how),
        ]
        first = first or found
        assert_same_bits(found, first, f"{how}")


@pytest.mark.parametrize(("real_dtype", "fake_dtype"), list(itertools.permutations(DTYPES, 2)))
def test_sets_of_different_dtype(real_dtype, fake_dtype):
    real, _ = Case("relu", 83, 33, real_dtype, 0).data()
    _, fake = Case("relu", 83, 33, fake_dtype, 0).data()
    for isa, path in itertools.product(core.instruction_sets(), _paths(33, 82)):
        Questions(real, fake).ask(0, f"{isa} {path}", isa=isa, path=path)
    ask_public(real, fake, [2, 5], 0, threads=2)


def test_integer_rows_become_float64():
    rng = families.seeded("integer rows")
    real = rng.integers(-(2**60), 2**60, (70, 12))
    fake = rng.integers(0, 200, (50, 12), dtype=np.uint8)
    for x, y in ((real, real[::-1]), (fake, fake[::2]), (real, fake)):
        ask_public(x, y, [1, 4], 1, threads=1)


def test_layout_changes_no_bit(tmp_path):
    real, fake = Case("relu", 120, 48, "float32", 0).data()
    expected = reference.membership(real=real, fake=fake, k=3)
    np.save(tmp_path / "fake.npy", fake)
    frozen = np.asfortranarray(real)
    frozen.flags.writeable = False
    for x, y in (
        (np.repeat(real, 2, axis=1)[:, ::2], fake[::-1][::-1]),
        (frozen, np.load(tmp_path / "fake.npy", mmap_mode="r")),
        (real.astype(">f4"), np.repeat(fake, 3, axis=0)[::3]),
    ):
        assert_same_bits(fastgen.membership(real=x, fake=y, k=3), expected)


@pytest.mark.parametrize("ties", ["closed", "open"])
@pytest.mark.parametrize("family", ["integers", "gaussian", "half_equal"])
def test_roles_swap(family, ties):
    a, b = Case(family, 97, 17, "float32", 0).data()
    there = fastgen.precision_recall(real=a, fake=b, k=3, ties=ties)
    back = fastgen.precision_recall(real=b, fake=a, k=3, ties=ties)
    assert (there.precision, there.recall) == (back.recall, back.precision)
    assert there.f_score == back.f_score
    a_radii = np.array(reference.sq_knn_radii(a, [2, 3]))
    b_radii = np.array(reference.sq_knn_radii(b, [2, 3]))
    swapped = {
        "y_in_x": "x_in_y",
        "x_balls_of_y": "y_balls_of_x",
        "x_in_y": "y_in_x",
        "y_balls_of_x": "x_balls_of_y",
    }
    for path in ("int8", "float32", "scan"):
        there = pairwise.ball_counts(a, b, a_radii, b_radii, ties=ties, path=path)
        back = pairwise.ball_counts(b, a, b_radii, a_radii, ties=ties, path=path)
        assert_same_bits(there, {name: back[other] for name, other in swapped.items()}, path)
        alone = pairwise.ball_counts(a, b, sq_radii_x=a_radii, ties=ties, path=path)
        alone |= pairwise.ball_counts(a, b, sq_radii_y=b_radii, ties=ties, path=path)
        assert_same_bits(alone, there, path)


@pytest.mark.parametrize("isa", core.instruction_sets())
@pytest.mark.parametrize("path", [None, "int8", "float32", "scan", "tree"])
def test_a_row_is_left_out_by_index_and_equal_rows_come_in_their_order(isa, path):
    d = 3 if path == "tree" else 40
    x = np.tile(families.seeded("row").standard_normal((1, d)).astype(np.float32), (500, 1))
    x[250] += 1
    sq, rows = pairwise.sq_knn(x, k=3, indices=True, isa=isa, path=path)
    far = sq[250, 0]
    assert far > 0
    expected = np.tile(np.arange(3), (500, 1))
    expected[0], expected[1], expected[2] = [1, 2, 3], [0, 2, 3], [0, 1, 3]
    assert_same_bits(rows, expected)
    assert_same_bits(sq, np.where(np.arange(500)[:, np.newaxis] == 250, far, np.zeros((500, 3))))
    # An array that is passed excludes nothing, even if it is the same.
    sq, rows = pairwise.sq_knn(x, x, k=2, indices=True, isa=isa, path=path)
    expected = np.tile(np.arange(2), (500, 1))
    expected[250] = [250, 0]
    assert_same_bits(rows, expected)
    assert_same_bits(sq[250], np.array([0.0, far]))


@pytest.mark.parametrize("isa", core.instruction_sets())
@pytest.mark.parametrize("path", [None, "int8", "float32", "scan", "tree"])
def test_radii_pass_on_as_squares(isa, path):
    # The root of 2 squares to more than 2, that of 3 to less: with roots the open ball of 2 would
    # hold its own edge, and the closed ball of 3 would not.
    d = 3 if path == "tree" else 16
    for size in (2, 3):
        centre, edge = np.zeros((1, d)), np.zeros((1, d))
        edge[0, :size] = 1.0
        real, fake = np.vstack([centre, edge]), np.vstack([edge, centre + 50])
        sq, _ = pairwise.sq_knn(real, k=1, isa=isa, path=path)
        assert_same_bits(sq, np.full((2, 1), float(size)))
        radii = np.ascontiguousarray(sq.T)
        for ties, inside in (("closed", [1, 1]), ("open", [0, 1])):
            counts = pairwise.ball_counts(real, fake, radii, ties=ties, isa=isa, path=path)
            assert_same_bits(counts["y_in_x"], np.array([inside]))
    real, fake = np.zeros((2, 8)), np.zeros((2, 8))
    for size in (2, 3):
        real[1, :size] = fake[0, :size] = 1.0
        fake[1] = 50.0
        assert fastgen.prdc(real=real, fake=fake, k=1).coverage == 1.0
        assert fastgen.prdc(real=real, fake=fake, k=1, ties="open").coverage == 0.5


def test_tie_rules_by_hand():
    # Real 0, 1, 3 with radii 1, 1, 2; fake 1, 2, 9 with radii 1, 1, 7.
    real, fake = np.array([[0.0], [1], [3]]), np.array([[1.0], [2], [9]])
    closed = fastgen.prdc(real=real, fake=fake, k=1)
    assert_same_bits(closed, reference.PRDC(2 / 3, 1.0, 5 / 3, 1.0))
    opened = fastgen.prdc(real=real, fake=fake, k=1, ties="open")
    assert_same_bits(opened, reference.PRDC(2 / 3, 2 / 3, 2 / 3, 2 / 3))
    found = fastgen.membership(real=real, fake=fake, k=1)
    assert_same_bits(found.realism, np.array([np.inf, 1.0, 0.125]))


def test_several_k_in_one_call():
    real, fake = Case("strokes_twice", 150, 64, "float32", 0).data()
    ks = (5, 1, 5, 149)
    calls = [
        (fastgen.knn_radii(real, k=ks), [fastgen.knn_radii(real, k=k) for k in ks]),
        (fastgen.nearest(real, k=ks), [fastgen.nearest(real, k=k) for k in ks]),
        (
            fastgen.prdc(real=real, fake=fake, k=ks),
            [fastgen.prdc(real=real, fake=fake, k=k) for k in ks],
        ),
        (
            fastgen.membership(real=real, fake=fake, k=ks),
            [fastgen.membership(real=real, fake=fake, k=k) for k in ks],
        ),
    ]
    for together, alone in calls:
        assert_same_bits(together, alone)


def test_evaluate_reports_what_the_metrics_do():
    real, fake = Case("strokes_twice", 150, 64, "float32", 0).data()
    both = ["prdc", "precision_recall"]
    report = fastgen.evaluate(real=real, fake=fake[:100], metrics=both, k=4, ties="open")
    expected = reference.evaluate(real=real, fake=fake[:100], metrics=both, k=4, ties="open")
    assert_same_bits(report.metrics, expected)
    reports = fastgen.evaluate(real=real, fake=fake[:100], metrics=["prdc"], k=[1, 4])
    expected = reference.evaluate(real=real, fake=fake[:100], metrics=["prdc"], k=[1, 4])
    assert_same_bits([report.metrics for report in reports], expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [1, 33, 2048])
def test_pair_distances_are_canonical(d, dtype):
    x, y = Case("all_scales", 41, d, dtype, 0).data()
    rng = families.seeded("pairs", d)
    i, j = rng.integers(0, len(x), 500), rng.integers(0, len(y), 500)
    expected = reference.sq_distances(x, y)[i, j]
    for isa, threads in itertools.product(core.instruction_sets(), (1, 3)):
        assert_same_bits(core.pair_sq_distances(x, y, i, j, isa, threads), expected, isa)
