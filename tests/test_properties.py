"""Properties that hold for any input, on small inputs that Hypothesis makes up.

Rows are drawn from a small pool, so that duplicates and exact ties are common, and their values
from all that the dtype holds: zeros of both signs, subnormals, the largest magnitudes, and small
integers among them. Every example chooses its own instruction set, path and number of threads.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
import pytest
from checks import Array, assert_same_bits
from families import LIMIT
from hypothesis import example, given, settings
from hypothesis import strategies as st

import fastgen
from fastgen import numpy_reference as reference
from fastgen import pairwise

core = pytest.importorskip("fastgen._core", reason="the compiled module has to be built")

DTYPES = ("float16", "float32", "float64")
TREE_BELOW = 8
ties_rules = st.sampled_from(["closed", "open"])


class Sets(NamedTuple):
    """Two sets of one width."""

    real: Array
    fake: Array

    def __repr__(self) -> str:  # what Hypothesis prints has to run again
        real, fake = self.real, self.fake
        return (
            f"Sets(np.array({real.tolist()}, {real.dtype.str!r}), "
            f"np.array({fake.tolist()}, {fake.dtype.str!r}))"
        )


def numbers(dtype: str) -> st.SearchStrategy[float]:
    """Values of a dtype: round ones, small ones, and any others up to the accepted limit."""
    width = 8 * np.dtype(dtype).itemsize
    limit = LIMIT[dtype]
    return st.one_of(
        st.integers(-3, 3).map(float),
        st.sampled_from([0.0, -0.0, limit, -limit, float(np.finfo(dtype).smallest_subnormal)]),
        st.floats(-1, 1, width=width),
        st.floats(-limit, limit, width=width),
    )


@st.composite
def sets(draw: st.DrawFn, least: int = 2, most: int = 12, dtypes: Any = DTYPES) -> Sets:
    """Draw two sets of `least` to `most` rows out of one pool of rows."""
    dtype = draw(st.sampled_from(dtypes))
    d = draw(st.one_of(st.integers(1, 9), st.sampled_from([15, 16, 17, 31, 32, 33, 40, 65])))
    values = draw(st.sampled_from([numbers(dtype), st.integers(-3, 3).map(float)]))
    row = st.lists(values, min_size=min(d, 9), max_size=min(d, 9))
    pool = np.array(draw(st.lists(row, min_size=1, max_size=most)), dtype=dtype)
    pool = np.tile(pool, (1, -(-d // pool.shape[1])))[:, :d]
    places = st.lists(st.integers(0, len(pool) - 1), min_size=least, max_size=most)
    return Sets(*(np.ascontiguousarray(pool[draw(places)]) for _ in range(2)))


@st.composite
def ways(draw: st.DrawFn) -> dict[str, Any]:
    """Draw how the engine is to work; the tree only stands in where the width allows it."""
    return {
        "isa": draw(st.sampled_from(core.instruction_sets())),
        "path": draw(st.sampled_from([None, "int8", "float32", "scan", "tree"])),
        "threads": draw(st.integers(1, 4)),
    }


def fit(how: dict[str, Any], d: int) -> dict[str, Any]:
    """Take the tree back where the rows are too wide for it."""
    return how | {"path": None} if how["path"] == "tree" and d >= TREE_BELOW else how


@settings(max_examples=400)
@given(sets(), ways(), st.data())
@example(Sets(np.array([[0.0], [1e-320]]), np.array([[5e-324], [2.0**500]])), {}, None)
def test_neighbours_are_the_references(pair, how, data):
    real, fake = pair
    how = fit({"path": None} | how, real.shape[1])
    k = data.draw(st.integers(1, len(real) - 1)) if data else 1
    found = pairwise.sq_knn(real, k=k, indices=True, **how)
    assert_same_bits(found, reference.sq_nearest(real, k=k))
    k = data.draw(st.integers(1, len(fake))) if data else 2
    found = pairwise.sq_knn(real, fake, k=k, indices=True, **how)
    assert_same_bits(found, reference.sq_nearest(real, fake, k=k))


@settings(max_examples=400)
@given(sets(least=1), ways(), ties_rules, st.data())
def test_balls_are_the_references(pair, how, ties, data):
    real, fake = pair
    how = fit(how, real.shape[1])
    # Radii that are distances of the data put points on the edge, and just off it.
    squares = np.unique(reference.sq_distances(real, fake))
    squares = np.concatenate([squares, np.nextafter(squares, np.inf), np.nextafter(squares, 0)])
    families = data.draw(st.integers(1, 3))

    def radii(size: int) -> Array:
        indices = st.lists(
            st.integers(0, len(squares) - 1), min_size=families * size, max_size=families * size
        )
        return squares[data.draw(indices)].reshape(families, size)

    real_radii, fake_radii = radii(len(real)), radii(len(fake))
    found = pairwise.ball_counts(real, fake, real_radii, fake_radii, ties=ties, **how)
    assert_same_bits(found, reference.ball_counts(real, fake, real_radii, fake_radii, ties))
    kept = np.where(data.draw(st.integers(0, 1)) == np.arange(len(real)) % 2, real_radii[0], np.nan)
    if not np.isnan(kept).all():
        found = pairwise.sq_realism(real, fake, kept, **how)
        assert_same_bits(found, reference.sq_realism(real, fake, kept))


@settings(max_examples=400)
@given(sets(), st.integers(1, 4), ties_rules, st.data())
def test_metrics_are_the_references(pair, threads, ties, data):
    real, fake = pair
    most = min(len(real), len(fake)) - 1
    ks = data.draw(st.lists(st.integers(1, most), min_size=1, max_size=3))
    how: dict[str, Any] = {"real": real, "fake": fake, "k": ks, "ties": ties}
    for name in ("prdc", "precision_recall", "membership"):
        ours = getattr(fastgen, name)(**how, threads=threads)
        assert_same_bits(ours, getattr(reference, name)(**how), name)
    assert_same_bits(fastgen.knn_radii(real, k=ks), reference.knn_radii(real, k=ks))
    assert_same_bits(fastgen.nearest(fake, real, k=ks), reference.nearest(fake, real, k=ks))


@given(sets(), st.data())
def test_more_neighbours_and_closed_balls_never_hold_less(pair, data):
    real, fake = pair
    most = min(len(real), len(fake)) - 1
    ks = sorted(data.draw(st.lists(st.integers(1, most), min_size=2, max_size=3)))
    radii = fastgen.knn_radii(real, k=ks)
    for smaller, larger in itertools.pairwise(radii):
        assert (smaller <= larger).all()
    for ties in ("closed", "open"):
        found = fastgen.prdc(real=real, fake=fake, k=ks, ties=ties)
        for less, more in itertools.pairwise(found):
            assert less.precision <= more.precision
            assert less.recall <= more.recall
            assert less.coverage <= more.coverage
    closed = fastgen.membership(real=real, fake=fake, k=ks[0])
    opened = fastgen.membership(real=real, fake=fake, k=ks[0], ties="open")
    assert (opened.fake_counts <= closed.fake_counts).all()
    assert (opened.real_in_fake <= closed.real_in_fake).all()
    assert_same_bits(opened.realism, closed.realism)
    assert ((closed.realism >= 1) <= closed.fake_in_real).all()


@given(sets(), ways(), st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter(pair, how, random):
    real, fake = pair
    how = fit(how, real.shape[1])
    k = min(len(real), len(fake)) - 1
    order = random.sample(range(len(real)), len(real))
    other = random.sample(range(len(fake)), len(fake))
    sq, _ = pairwise.sq_knn(real, k=k, **how)
    shuffled, _ = pairwise.sq_knn(np.ascontiguousarray(real[order]), k=k, **how)
    assert_same_bits(shuffled, sq[order])
    straight = fastgen.membership(real=real, fake=fake, k=k)
    shuffled = fastgen.membership(real=real[order], fake=fake[other], k=k)
    assert_same_bits(shuffled.fake_counts, straight.fake_counts[other])
    assert_same_bits(shuffled.real_in_fake, straight.real_in_fake[order])
    assert_same_bits(shuffled.realism, straight.realism[other])


@given(sets(), ties_rules, st.data())
def test_roles_swap(pair, ties, data):
    real, fake = pair
    k = data.draw(st.integers(1, min(len(real), len(fake)) - 1))
    there = fastgen.precision_recall(real=real, fake=fake, k=k, ties=ties)
    back = fastgen.precision_recall(real=fake, fake=real, k=k, ties=ties)
    assert (there.precision, there.recall) == (back.recall, back.precision)
    assert there.f_score == back.f_score


@given(sets(), ways(), st.integers(1, 40))
def test_features_of_zero_change_nothing(pair, how, width):
    real, fake = pair
    how = fit(how, real.shape[1] + width)
    wide = [np.pad(rows, ((0, 0), (0, width))) for rows in pair]
    k = len(real) - 1
    assert_same_bits(
        pairwise.sq_knn(wide[0], k=k, indices=True, **how),
        reference.sq_nearest(real, k=k),
    )
    assert_same_bits(
        fastgen.membership(real=wide[0], fake=wide[1], k=1),
        reference.membership(real=real, fake=fake, k=1),
    )


@given(sets(dtypes=["float32"]), ways(), st.integers(-200, 200))
def test_powers_of_two_scale_exactly(pair, how, power):
    # Any float32 set, in float64 and scaled, squares to numbers that float64 holds exactly scaled.
    real, fake = (rows.astype(np.float64) for rows in pair)
    how = fit(how, real.shape[1])
    scaled = np.ldexp(real, power)
    sq, rows = pairwise.sq_knn(scaled, k=1, indices=True, **how)
    expected, nearest = reference.sq_nearest(real, k=1)
    assert_same_bits((sq, rows), (np.ldexp(expected, 2 * power), nearest))
    there = fastgen.prdc(real=real, fake=fake, k=1)
    assert fastgen.prdc(real=scaled, fake=np.ldexp(fake, power), k=1) == there


@given(sets(), ways())
def test_a_set_and_its_copy(pair, how):
    real = pair.real
    how = fit(how, real.shape[1])
    found = fastgen.prdc(real=real, fake=real.copy(), k=1)
    assert (found.precision, found.recall, found.coverage) == (1.0, 1.0, 1.0)
    assert found.density >= 1.0
    sq, rows = pairwise.sq_knn(real, real.copy(), k=1, indices=True, **how)
    assert not sq.any()
    firsts = [next(j for j, y in enumerate(real) if (x == y).all()) for x in real]
    assert rows[:, 0].tolist() == firsts or _vanishing(real)


def _vanishing(rows: Array) -> bool:
    """Tell whether some different rows are at distance 0: their squares underflow."""
    sq = reference.sq_distances(rows, rows)
    equal = (rows[:, np.newaxis] == rows[np.newaxis]).all(axis=2)
    return bool(((sq == 0) & ~equal).any())


@settings(max_examples=50)
@given(sets(most=6), st.integers(2, 60), ways(), ties_rules)
def test_repeated_sets_count_with_multiplicity(pair, repeats, how, ties):
    real, fake = pair
    how = fit(how, real.shape[1])
    many = np.ascontiguousarray(np.repeat(fake, repeats, axis=0))
    radii = np.array(reference.sq_knn_radii(real, [1]))
    single = reference.ball_counts(real, fake, radii, ties=ties)
    found = pairwise.ball_counts(real, many, radii, ties=ties, **how)
    assert_same_bits(found["y_in_x"], repeats * single["y_in_x"])
    assert_same_bits(found["x_balls_of_y"], np.repeat(single["x_balls_of_y"], repeats, axis=1))
    assert_same_bits(
        pairwise.sq_knn(many, k=repeats, indices=True, **how),
        reference.sq_nearest(many, k=repeats),
    )
