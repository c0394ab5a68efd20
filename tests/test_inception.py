"""Inception Score: closed forms, the reference, one set of bits however rows come.

Bad input is in test_errors_inception.py.
"""

from __future__ import annotations

import itertools
import math
import re
import tracemalloc

import families
import numpy as np
import pytest
from checks import assert_same_bits
from hypothesis import given
from hypothesis import strategies as st

from fastgen import answers
from fastgen import numpy_reference as reference
from fastgen.metrics.inception import InceptionScoreState, inception_score


def some_logits(n: int = 53, c: int = 7, dtype: str = "float64"):
    return (3 * families.seeded("logits", n, c).standard_normal((n, c))).astype(dtype)


def softmax(logits):
    terms = np.exp(logits - logits.max(axis=1, keepdims=True))
    return terms / terms.sum(axis=1, keepdims=True)


def assert_close(found, expected, n, c):
    """Compare within what the two say of their errors; scores by their logarithms."""
    error = 2.0**-52 * (n + c) * math.log(c) + stated_error(c)
    assert found.sharpness == pytest.approx(expected.sharpness, rel=0, abs=error)
    assert found.diversity == pytest.approx(expected.diversity, rel=0, abs=error)
    assert found.mean == pytest.approx(expected.mean, rel=2 * error + 1e-15)
    assert found.std == pytest.approx(expected.std, rel=0, abs=(4 * error + 4e-15) * expected.mean)


def stated_error(c):
    return 2.0**-46 * (1 + math.log(c)) ** 2 + 2.0**-58 * c


# --- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("c", [1, 2, 5, 10, 1000])
def test_sure_answers_of_every_class_score_their_number(c):
    rows = np.tile(np.eye(c), (3, 1))
    for found in (
        inception_score(probabilities=rows, splits=3),
        inception_score(logits=1e4 * rows, splits=3),
    ):
        assert found.mean == pytest.approx(c, rel=1e-14)
        assert found.mean <= c
        assert found.std == 0.0
        assert found.sharpness == 0.0
        assert found.diversity == pytest.approx(math.log(c), rel=1e-15)


@pytest.mark.parametrize("c", [1, 2, 10, 1000])
def test_uniform_answers_score_one(c):
    for found in (
        inception_score(probabilities=np.full((20, c), 1 / c)),
        inception_score(logits=np.full((20, c), -3.5)),
    ):
        assert 1.0 <= found.mean <= 1 + 1e-14
        assert found.std <= 1e-14
        assert found.sharpness == pytest.approx(math.log(c), rel=1e-14)
        assert found.diversity == pytest.approx(math.log(c), rel=1e-14)


def test_two_splits_by_hand():
    rows = np.array([[1, 0], [0, 1], [1, 0], [1, 0]])  # integers; scores 2 and 1
    found = inception_score(probabilities=rows, splits=2)
    assert (found.mean, found.std, found.sharpness) == (1.5, 0.5, 0.0)  # divisor 2
    assert found.diversity == pytest.approx(2 * math.log(2) - 0.75 * math.log(3), rel=1e-15)


@pytest.mark.parametrize("splits", [1, 2, 5, 10, 53])
@pytest.mark.parametrize("seed", [None, 0, 2020])
def test_agrees_with_the_reference(splits, seed):
    logits = some_logits()
    for given_rows in ({"logits": logits}, {"probabilities": softmax(logits)}):
        found = inception_score(**given_rows, splits=splits, seed=seed)
        assert_close(
            found, reference.inception_score(**given_rows, splits=splits, seed=seed), 53, 7
        )


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8"])
@pytest.mark.parametrize(("n", "c"), [(3000, 1000), (5000, 3), (12, 20_000)])
def test_agrees_with_the_reference_in_every_dtype(n, c, dtype):
    logits = some_logits(n, c).clip(-99, 99).astype(dtype)
    found = inception_score(logits=logits, splits=4)
    assert_close(found, reference.inception_score(logits=logits, splits=4), n, c)


@pytest.mark.parametrize("c", [2, 30, 1000])
def test_the_stated_error_holds(c):
    mpmath = pytest.importorskip("mpmath")
    logits = np.abs(some_logits(6, c)) ** 3  # some answers are sure, some are not
    with mpmath.workdps(40):
        rows = [[mpmath.exp(mpmath.mpf(float(z))) for z in row] for row in logits]
        rows = [[term / mpmath.fsum(row) for term in row] for row in rows]
        means = [mpmath.fsum(column) / len(rows) for column in zip(*rows, strict=True)]
        entropies = [-mpmath.fsum(p * mpmath.log(p) for p in row) for row in (*rows, means)]
        sharpness = mpmath.fsum(entropies[:-1]) / len(rows)
        found = inception_score(logits=logits, splits=1)
        assert abs(found.sharpness - sharpness) <= stated_error(c)
        assert abs(found.diversity - entropies[-1]) <= stated_error(c)
        assert abs(mpmath.log(found.mean) - (entropies[-1] - sharpness)) <= stated_error(c)


def test_rows_are_divided_by_their_sum():
    p = softmax(some_logits())
    scales = 1 + families.seeded("scales").uniform(-9e-4, 9e-4, (53, 1))
    found = inception_score(probabilities=p * scales)
    assert_close(found, inception_score(probabilities=p), 53, 7)
    half = softmax(some_logits(50, 300)).astype("float16")  # sums are off by some 1e-4
    expected = inception_score(probabilities=half.astype(float))
    assert_same_bits(inception_score(probabilities=half), expected)


def test_what_logits_have_in_common_does_not_matter():
    logits = np.round(some_logits() * 64) / 64
    shifts = 2.0 ** np.arange(53)[:, np.newaxis] % 2**40
    assert_same_bits(inception_score(logits=logits + shifts), inception_score(logits=logits))


def test_extreme_logits():
    largest = np.finfo(np.float64).max
    rows = np.array([[1e300, 0.0, -1e300], [0.0, 1e4, -1e4], [-largest, -largest, largest]])
    found = inception_score(logits=rows, splits=1)
    assert (found.mean, found.sharpness) == (pytest.approx(3.0, rel=1e-15), 0.0)
    ruled_out = np.hstack([some_logits(), np.full((53, 2), -1e300)])
    expected = inception_score(logits=some_logits())
    assert_close(inception_score(logits=ruled_out), expected, 53, 9)


def test_tiny_probabilities():
    tiny = np.array([[1.0, 5e-324, 0.0], [1.0, 1e-300, -0.0]])
    with np.errstate(all="raise"):  # whatever the caller wants of NumPy
        for found in (
            inception_score(probabilities=tiny, splits=1),
            inception_score(logits=1000 * tiny - 700, splits=1),
        ):
            assert found.to_dict() == {"mean": 1, "std": 0, "sharpness": 0, "diversity": 0}


# --- one set of bits ------------------------------------------------------------------------------


def use_small_blocks(monkeypatch):
    """Take blocks of 4 rows of 7 classes, of which a thread gets 3 at a time."""
    monkeypatch.setattr(answers, "_BLOCK_BYTES", 8 * 7 * 4)
    monkeypatch.setattr(answers, "_BLOCKS", 3)


@pytest.mark.parametrize("seed", [None, 5])
@pytest.mark.parametrize("splits", [1, 3, 53])
@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_neither_threads_nor_blocks_change_a_bit(monkeypatch, seed, splits, kind):
    rows = some_logits(dtype="float32") if kind == "logits" else softmax(some_logits())
    expected = inception_score(**{kind: rows}, splits=splits, seed=seed, threads=1)
    use_small_blocks(monkeypatch)
    for threads in (1, 2, 3):
        found = inception_score(**{kind: rows}, splits=splits, seed=seed, threads=threads)
        assert_same_bits(found, expected)


@pytest.mark.parametrize("seed", [None, 5])
def test_many_splits_are_summed_some_at_a_time(monkeypatch, seed):
    use_small_blocks(monkeypatch)
    rows = some_logits()
    expected = inception_score(logits=rows, splits=20, seed=seed)
    monkeypatch.setattr(answers, "TOTALS_BYTES", 16 * 8 * 3)  # 3 splits
    assert_same_bits(inception_score(logits=rows, splits=20, seed=seed), expected)


def test_the_order_of_rows_matters_for_splits_only():
    rows = some_logits()
    expected = inception_score(logits=rows, splits=1)
    order = families.seeded("order").permutation(len(rows))
    assert_same_bits(inception_score(logits=rows[order], splits=1), expected)
    for seed in (None, 0, 1):
        found = inception_score(logits=rows, splits=7, seed=seed)
        assert (found.sharpness, found.diversity) == (expected.sharpness, expected.diversity)


def test_a_seed_is_a_permutation():
    rows = some_logits()
    order = np.random.default_rng(11).permutation(len(rows))
    expected = inception_score(logits=rows[order], splits=6)
    assert_same_bits(inception_score(logits=rows, splits=6, seed=11), expected)
    assert inception_score(logits=rows, splits=6, seed=12).std != expected.std
    assert inception_score(logits=rows, splits=6).std != expected.std


@st.composite
def cuts(draw):
    """Rows, splits, and the batches and states that the rows are cut into."""
    n, c = draw(st.integers(1, 40)), draw(st.integers(1, 20))
    splits = draw(st.integers(1, n))
    places = st.lists(st.integers(1, max(1, n - 1)), unique=True, max_size=6)
    batches = sorted({0, n, *(place for place in draw(places) if place < n)})
    states = sorted({0, *draw(st.lists(st.sampled_from(batches[:-1]), max_size=3))})
    order = draw(st.permutations(states))
    return n, c, splits, batches, states, order, draw(st.sampled_from(["float16", "float64"]))


@given(cuts())
def test_batches_and_states_change_no_bit(cut):
    n, c, splits, batches, states, order, dtype = cut
    rows = some_logits(n, c, dtype)
    parts = {}
    for start, stop in itertools.pairwise(batches):
        if start in states:
            state = InceptionScoreState(c, splits=splits, rows=n, start=start)
            parts[start] = state
        state.update(logits=rows[start:stop])
    whole = parts[order[0]]
    for start in order[1:]:
        whole.merge(parts[start])
    assert whole.count == n
    assert_same_bits(whole.compute(), inception_score(logits=rows, splits=splits))


def test_a_state_of_one_split_takes_any_number_of_rows():
    rows, state = some_logits(), InceptionScoreState(7)
    for stop in (1, 20, 53):
        state.update(probabilities=softmax(rows[state.count : stop]))
        expected = inception_score(probabilities=softmax(rows[:stop]), splits=1)
        assert_same_bits(state.compute(), expected)
    assert (state.classes, state.count) == (7, 53)


def test_a_state_takes_logits_and_probabilities():
    rows, state = some_logits(), InceptionScoreState(7)
    state.update(logits=rows[:30])
    state.update(probabilities=softmax(rows[30:]))
    assert_close(state.compute(), inception_score(logits=rows, splits=1), 53, 7)


def test_merging_leaves_the_other_state_alone():
    first, second = InceptionScoreState(7), InceptionScoreState(7)
    first.update(logits=some_logits())
    second.update(logits=some_logits(9))
    before = second.compute()
    first.merge(second)
    first.update(logits=some_logits(5))
    assert_same_bits(second.compute(), before)
    assert (first.count, second.count) == (67, 9)


# --- inputs ---------------------------------------------------------------------------------------


def test_files_tensors_and_views_give_the_same_bits(tmp_path):
    torch = pytest.importorskip("torch")
    rows = some_logits(dtype="float32")
    expected = inception_score(logits=rows)
    path = tmp_path / "logits.npy"
    np.save(path, rows)
    for same in (path, str(path), np.load(path, mmap_mode="r"), np.asfortranarray(rows)):
        assert_same_bits(inception_score(logits=same), expected)
    tensor = torch.from_numpy(rows.copy()).requires_grad_()
    assert_same_bits(inception_score(logits=tensor), expected)
    state = InceptionScoreState(7, splits=10, rows=53)
    state.update(logits=tensor[:20])
    state.update(logits=tensor[20:])
    assert_same_bits(state.compute(), expected)
    halves = tensor.bfloat16()
    expected = inception_score(logits=halves.float())
    assert_same_bits(inception_score(logits=halves), expected)


def test_inputs_are_left_alone():
    for kind, rows in (("logits", some_logits()), ("probabilities", softmax(some_logits()))):
        before = rows.copy()
        rows.flags.writeable = False
        inception_score(**{kind: rows}, seed=0)
        assert_same_bits(rows, before)


def test_memory_does_not_grow_with_an_array_of_float64(monkeypatch):
    monkeypatch.setattr(answers, "_BLOCK_BYTES", 64 << 10)
    rows = some_logits(20_000, 100, "float32")
    inception_score(logits=rows[:10])  # imports
    for seed in (None, 0):
        tracemalloc.start()
        try:
            inception_score(logits=rows, seed=seed, threads=1)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 40 * len(rows) + 22 * (64 << 10)  # as `answers.require_memory` counts


def test_progress_rises_to_one(monkeypatch):
    use_small_blocks(monkeypatch)
    told = []
    inception_score(logits=some_logits(), threads=1, progress=told.append)
    assert told == sorted(told)
    assert len(told) == 5  # of 12 rows
    assert told[-1] == 1.0


def test_a_budget_that_the_message_names_is_enough():
    rows = some_logits()
    with pytest.raises(
        ValueError, match=r"^inception_score: expected `memory` of at least"
    ) as info:
        inception_score(logits=rows, memory=1000)
    enough = re.search(r'memory="(\w+)"', str(info.value))[1]
    assert_same_bits(inception_score(logits=rows, memory=enough), inception_score(logits=rows))
