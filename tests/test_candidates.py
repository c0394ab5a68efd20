"""How many candidates the bounds leave for the float64 recheck, on seven kinds of feature.

The answer is right whatever this number is; the time is not. A bound that is a little too wide
shows here first, before any stopwatch.
"""

from __future__ import annotations

import families
import numpy as np
import pytest
from checks import assert_same_bits

from fastgen import numpy_reference as reference
from fastgen import pairwise

core = pytest.importorskip("fastgen._core", reason="the compiled module has to be built")


def _rechecked(x: np.ndarray, k: int) -> float:
    """Return the candidates per row of the int8 path, having checked some rows of its answer."""
    counters: dict[str, int] = {}
    isa = core.instruction_sets()[0]  # the bounds do not depend on it, the time does
    sq, rows = pairwise.sq_knn(x, k=k, indices=True, isa=isa, path="int8", counters=counters)
    some = np.arange(0, len(x), len(x) // 8)
    expected_sq, expected_rows = reference.sq_nearest(x[some], x, k=k + 1)
    assert_same_bits(expected_rows[:, 0].copy(), some)  # the row itself, at distance 0
    assert_same_bits(sq[some], expected_sq[:, 1:].copy())
    assert_same_bits(rows[some], expected_rows[:, 1:].copy())
    return counters["rechecked"] / len(x)


@pytest.mark.parametrize("family", families.FEATURE_FAMILIES, ids=lambda family: family.name)
def test_candidates_per_row(family):
    x = family.make(families.seeded(family.name), family.n, family.d)
    assert x.dtype == np.float32
    candidates = _rechecked(x, family.k)
    print(f"{family.name}: {candidates:.1f} candidates per row, {family.mean_candidates} expected")
    assert family.k / 2 <= candidates <= 2 * family.mean_candidates


@pytest.mark.parametrize("figures", families.TIGHT_CLUSTERS, ids=lambda f: f"near={f.nearness}")
def test_candidates_per_row_of_tight_clusters(figures):
    # The second bound knows close neighbours apart where the first keeps the whole cluster.
    x = families.tight_clusters(families.seeded("tight"), figures.n, figures.d, figures.spread)
    candidates = _rechecked(x, figures.k)
    print(f"{figures}: {candidates:.1f} candidates per row")
    assert figures.k / 2 <= candidates <= 2 * figures.both_bounds
