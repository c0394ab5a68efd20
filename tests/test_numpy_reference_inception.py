"""The reference's Inception Score: closed forms, splits, and what it refuses."""

from __future__ import annotations

import math
import re

import families
import numpy as np
import pytest
from checks import assert_same_bits

from fastgen.numpy_reference.inception import inception_score


def some_logits(n: int = 53, c: int = 7):
    return 3 * families.seeded("inception", n, c).standard_normal((n, c))


def softmax(logits):
    terms = np.exp(logits - logits.max(axis=1, keepdims=True))
    return terms / terms.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("c", [1, 2, 10, 1000])
def test_one_hot_rows_of_every_class(c):
    found = inception_score(probabilities=np.tile(np.eye(c), (3, 1)), splits=3)
    assert found.mean == pytest.approx(c, rel=1e-14)
    assert found.std == pytest.approx(0.0, abs=1e-13 * c)
    assert found.sharpness == 0.0
    assert found.diversity == pytest.approx(math.log(c), rel=1e-14)


@pytest.mark.parametrize("c", [1, 2, 10, 1000])
def test_uniform_rows(c):
    for found in (
        inception_score(probabilities=np.full((20, c), 1 / c)),
        inception_score(logits=np.full((20, c), -3.5)),
    ):
        assert 1.0 <= found.mean <= 1 + 1e-13
        assert found.std <= 1e-13
        assert found.sharpness == pytest.approx(math.log(c), rel=1e-14)
        assert found.diversity == pytest.approx(math.log(c), rel=1e-14)


def test_equal_rows_score_one():
    row = softmax(some_logits(1))
    found = inception_score(probabilities=np.repeat(row, 30, axis=0))
    assert found.mean == pytest.approx(1.0, abs=1e-14)
    assert found.sharpness == pytest.approx(found.diversity, rel=1e-14)
    one_class = inception_score(probabilities=np.tile([0.0, 1.0], (5, 1)), splits=5)
    assert (one_class.mean, one_class.std) == (1.0, 0.0)
    assert (one_class.sharpness, one_class.diversity) == (0.0, 0.0)


@pytest.mark.parametrize("splits", [1, 2, 5, 10, 53])
@pytest.mark.parametrize("seed", [None, 0, 2020])
def test_a_literal_loop(splits, seed):
    p = softmax(some_logits())
    n = len(p)
    order = range(n) if seed is None else np.random.default_rng(seed).permutation(n)
    scores = []
    for s in range(splits):
        part = [p[order[i]] for i in range(s * n // splits, (s + 1) * n // splits)]
        marginal = sum(part) / len(part)
        divergences = [math.fsum(row * np.log(row / marginal)) for row in part]
        scores.append(math.exp(sum(divergences) / len(part)))
    mean = sum(scores) / splits
    std = math.sqrt(sum((score - mean) ** 2 for score in scores) / splits)
    for found in (
        inception_score(probabilities=p, splits=splits, seed=seed),
        inception_score(logits=np.log(p) + 5.0, splits=splits, seed=seed),
    ):
        assert found.mean == pytest.approx(mean, rel=1e-13)
        assert found.std == pytest.approx(std, rel=1e-11, abs=1e-13)
        assert found.sharpness == pytest.approx(-np.sum(p * np.log(p)) / n, rel=1e-13)
        q = p.mean(axis=0)
        assert found.diversity == pytest.approx(-np.sum(q * np.log(q)), rel=1e-13)


def test_two_splits_by_hand():
    rows = [[1, 0], [0, 1], [1, 0], [1, 0]]  # scores 2 and 1
    found = inception_score(probabilities=rows, splits=2)
    assert found.mean == pytest.approx(1.5, rel=1e-15)
    assert found.std == pytest.approx(0.5, rel=1e-14)  # divisor 2
    assert found.diversity == pytest.approx(2 * math.log(2) - 0.75 * math.log(3), rel=1e-14)


def test_one_split_is_what_the_halves_make():
    found = inception_score(logits=some_logits(), splits=1)
    assert found.mean == pytest.approx(math.exp(found.diversity - found.sharpness), rel=1e-15)
    assert found.std == 0.0
    for seed in (None, 3):
        again = inception_score(logits=some_logits(), splits=7, seed=seed)
        assert (again.sharpness, again.diversity) == (found.sharpness, found.diversity)


def test_extreme_logits():
    found = inception_score(logits=[[1e300, 0.0, -1e300], [0.0, 1e4, -1e4]], splits=1)
    assert found.mean == pytest.approx(2.0, rel=1e-15)
    assert found.sharpness == 0.0


def test_any_dtype():
    whole = np.round(some_logits()).clip(-9, 9)
    expected = inception_score(logits=whole, seed=1)
    for dtype in ("float16", "float32", "int8"):
        assert_same_bits(inception_score(logits=whole.astype(dtype), seed=1), expected)
    p = softmax(some_logits(50, 300))
    expected = inception_score(probabilities=p)
    for dtype, tolerance in (("float16", 5e-3), ("float32", 1e-6)):
        found = inception_score(probabilities=p.astype(dtype))
        assert found.mean == pytest.approx(expected.mean, rel=tolerance)


def test_inputs_are_left_alone():
    logits = some_logits()
    before = logits.copy()
    inception_score(logits=logits, seed=0)
    assert_same_bits(logits, before)


HALVES = [[0.5, 0.5], [0.5, 0.5]]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "`logits` or `probabilities`, got none"),
        ({"logits": HALVES, "probabilities": HALVES}, "`logits` or `probabilities`, got both"),
        ({"logits": [0.5]}, "`logits` of shape (n, c), n and c at least 1, got (1,)"),
        ({"logits": np.empty((0, 3))}, "`logits` of shape (n, c), n and c at least 1, got (0, 3)"),
        ({"logits": [[0.0, math.nan]]}, "`logits` to be finite, got nan"),
        ({"probabilities": [[math.inf, 0.0]]}, "`probabilities` to be finite, got inf"),
        ({"probabilities": [[1.5, -0.5]]}, "`probabilities` of at least 0, got -0.5"),
        (
            {"probabilities": [[1.0, 0.0], [0.5, 0.25]]},
            "`probabilities` with rows that add up to 1, got 0.75 in row 1",
        ),
        ({"probabilities": HALVES}, "`splits` in [1, 2], got 10"),
        ({"logits": HALVES, "splits": 0}, "`splits` in [1, 2], got 0"),
    ],
)
def test_errors(arguments, text):
    text = f"inception_score: expected {text}"
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        inception_score(**arguments)
