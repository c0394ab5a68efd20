"""Bad input to the Inception Score and its state, which a failed call leaves as it was."""

from __future__ import annotations

import copy
import math
import re

import numpy as np
import pytest
from checks import assert_same_bits
from test_inception import softmax, some_logits, use_small_blocks

from fastgen import BackendUnavailableError
from fastgen.metrics.inception import InceptionScoreState, inception_score

HALVES = np.full((2, 2), 0.5)
ONE_OFF = np.array([[1.0, 0.0], [0.5, 0.25]])
SUM_HINT = "; answers before the softmax are `logits`"
ROWS_HINT = "; without it nobody knows where a split ends"
MASK_HINT = "; for a class that is ruled out take a number such as -1e9"


def with_value(value, row, column):
    rows = HALVES.copy()
    rows[row, column] = value
    return rows


BAD_ROWS = [
    ({}, "`logits` or `probabilities`, got none"),
    ({"logits": HALVES, "probabilities": HALVES}, "`logits` or `probabilities`, got both"),
    (
        {"logits": np.ones(3)},
        "`logits` of shape (n, d), got shape (3,); a single feature is logits.reshape(-1, 1)",
    ),
    (
        {"probabilities": np.empty((0, 2))},
        "`probabilities` with at least one row and one column, got shape (0, 2)",
    ),
    (
        {"logits": with_value(math.nan, 1, 0)},
        f"`logits` to be finite, got nan in row 1, column 0{MASK_HINT}",
    ),
    (
        {"logits": with_value(math.inf, 0, 1).astype("float16")},
        f"`logits` to be finite, got inf in row 0, column 1{MASK_HINT}",
    ),
    (
        {"logits": with_value(-math.inf, 1, 1).astype("float32")},
        f"`logits` to be finite, got -inf in row 1, column 1{MASK_HINT}",
    ),
    (
        {"probabilities": with_value(math.nan, 0, 1)},
        "`probabilities` to be finite, got nan in row 0, column 1",
    ),
    (
        {"probabilities": with_value(math.inf, 1, 0)},
        "`probabilities` to be finite, got inf in row 1, column 0",
    ),
    (
        {"probabilities": with_value(-math.inf, 1, 0)},
        "`probabilities` to be finite, got -inf in row 1, column 0",
    ),
    (
        {"probabilities": np.array([[0.5, 0.5], [1.5, -0.5]])},
        "`probabilities` of at least 0, got -0.5 in row 1, column 1",
    ),
    (
        {"probabilities": ONE_OFF},
        f"`probabilities` with rows that add up to 1 to within 0.001, got 0.75 in row 1{SUM_HINT}",
    ),
    (
        {"probabilities": np.full((1, 2), 1e308)},
        f"`probabilities` with rows that add up to 1 to within 0.001, got inf in row 0{SUM_HINT}",
    ),
]


@pytest.mark.parametrize(("arguments", "text"), BAD_ROWS)
def test_bad_rows(arguments, text):
    for threads in (1, 2):
        with pytest.raises(ValueError, match=f"^inception_score: expected {re.escape(text)}$"):
            inception_score(**arguments, splits=1, threads=threads)
    state = InceptionScoreState(2)
    state.update(probabilities=HALVES)
    before = copy.deepcopy(state)
    text = f"InceptionScoreState.update: expected {text}"
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        state.update(**arguments)
    assert_same_bits(state.compute(), before.compute())
    assert state.count == 2


@pytest.mark.parametrize("seed", [None, 0])
def test_the_first_bad_row_is_named_wherever_it_is(monkeypatch, seed):
    use_small_blocks(monkeypatch)
    rows = np.repeat([[1.0, 0, 0, 0, 0, 0, 0]], 60, axis=0)
    for row in (0, 13, 59):
        bad = rows.copy()
        bad[row:, 3] = math.nan
        for splits, threads in ((1, 1), (10, 2)):
            for kind in ("logits", "probabilities"):
                with pytest.raises(ValueError, match=f"got nan in row {row}, column 3"):
                    inception_score(**{kind: bad}, splits=splits, seed=seed, threads=threads)


def test_a_batch_that_fails_late_changes_nothing(monkeypatch):
    use_small_blocks(monkeypatch)
    rows = softmax(some_logits())
    state = InceptionScoreState(7, splits=4, rows=53)
    state.update(probabilities=rows[:10])
    bad = rows[10:].copy()
    bad[-1, 0] = -1.0
    with pytest.raises(ValueError, match=r"got -1\.0 in row 42, column 0"):
        state.update(probabilities=bad)
    assert state.count == 10
    state.update(probabilities=rows[10:])
    assert_same_bits(state.compute(), inception_score(probabilities=rows, splits=4))


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"splits": 0}, ValueError, "`splits` in [1, n] = [1, 2], got 0"),
        ({"splits": 3}, ValueError, "`splits` in [1, n] = [1, 2], got 3"),
        ({}, ValueError, "`splits` in [1, n] = [1, 2], got 10"),
        ({"splits": 1.0}, TypeError, "`splits` to be an int, got float 1.0"),
        ({"splits": True}, TypeError, "`splits` to be an int, got bool True"),
        (
            {"splits": 1, "seed": -1},
            ValueError,
            "`seed` to be an int of at least 0, or None, got -1",
        ),
        (
            {"splits": 1, "seed": "0"},
            TypeError,
            "`seed` to be an int of at least 0, or None, got str '0'",
        ),
        ({"threads": 0}, ValueError, "`threads` of at least 1, got 0"),
        (
            {"device": "tpu"},
            ValueError,
            '`device` to be "cpu", "cuda", "cuda:0", "cuda:all" or None, got \'tpu\'',
        ),
    ],
)
def test_bad_options(options, error, text):
    with pytest.raises(error, match=f"^inception_score: expected {re.escape(text)}$"):
        inception_score(probabilities=HALVES, **options)


def test_a_gpu_that_no_library_sees(monkeypatch):
    reasons = "torch 9.9 sees no GPU, CuPy is not installed"
    monkeypatch.setattr("fastgen.library_devices.first_gpu", lambda index: reasons)
    text = f"inception_score: expected `device` \"cpu\" or None, got 'cuda'; {reasons}"
    with pytest.raises(BackendUnavailableError, match=f"^{re.escape(text)}$"):
        inception_score(probabilities=HALVES, device="cuda")


def test_lists_are_refused():
    text = "inception_score: expected `logits` to be an array of shape (n, d) or the path of one"
    with pytest.raises(TypeError, match=f"^{re.escape(text)}, got list; pass np.asarray"):
        inception_score(logits=HALVES.tolist())


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"classes": 0}, ValueError, "`classes` of at least 1, got 0"),
        ({"classes": 2.0}, TypeError, "`classes` to be an int, got float 2.0"),
        ({"classes": 2, "splits": 0}, ValueError, "`splits` of at least 1, got 0"),
        (
            {"classes": 2, "splits": 2},
            ValueError,
            f"`rows` to be an int for more than one split, got None{ROWS_HINT}",
        ),
        (
            {"classes": 2, "rows": "4"},
            TypeError,
            "`rows` to be an int or None, got str '4'",
        ),
        (
            {"classes": 2, "splits": 3, "rows": 2},
            ValueError,
            "`rows` of at least `splits` and below 2^31, got 2",
        ),
        (
            {"classes": 2, "rows": 2**31},
            ValueError,
            "`rows` of at least `splits` and below 2^31, got 2147483648",
        ),
        ({"classes": 2, "start": -1}, ValueError, "`start` in [0, 2147483647], got -1"),
        ({"classes": 2, "rows": 5, "start": 6}, ValueError, "`start` in [0, 5], got 6"),
    ],
)
def test_bad_states(options, error, text):
    with pytest.raises(error, match=f"^InceptionScoreState: expected {re.escape(text)}$"):
        InceptionScoreState(**options)


def test_updates_that_do_not_fit():
    name, state = "InceptionScoreState.update", InceptionScoreState(2, rows=3)
    state.update(probabilities=HALVES)
    for rows, text in (
        (np.ones((2, 3)), "`logits` with 2 columns, got shape (2, 3)"),
        (HALVES, "`logits` with at most 1 more rows, got shape (2, 2)"),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(f'{name}: expected {text}')}$"):
            state.update(logits=rows)
        assert state.count == 2
    state.update(probabilities=HALVES[:1])
    assert state.compute().mean == 1.0


def test_merges_that_do_not_fit():
    name = "InceptionScoreState.merge: expected `other`"
    state = InceptionScoreState(2, splits=2, rows=3)
    state.update(probabilities=HALVES)
    full = InceptionScoreState(2, splits=2, rows=3)
    full.update(probabilities=HALVES)
    for other, text in (
        (InceptionScoreState(3, splits=2, rows=3), "with classes 2, got 3"),
        (InceptionScoreState(2, rows=3), "with splits 2, got 1"),
        (InceptionScoreState(2, splits=2, rows=4), "with rows 3, got 4"),
        (state, "to be another state, got the same one"),
        (full, "with rows up to 3 in all, got 2 after 2"),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(f'{name} {text}')}$"):
            state.merge(other)
        assert state.count == 2
    with pytest.raises(TypeError, match=f"^{name} to be an InceptionScoreState, got list$"):
        state.merge([])


def test_scores_that_are_not_complete():
    def fails(text):
        text = f"InceptionScoreState.compute: expected `count` {text}"
        return pytest.raises(ValueError, match=f"^{re.escape(text)}$")

    empty = InceptionScoreState(2)
    with fails("of at least 1, got 0"):
        empty.compute()
    state = InceptionScoreState(2, splits=2, rows=4)
    state.update(probabilities=HALVES)
    with fails("to be `rows` = 4, got 2"):
        state.compute()
    again = InceptionScoreState(2, splits=2, rows=4)
    again.update(probabilities=HALVES)
    state.merge(again)
    with fails("of 2 in split 0, got 4; states that are merged need the right `start`"):
        state.compute()
