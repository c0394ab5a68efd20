"""The warning that one sample has more than half of the density at more than half of the points."""

from __future__ import annotations

import itertools
import re
import warnings

import families
import numpy as np
import pytest
from density_errors import paths_for

import fastgen
from fastgen import DensityWarning
from fastgen.numpy_reference import distances

core = pytest.importorskip("fastgen._core", reason="the compiled module has to be built")

ISAS = core.instruction_sets()
H = 1.0
FAR = 100.0  # bandwidths between samples that share nothing
# Three samples by themselves, and four in one place, none of which has half.
SAMPLES = FAR * np.array([[0.0], [1.0], [2.0], [3.0], [3.0], [3.0], [3.0]])
ALONE, TOGETHER = FAR * np.array([[0.0], [1.1], [2.2]]), FAR * np.array([[3.0]])


def points(alone: int, together: int):
    """Return points at which one sample decides, and points at which none does."""
    return np.concatenate([np.resize(ALONE, (alone, 1)), np.resize(TOGETHER, (together, 1))])


def message(call) -> str | None:
    """Return the text of the one warning, if there is one; it names the line of the caller."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    assert len(caught) <= 1
    if not caught:
        return None
    assert caught[0].category is DensityWarning
    assert caught[0].filename == __file__
    return str(caught[0].message)


def test_it_is_a_user_warning():
    assert issubclass(DensityWarning, UserWarning)


# --- what is counted ------------------------------------------------------------------------------


def dominated(rows, samples, widths, weights=None, **how):
    options = {"path": "auto", "isa": ISAS[0], "threads": 1} | how
    alone = rows is None
    engine = core.LogSums(
        samples if alone else rows,
        samples,
        widths,
        weights=weights,
        leave_one_out=alone,
        **options,
    )
    while engine.advance(10.0) < 1.0:
        pass
    return engine.finish()["dominated"]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("d", [1, 2, 3, 9, 20])
def test_points_are_counted_as_by_brute_force(d, weighted, dtype):
    x, y = families.gaussian(families.seeded("dominated", d), 150, d, dtype, 90)
    x[:10] *= 1000
    weights = families.seeded("dominated").uniform(0.05, 1.0, 90) if weighted else np.ones(90)
    weights /= weights.max()
    given = weights if weighted else None
    widths = np.array([0.05, 0.2, 0.5, 3.0]) * d**0.5
    for rows in (x, None):
        wide = y.astype(np.float64)
        sq = distances.sq_distances(wide if rows is None else x.astype(np.float64), wide)
        if rows is None:
            np.fill_diagonal(sq, np.inf)
        share = np.empty((len(widths), len(sq)))
        for h, row in zip(widths, share, strict=True):
            terms = weights * np.exp(-0.5 * (sq - sq.min(axis=1, keepdims=True)) / h**2)
            row[:] = terms.max(axis=1) / terms.sum(axis=1)
        assert np.abs(share - 0.5).min() > 1e-5  # no tie that rounding decides
        expected = (share > 0.5).sum(axis=1)
        assert np.any((expected > 0) & (expected < len(sq)))
        for path, isa in itertools.product(paths_for(d), ISAS):
            how = {"path": path, "isa": isa}
            found = dominated(rows, y, widths.tolist(), given, **how)
            assert found.tolist() == expected.tolist(), how
            for h, count in zip(widths.tolist(), expected, strict=True):
                assert dominated(rows, y, [h], given, **how).tolist() == [count], (h, how)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_half_is_not_more_than_half(dtype):
    y = np.zeros((4, 3), dtype=dtype)
    y[1:] = 40.0
    x = np.zeros((5, 3), dtype=dtype)
    for path, isa, widths in itertools.product(paths_for(3), ISAS, ([1.0], [1.0, 2.0])):
        how = {"path": path, "isa": isa}
        ones = [1] * len(widths)
        assert dominated(x, y[:2], widths, **how).tolist() == [5 * one for one in ones]
        assert dominated(x, y[[0, 0, 1]], widths, **how).tolist() == [0 for _ in ones]
        assert dominated(x, y[[0, 0, 0]], widths, **how).tolist() == [0 for _ in ones]
        assert dominated(x, y[:1], widths, **how).tolist() == [5 for _ in ones]
        # By weight: 1 of 2 is half, and 1 of 1.875 more.
        half, more = np.array([0.5, 1.0, 0.5]), np.array([0.5, 1.0, 0.375])
        assert dominated(x, y[[0, 0, 0]], widths, half, **how).tolist() == [0 for _ in ones]
        assert dominated(x, y[[0, 0, 0]], widths, more, **how).tolist() == [5 for _ in ones]
        # A row's only copy has all of its density once it is left out itself.
        assert dominated(None, y[:2], widths, **how).tolist() == [2 * one for one in ones]
        assert dominated(None, y[[1, 1]], widths, **how).tolist() == [2 * one for one in ones]
        assert dominated(None, y[[1, 1, 1]], widths, **how).tolist() == [0 for _ in ones]
        assert dominated(None, y, widths, **how).tolist() == [0 for _ in ones]


# --- when it is given -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alone", "together", "expected"),
    [(0, 3, None), (1, 2, None), (2, 2, None), (3, 2, "3 of 5"), (3, 4, None), (1, 0, "1 of 1")],
)
def test_more_than_half_of_the_points(alone, together, expected):
    x = points(alone, together)
    for dtype in ("float32", "float64"):
        rows = x.astype(dtype), SAMPLES.astype(dtype)
        for name in ("log_density", "heldout_log_likelihood"):
            for covariance in (None, [[1.0]]):
                text = message(
                    lambda name=name, c=covariance, rows=rows: getattr(fastgen, name)(
                        *rows, H, covariance=c
                    )
                )
                if expected is None:
                    assert text is None
                else:
                    start = f"{name}: one sample has more than half of the density at {expected} "
                    assert text.startswith(f"{start}points; such values tell more about the band")


def test_several_bandwidths_are_one_warning():
    x = points(3, 2)
    call = fastgen.log_density
    assert message(lambda: call(x, SAMPLES, [1000.0, 2000.0])) is None
    assert "density under 1 of 2 bandwidths, at 3 of 5 points in the worst case; " in message(
        lambda: call(x, SAMPLES, [1000.0, H])
    )
    assert "density under 2 of 3 bandwidths, at 3 of 5 points in the worst case; " in message(
        lambda: call(x, SAMPLES, [H, 1000.0, 2 * H])
    )
    assert "density under 1 of 1" not in message(lambda: call(x, SAMPLES, [H]))
    assert "under 1 of 2 bandwidths" in message(
        lambda: fastgen.heldout_log_likelihood(x, SAMPLES, [1000.0, H])
    )


def test_weights_decide():
    x = points(0, 3)
    assert message(lambda: fastgen.log_density(x, SAMPLES, H)) is None
    assert message(lambda: fastgen.log_density(x, SAMPLES, H, weights=[1] * 3 + [3, 1, 1, 1])) is (
        None
    )
    for weights in ([1] * 3 + [3.1, 1, 1, 1], [1, 1, 1, 1, 0, 0, 0], [0, 0, 0, 7, 1, 1, 1]):
        text = message(lambda weights=weights: fastgen.log_density(x, SAMPLES, H, weights=weights))
        assert "at 3 of 3 points" in text


def test_leaving_one_out():
    def text(rows, weights=None):
        return message(
            lambda: fastgen.log_density(None, rows, H, weights=weights, leave_one_out=True)
        )

    assert text(SAMPLES[3:]) is None
    # The three by themselves, of seven: each has one nearest sample, or two as far as each other.
    assert text(SAMPLES) is None
    assert "at 2 of 3 points" in text(SAMPLES[:3])
    # Rows without weight have densities too: two copies share them, and may do so unequally.
    assert text(SAMPLES[3:], [1, 1, 0, 0]) is None
    assert "at 4 of 4 points" in text(SAMPLES[3:], [1, 0.9, 0, 0])
    assert "at 3 of 4 points" in text(SAMPLES[3:], [1.0, 0.1, 0.1, 0.1])
    assert text(SAMPLES[3:], [1.0, 1.0, 1.0, 0.0]) is None


def test_select_bandwidth_speaks_of_the_winner():
    x = families.gaussian(families.seeded("winner"), 200, 1, "float64", 2)[0]
    call = fastgen.select_bandwidth
    for folds in (None, 5):
        assert message(lambda folds=folds: call(x, [1e-6, 0.3], folds)) is None
        text = message(lambda folds=folds: call(x, [1e-6], folds))
        found = re.fullmatch(
            r"select_bandwidth: one sample has more than half of the density at (\d+) of 200 "
            "points; such values tell more about the bandwidth than about the samples",
            text,
        )
        assert int(found[1]) > 190
    pairs = np.repeat(FAR * np.arange(20.0), 2)[:, np.newaxis]
    assert "at 40 of 40 points" in message(lambda: call(pairs, [1.0, 2.0]))
    assert message(lambda: call(np.repeat(pairs, 2, axis=0), [1.0, 2.0])) is None


def test_the_primitive_does_not_warn():
    assert message(lambda: fastgen.pairwise.log_kernel_sums(points(3, 0), SAMPLES, H)) is None


def test_as_an_error_it_ends_the_call():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DensityWarning, match=r"^log_density: one sample has more than half"):
            fastgen.log_density(points(3, 0), SAMPLES, H)
