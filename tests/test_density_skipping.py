"""The ordered walk passes over blocks of samples that add less than 2^-30 (float64: 2^-50).

That it passes over a block at all is seen where sums are known to the last bits: what is left out
is there in the sums of the other paths, and missing in those of this one.
"""

from __future__ import annotations

import math

import families
import numpy as np
import pytest
from checks import Array
from density_errors import Sums

from fastgen import numpy_reference as reference
from fastgen import pairwise

core = pytest.importorskip("fastgen._core", reason="the compiled module has to be built")

ISAS = core.instruction_sets()
BLOCK = 512  # samples of one block


def two_blocks(bits: float, d: int, dtype: str) -> tuple[Array, float]:
    """Return two blocks of equal rows, and the kernel under bandwidth 1 between them: 2^-bits."""
    x = np.zeros((2 * BLOCK, d), dtype=dtype)
    x[BLOCK:, d - 1] = math.sqrt(2 * math.log(2) * bits)
    return x, math.exp(-0.5 * float(x[-1, d - 1]) ** 2)


def run(points: Array | None, samples: Array, widths: list[float], path: str, isa: str, weights):
    """Drive the engine itself, which takes weights as they are."""
    engine = core.LogSums(
        samples if points is None else points,
        samples,
        widths,
        weights=weights,
        leave_one_out=points is None,
        path=path,
        isa=isa,
        threads=1,
    )
    while engine.advance(10.0) < 1.0:
        pass
    return engine.finish()["log_sums"]


def run_shuffled(points: Array | None, samples: Array, widths: list[float], isa: str, weights):
    """Drive the ordered walk over samples in any order: the blocks are its own."""
    order = families.seeded("shuffled").permutation(len(samples))
    weights = None if weights is None else weights[order]
    found = run(points, samples[order], widths, "ordered", isa, weights)
    return found if points is not None else found[np.argsort(order)]


# --- what is left out, and what is not ------------------------------------------------------------


@pytest.mark.parametrize("widths", [[1.0], [1.0, 0.5], [1.0, 0.99, 0.9]], ids=str)
@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("d", [1, 2, 8])
@pytest.mark.parametrize("isa", ISAS)
def test_a_block_is_passed_over_when_it_adds_less_than_its_share(isa, d, alone, widths):
    own = BLOCK - 1 if alone else BLOCK
    for bits, is_left_out in ((31.6, True), (28.9, False), (20.0, False)):
        samples, between = two_blocks(bits, d, "float32")
        points = None if alone else samples[:BLOCK:50]
        added = math.log1p(between * BLOCK / own)
        direct = run(points, samples, widths, "direct", isa, None)[:, 0]
        ordered = run_shuffled(points, samples, widths, isa, None)[:, 0]
        np.testing.assert_allclose(direct - math.log(own), added, rtol=1e-4)
        expected = 0.0 if is_left_out else added
        np.testing.assert_allclose(ordered - math.log(own), expected, rtol=1e-4, atol=2e-15)


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("d", [1, 2, 8])
@pytest.mark.parametrize("isa", ISAS)
def test_float64_keeps_more(isa, d, alone):
    # Weights make the sum of a block about 1, next to which 2^-52 can be seen in a logarithm.
    weights = np.full(2 * BLOCK, 1.0 / BLOCK)
    own = math.log((BLOCK - 1) / BLOCK) if alone else 0.0
    for bits, is_left_out in ((51.7, True), (48.9, False), (31.6, False)):
        samples, between = two_blocks(bits, d, "float64")
        points = None if alone else samples[:BLOCK:50]
        added = math.log1p(between * BLOCK / (BLOCK - 1)) if alone else math.log1p(between)
        direct = run(points, samples, [1.0], "direct", isa, weights)[:, 0]
        ordered = run_shuffled(points, samples, [1.0], isa, weights)[:, 0]
        np.testing.assert_allclose(direct - own, added, rtol=1e-7, atol=2.0**-52)
        assert np.all(direct - own > 0.4 * added)
        expected = 0.0 if is_left_out else added
        atol = 1e-18 if is_left_out else 2.0**-52
        np.testing.assert_allclose(ordered - own, expected, rtol=1e-7, atol=atol)


@pytest.mark.parametrize("isa", ISAS)
def test_what_a_block_adds_depends_on_its_weight(isa):
    # A near block of small weights may be left out.
    points = np.zeros((3, 2), dtype=np.float32)
    weights = np.repeat([1.0, 2.0**-20], BLOCK)
    for bits, is_left_out in ((11.6, True), (8.9, False)):
        samples, between = two_blocks(bits, 2, "float32")
        added = between * 2.0**-20
        direct = run(points, samples, [1.0], "direct", isa, weights)[:, 0]
        ordered = run_shuffled(points, samples, [1.0], isa, weights)[:, 0]
        np.testing.assert_allclose(direct - math.log(BLOCK), added, rtol=1e-3)
        expected = 0.0 if is_left_out else added
        np.testing.assert_allclose(ordered - math.log(BLOCK), expected, rtol=1e-3, atol=2e-15)
    # Seen from a block of small weights, a heavy one far away has to be kept.
    samples, between = two_blocks(35.0, 2, "float32")
    weights = np.repeat([1.0, 1e-15], BLOCK)
    found = run_shuffled(samples[BLOCK:], samples, [1.0], isa, weights)
    np.testing.assert_allclose(found, math.log(BLOCK * (between + 1e-15)), rtol=1e-6)


def test_many_blocks_together_add_no_more_than_one_may():
    # 64 blocks of 2^-33 each would be 2^-27 of the sum: most of them have to stay.
    far = math.sqrt(2 * math.log(2) * 33)
    angles = 2 * math.pi * np.arange(64) / 64
    centres = np.concatenate([[[0, 0]], far * np.stack([np.cos(angles), np.sin(angles)], axis=1)])
    samples = np.repeat(centres, BLOCK, axis=0).astype(np.float32)
    points = np.zeros((5, 2), dtype=np.float32)
    for isa in ISAS:
        direct = run(points, samples, [1.0], "direct", isa, None)
        ordered = run_shuffled(points, samples, [1.0], isa, None)
        np.testing.assert_allclose(direct - math.log(BLOCK), 64 * 2.0**-33, rtol=0.01)
        assert np.all(np.abs(direct - ordered) < 2.0**-30)


def test_the_only_block_left_is_never_passed_over():
    # A row alone in its block, left out, has only far samples: nothing there is negligible.
    samples = np.zeros((BLOCK + 1, 1), dtype=np.float32)
    samples[-1] = 1e4
    for isa in ISAS:
        for widths in ([1.0], [1.0, 0.1, 1e-3]):
            found = pairwise.log_kernel_sums(samples, None, widths, path="ordered", isa=isa)
            expected = math.log(BLOCK) - 0.5e8 / np.square(widths)
            np.testing.assert_allclose(found[-1], expected, rtol=1e-12)


# --- large sets -----------------------------------------------------------------------------------

N = 20_000


def large(kind: str, d: int, dtype: str) -> Array:
    rng = families.seeded("large", kind, d)
    if kind == "normal":
        rows = rng.standard_normal((N, d))
    elif kind == "clusters":
        centres = 30 * rng.standard_normal((50, d))
        rows = centres[rng.integers(0, 50, N)] + rng.standard_normal((N, d))
    else:  # heavy tails, half of the rows are copies, one feature is far wider than the others
        rows = rng.standard_t(1.5, (N, d)) * ([1e4] + [1.0] * (d - 1))
        rows[N // 2 :] = rows[: N // 2]
    return rows.astype(dtype)


LARGE = {
    "normal": ("normal", 2, 0.05),
    "smooth line": ("normal", 1, 0.02),
    "smooth plane": ("normal", 2, 0.3),
    "line": ("clusters", 1, 0.01),
    "clusters": ("clusters", 3, 0.3),
    "tails": ("tails", 2, 0.2),
    "many features": ("clusters", 8, 1.0),
}
# What rounding makes of two orders of summation; exponentials of float64 are off by 2^-38 with some
# instruction sets, and by few units in the last place with the last.
OFF = {("float32", ISAS[0]): 2e-6, ("float64", ISAS[0]): 5e-12, ("float64", ISAS[-1]): 2e-14}


@pytest.mark.parametrize(("dtype", "isa"), OFF)
@pytest.mark.parametrize("name", LARGE)
def test_large_sets(name, dtype, isa):
    kind, d, h = LARGE[name]
    x = large(kind, d, dtype)
    n = 50 if isa == ISAS[-1] else 3000
    points, few = x[:n] + np.asarray(0.25 * h, dtype=dtype), slice(0, n, n // 50)
    points[::3] *= 2  # out to where the density is thin
    weights = 10 ** families.seeded("large weights").uniform(-6, 0, N)
    for widths, given in ((h, None), (h * np.array([1.0, 0.1, 20.0]), None), (h, weights)):
        how = {"weights": given, "isa": isa}
        found = pairwise.log_kernel_sums(points, x, widths, path="ordered", **how)
        direct = pairwise.log_kernel_sums(points, x, widths, path="direct", **how)
        np.testing.assert_allclose(found, direct, rtol=2.0**-44, atol=OFF[dtype, isa])
        sums = Sums(points[few], x, np.atleast_1d(widths), given)
        sums.compare(found[few].reshape(50, -1), slice(None), "ordered")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("kind", "d", "h"), [("clusters", 2, 0.05), ("tails", 2, 0.2)])
def test_large_sets_leaving_one_out(kind, d, h, dtype):
    x = large(kind, d, dtype)
    found = pairwise.log_kernel_sums(x, None, h, path="ordered")
    direct = pairwise.log_kernel_sums(x, None, h, path="direct")
    np.testing.assert_allclose(found, direct, rtol=2.0**-44, atol=OFF[dtype, ISAS[0]])
    for row in range(0, N, 1000):
        rest = np.delete(x, row, axis=0).astype(np.float64)
        expected = reference.log_density(x[row : row + 1].astype(np.float64), rest, h)[0]
        expected += math.log(N - 1) + d * math.log(h) + d / 2 * math.log(2 * math.pi)
        off = 1e-5 if dtype == "float32" else 1e-10
        assert found[row] == pytest.approx(expected, rel=2.0**-44, abs=off)


def test_sets_of_the_planners_size_are_ordered():
    # 4e8 pairs and more of at most 8 features: the bits are those of the ordered walk.
    x = large("normal", 2, "float32")[: N // 2]
    y = np.concatenate([x, x, x, x])
    for d, planned in ((2, "ordered"), (1, "ordered")):
        found = pairwise.log_kernel_sums(x[:, :d], y[:, :d], 0.02)
        forced = pairwise.log_kernel_sums(x[:, :d], y[:, :d], 0.02, path=planned)
        assert found.tobytes() == forced.tobytes()
    few = pairwise.log_kernel_sums(x[:100], y, 0.02)
    assert few.tobytes() == pairwise.log_kernel_sums(x[:100], y, 0.02, path="direct").tobytes()
