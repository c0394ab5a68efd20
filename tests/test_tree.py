"""The tree path: bit for bit the reference, most of all where distances tie or squares vanish."""

from __future__ import annotations

import families
import numpy as np
import pytest
from checks import assert_same_bits
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fastgen
from fastgen import groups, numpy_reference, pairwise, plan, tree, workers


def check(x, y, ks=(1, 4), **how):
    """Compare all primitives over both sets with the reference."""
    how = {"path": "tree", "threads": 1} | how
    n, m = len(x), len(y)
    for k in ks:
        for other, upper in ((None, n - 1), (y, m)):
            if not 1 <= k <= upper:
                continue
            expected = numpy_reference.sq_nearest(x, other, k=k)
            assert_same_bits(pairwise.sq_knn(x, other, k, indices=True, **how), expected, f"k={k}")
            assert_same_bits(pairwise.sq_knn(x, other, k, **how)[0], expected[0], f"k={k}")
    inner = min(ks[-1], n - 1, m - 1)
    radii_x = np.array(numpy_reference.sq_knn_radii(x, [1, inner]))
    radii_y = np.array(numpy_reference.sq_knn_radii(y, [1, inner]))
    radii_x[0, ::3] = np.nan
    radii_x[1, ::4] = radii_x[1, 0]
    for ties in ("closed", "open"):
        expected = numpy_reference.ball_counts(x, y, radii_x, radii_y, ties)
        found = pairwise.ball_counts(x, y, radii_x, radii_y, ties=ties, **how)
        assert_same_bits(found, expected, ties)
    kept = np.where(radii_x[1] <= np.median(radii_x[1]), radii_x[1], np.nan)
    for radii in (radii_x[0], radii_x[1], kept):
        expected = numpy_reference.sq_realism(x, y, radii)
        assert_same_bits(pairwise.sq_realism(x, y, radii, **how), expected, "realism")


@pytest.fixture
def never_declines(monkeypatch):
    """Let the tree take every join, so that the test is about the tree."""
    monkeypatch.setattr(tree, "_require_few", tree._lengths)


ALL = families.DATA_FAMILIES | families.FLOAT64_FAMILIES


@pytest.mark.parametrize("d", [1, 2, 3, 7])
@pytest.mark.parametrize("family", ALL)
def test_families(family, d, never_declines):
    x, y = ALL[family](families.seeded("tree", family, d), 83, d, "float64")
    check(x, y, ks=(1, 5, 82))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("family", ["gaussian", "integers", "all_scales", "near_duplicates"])
def test_other_dtypes(family, dtype, never_declines):
    x, y = families.DATA_FAMILIES[family](families.seeded(dtype, family), 70, 3, dtype)
    check(x, y)
    check(x, y.astype(np.float64))


@pytest.mark.parametrize("d", [1, 2, 3])
def test_whole_grids_tie_everywhere(d, never_declines):
    side = {1: 200, 2: 15, 3: 6}[d]
    grid = np.stack(np.meshgrid(*[np.arange(side)] * d), axis=-1).reshape(-1, d).astype(np.float32)
    grid = np.random.default_rng(d).permutation(grid)
    check(grid, grid[::2] + 0.5, ks=(1, 2 * d, 3 * d, 30))
    check(grid, grid, ks=(3, 40))


def test_hundreds_of_ties_at_the_last_place(never_declines):
    # All corners of a cube at the same distance from its centre, and copies of the centre.
    corners = np.stack(np.meshgrid(*[[-1.0, 1.0]] * 7), axis=-1).reshape(-1, 7)
    x = np.vstack([corners, np.zeros((3, 7)), corners[::-1] * 0.5])
    check(x, x[::3], ks=(1, 2, 3, 100))
    circle = np.arange(500) * (2 * np.pi / 500)
    ring = np.column_stack([np.cos(circle), np.sin(circle)])
    check(np.vstack([ring, [[0.0, 0.0]]]), np.zeros((2, 2)), ks=(1, 7))


def test_multiplicities(never_declines):
    rng = families.seeded("multiplicities")
    distinct = rng.standard_normal((40, 3))
    for counts in (
        rng.integers(1, 9, 40),
        np.r_[300, np.ones(39, int)],
        np.r_[np.ones(39, int), 300],
        np.full(40, 20),
    ):
        x = rng.permutation(np.repeat(distinct, counts, axis=0))
        check(x, x[:: max(1, len(x) // 50)] * 1.01, ks=(1, 3, 25))
        check(x, x[::2], ks=(1, 19, 21))


@pytest.mark.parametrize("pairs", [1, 50, 3000])
def test_small_blocks_change_nothing(pairs, monkeypatch, never_declines):
    monkeypatch.setattr(tree, "_BLOCK_PAIRS", pairs)
    monkeypatch.setattr(tree, "_FIRST_BLOCK", 3)
    for family in ("gaussian", "integers", "half_equal"):
        x, y = families.DATA_FAMILIES[family](families.seeded(family), 90, 2, "float32")
        check(x, y, ks=(1, 6))


@pytest.mark.parametrize("exponent", [-1000, -600, -540, -530, -500, -452, -448, 0, 490])
def test_scales_from_vanishing_to_the_limit(exponent, never_declines):
    x, y = families.gaussian(families.seeded("scale"), 60, 3, "float64")
    check(np.ldexp(x, exponent), np.ldexp(y, exponent))
    mixed = x.copy()
    mixed[::2] = np.ldexp(mixed[::2], exponent)
    check(mixed, np.ldexp(y, exponent))


values = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 2.0**-538, 2.0**-537, 1e-160, 2.0**500, 3.0]),
    st.floats(-(2.0**500), 2.0**500, allow_nan=False),
)


@given(
    data=st.data(),
    d=st.integers(1, 4),
    n=st.integers(2, 12),
    m=st.integers(2, 12),
    k=st.integers(1, 12),
)
def test_any_values(data, d, n, m, k):
    x = data.draw(hnp.arrays(np.float64, (n, d), elements=values))
    y = data.draw(hnp.arrays(np.float64, (m, d), elements=values))
    check(x, y, ks=(k,))


def test_the_planner_takes_the_tree_for_large_narrow_sets(monkeypatch):
    assert plan.choose_path(2000, 2000, 4, 5) == "tree"
    assert plan.choose_path(1000, 4000, 1) == "tree"
    assert plan.choose_path(1000, 3000, 1) == "auto"
    assert plan.choose_path(10_000, 40_000, 7, 5) == "tree"
    assert plan.choose_path(10_000, 30_000, 5, 5) == "auto"
    assert plan.choose_path(1000, 1000, 1, 481) == "scan"
    assert plan.choose_path(10**6, 10**6, 8, 5) == "auto"
    assert plan.choose_path(10**6, 10**6, 8, 481) == "scan"
    calls = []
    original = tree.knn
    monkeypatch.setattr(tree, "knn", lambda *a, **o: calls.append(1) or original(*a, **o))
    x, y = families.gaussian(families.seeded("planner"), 2500, 2, "float32")
    found = fastgen.membership(real=x, fake=y, k=3)
    assert len(calls) == 2
    assert_same_bits(found, numpy_reference.membership(real=x, fake=y, k=3))


def test_wide_balls_go_to_the_engine(monkeypatch):
    declined = []
    original = tree._require_few

    def watch(*arguments):
        try:
            return original(*arguments)
        except tree.TooManyPairsError:
            declined.append(1)
            raise

    monkeypatch.setattr(tree, "_require_few", watch)
    x, y = families.gaussian(families.seeded("wide"), 600, 2, "float32")
    wide = np.full((1, 600), 100.0)
    expected = numpy_reference.ball_counts(x, y, wide)
    assert_same_bits(pairwise.ball_counts(x, y, wide, path="tree"), expected)
    assert declined == [1]
    # From afar all distances are nearly equal, and any centre may have the largest ratio.
    far, radii = y + 1e6, wide[0] + np.arange(600)[::-1] * 1e-3
    expected = numpy_reference.sq_realism(x, far, radii)
    assert_same_bits(pairwise.sq_realism(x, far, radii, path="tree"), expected)
    assert declined == [1, 1]


def test_rows_that_differ_by_next_to_nothing_go_to_the_engine():
    x = np.ldexp(families.gaussian(families.seeded("tiny"), 50, 3, "float64")[0], -500)
    assert not groups.suits(groups.Groups(x))
    assert groups.suits(groups.Groups(x), groups.Groups(x + 1))
    assert groups.suits(groups.Groups(np.ones((5, 2))))


def test_groups():
    x = np.array([[2.0, 1], [0.0, 5], [2, 1], [-0.0, 5], [0, 4], [2, 1]], dtype=np.float32)
    found = groups.Groups(x)
    assert_same_bits(found.values, np.array([[0.0, 4], [0, 5], [2, 1]]))
    assert_same_bits(found.members, np.array([4, 1, 3, 0, 2, 5]))
    assert_same_bits(found.starts, np.array([0, 1, 3]))
    assert_same_bits(found.counts, np.array([1, 2, 3]))
    assert_same_bits(found.group_of, np.array([2, 1, 2, 1, 0, 2]))


def test_large_trees_are_built_where_an_interrupt_can_reach(monkeypatch):
    monkeypatch.setattr(groups, "_MANY", 10)
    x, y = families.gaussian(families.seeded("large"), 60, 3, "float64")
    check(x, y)
    with pytest.raises(ZeroDivisionError):
        workers.interruptible(lambda: 1 / 0)


@pytest.mark.parametrize("threads", [1, 2, 3, 50])
@pytest.mark.parametrize("count", [0, 1, 2, 7, 20])
def test_parts_cover_the_rows_in_order(count, threads):
    parts = workers.by_parts(lambda part: list(range(count))[part], count, threads)
    assert len(parts) == max(1, min(count, threads))
    assert sum(parts, []) == list(range(count))  # noqa: RUF017


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_nothing(threads):
    x, y = families.integers(families.seeded("threads"), 300, 3, "float32")
    check(x, y, threads=threads)
