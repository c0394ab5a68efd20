"""Inception Score on a device: the definition and the errors of the CPU, one set of bits."""

from __future__ import annotations

import itertools
import math
import re

import numpy as np
import pytest
from checks import assert_same_bits
from families import seeded
from library_arrays import library
from test_inception import assert_close, softmax, some_logits, stated_error

from fastgen import InceptionScoreState, device_answers, inception_score
from fastgen import numpy_reference as reference

__all__ = ["library"]  # a fixture

KINDS = {"logits": lambda logits: logits, "probabilities": softmax}


def use_small_blocks(monkeypatch):
    """Take blocks of 4 rows of 7 classes."""
    monkeypatch.setattr(device_answers, "BLOCK_BYTES", 8 * 8 * 4)


@pytest.mark.parametrize("splits", [1, 2, 5, 53])
@pytest.mark.parametrize("seed", [None, 2020])
@pytest.mark.parametrize("kind", KINDS)
def test_agrees_with_the_reference_and_the_cpu(splits, seed, kind, library):
    rows = KINDS[kind](some_logits())
    found = inception_score(**{kind: library(rows)}, splits=splits, seed=seed)
    expected = reference.inception_score(**{kind: rows}, splits=splits, seed=seed)
    assert_close(found, expected, 53, 7)
    on_cpu = inception_score(**{kind: rows}, splits=splits, seed=seed)
    assert_close(found, on_cpu, 0, 7)
    assert [type(number) for number in found.to_dict().values()] == [float] * 4
    assert_same_bits(
        inception_score(**{kind: library(rows)}, splits=splits, seed=seed, device="cpu"), on_cpu
    )


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8"])
@pytest.mark.parametrize(("n", "c"), [(700, 1000), (5000, 3), (12, 1), (6, 20_000)])
def test_dtypes_and_widths(n, c, dtype, library):
    logits = some_logits(n, c).clip(-99, 99).astype(dtype)
    found = inception_score(logits=library(logits), splits=4)
    assert_close(found, inception_score(logits=logits, splits=4), 0, max(c, 2))


@pytest.mark.parametrize("c", [2, 30, 1000])
def test_the_stated_error_holds(c, library):
    mpmath = pytest.importorskip("mpmath")
    logits = np.abs(some_logits(6, c)) ** 3  # some answers are sure, some are not
    with mpmath.workdps(40):
        rows = [[mpmath.exp(mpmath.mpf(float(z))) for z in row] for row in logits]
        rows = [[term / mpmath.fsum(row) for term in row] for row in rows]
        means = [mpmath.fsum(column) / len(rows) for column in zip(*rows, strict=True)]
        entropies = [-mpmath.fsum(p * mpmath.log(p) for p in row) for row in (*rows, means)]
        sharpness = mpmath.fsum(entropies[:-1]) / len(rows)
        found = inception_score(logits=library(logits), splits=1)
        assert abs(found.sharpness - sharpness) <= stated_error(c)
        assert abs(found.diversity - entropies[-1]) <= stated_error(c)
        assert abs(mpmath.log(found.mean) - (entropies[-1] - sharpness)) <= stated_error(c)


@pytest.mark.parametrize("c", [1, 2, 10, 1000])
def test_sure_and_uniform_answers(c, library):
    rows = np.tile(np.eye(c), (3, 1))
    for found in (
        inception_score(probabilities=library(rows), splits=3),
        inception_score(logits=library(1e4 * rows), splits=3),
    ):
        assert found.mean == pytest.approx(c, rel=1e-14)
        assert (found.std, found.sharpness) == (0.0, 0.0)
        assert found.diversity == pytest.approx(math.log(c), rel=1e-15)
    found = inception_score(logits=library(np.full((20, c), -3.5)))
    assert 1.0 <= found.mean <= 1 + 1e-14
    assert found.sharpness == pytest.approx(math.log(c), rel=1e-14)


def test_extreme_numbers(library):
    largest = np.finfo(np.float64).max
    rows = np.array([[1e300, 0.0, -1e300], [0.0, 1e4, -1e4], [-largest, -largest, largest]])
    found = inception_score(logits=library(rows), splits=1)
    assert (found.mean, found.sharpness) == (pytest.approx(3.0, rel=1e-15), 0.0)
    tiny = np.array([[1.0, 5e-324, 0.0], [1.0, 1e-300, -0.0]])
    found = inception_score(probabilities=library(tiny), splits=1)
    assert found.to_dict() == {"mean": 1, "std": 0, "sharpness": 0, "diversity": 0}


@pytest.mark.parametrize("seed", [None, 5])
@pytest.mark.parametrize("splits", [1, 3, 53])
@pytest.mark.parametrize("kind", KINDS)
def test_blocks_do_not_change_a_bit(monkeypatch, seed, splits, kind, library):
    rows = library(KINDS[kind](some_logits()))
    expected = inception_score(**{kind: rows}, splits=splits, seed=seed)
    use_small_blocks(monkeypatch)
    assert_same_bits(inception_score(**{kind: rows}, splits=splits, seed=seed), expected)
    monkeypatch.setattr("fastgen.answers.TOTALS_BYTES", 16 * 8 * 3)  # of 3 splits at a time
    assert_same_bits(inception_score(**{kind: rows}, splits=splits, seed=seed), expected)


@pytest.mark.parametrize("splits", [1, 4, 53])
def test_batches_and_states_change_no_bit(splits, library):
    rows = library(some_logits())
    expected = inception_score(logits=rows, splits=splits)
    for cuts in ((0, 53), (0, 1, 20, 21, 53), tuple(range(54))):
        whole = InceptionScoreState(7, splits=splits, rows=53)
        later = InceptionScoreState(7, splits=splits, rows=53, start=cuts[len(cuts) // 2])
        for state, part in ((whole, cuts[: len(cuts) // 2 + 1]), (later, cuts[len(cuts) // 2 :])):
            for start, stop in itertools.pairwise(part):
                state.update(logits=rows[start:stop])
        whole.merge(later)
        assert_same_bits(whole.compute(), expected)


def test_layouts_do_not_change_a_bit(library):
    rows = some_logits()
    expected = inception_score(logits=library(rows))
    assert_same_bits(inception_score(logits=library(rows.T).T), expected)
    apart = library(np.repeat(np.repeat(rows, 2, axis=0), 3, axis=1))
    assert_same_bits(inception_score(logits=apart[::2, ::3]), expected)


def test_a_seed_is_a_permutation(library):
    rows = some_logits()
    order = np.random.default_rng(11).permutation(len(rows))
    expected = inception_score(logits=library(rows[order]), splits=6)
    assert_same_bits(inception_score(logits=library(rows), splits=6, seed=11), expected)


def test_bfloat16(library):
    if library.name == "cupy":
        pytest.skip("CuPy has no bfloat16")
    rows = np.round(some_logits() * 4) / 4
    found = inception_score(logits=library(rows, "bfloat16"))
    assert_same_bits(found, inception_score(logits=library(rows)))


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize(
    ("kind", "place", "value", "text"),
    [
        ("logits", (40, 2), np.nan, "`logits` to be finite, got nan in row 40, column 2; for a"),
        ("logits", (0, 6), -np.inf, "`logits` to be finite, got -inf in row 0, column 6; for a"),
        ("probabilities", (52, 1), np.inf, "`probabilities` to be finite, got inf in row 52"),
        ("probabilities", (9, 1), -0.5, "`probabilities` of at least 0, got -0.5 in row 9, column"),
        ("probabilities", (9, 1), 1.0, "`probabilities` with rows that add up to 1 to within"),
    ],
)
def test_bad_rows_are_told_as_on_the_cpu(kind, place, value, text, seed, library, monkeypatch):
    use_small_blocks(monkeypatch)
    rows = KINDS[kind](some_logits())
    rows[place] = value
    with pytest.raises(ValueError, match=f"^inception_score: expected {re.escape(text)}") as told:
        inception_score(**{kind: library(rows)}, splits=5, seed=seed)
    assert f"row {place[0]}" in str(told.value)


@pytest.mark.parametrize(
    ("rows", "error", "text"),
    [
        (np.ones(3), ValueError, "`logits` of shape (n, d), got shape (3,)"),
        (np.ones((3, 0)), ValueError, "`logits` with at least one row and one column"),
        (np.ones((3, 2)) > 0, TypeError, "`logits` of dtype float16, float32, float64 or integer"),
    ],
)
def test_what_are_no_rows(rows, error, text, library):
    with pytest.raises(error, match=f"^inception_score: expected {re.escape(text)}"):
        inception_score(logits=library(rows), splits=1)


def test_progress_rises_to_one(monkeypatch, library):
    use_small_blocks(monkeypatch)
    told = []
    inception_score(logits=library(some_logits()), progress=told.append)
    assert told == sorted(told)
    assert len(told) == 14  # of 4 rows
    assert told[-1] == 1.0


def test_a_budget_that_the_message_names_is_enough(library):
    rows = library(3 * seeded("budget").standard_normal((30, 5)))
    text = r"^inception_score: expected `memory` of at least"
    with pytest.raises(ValueError, match=text) as told:
        inception_score(logits=rows, memory=1000)
    enough = re.search(r'memory="(\w+)"', str(told.value))[1]
    assert_same_bits(inception_score(logits=rows, memory=enough), inception_score(logits=rows))
