"""Samples summed by blocks: within the bounds of whole ones, and the same bits for any memory."""

from __future__ import annotations

import re

import families
import numpy as np
import pytest
from checks import assert_same_bits
from device_arrays import Packed

import fastgen
from fastgen import densities, density_blocks, gpu_plan, pairwise
from fastgen import numpy_reference as reference
from fastgen.gpu import Gpu
from fastgen.session import Session

pytestmark = pytest.mark.filterwarnings("ignore::fastgen.DensityWarning")

ROWS = 32  # of a block


def sets(n=100, m=97, d=3, dtype="float32"):
    """Two sets; the samples are three blocks and a single row."""
    rng = families.seeded("density blocks", n, m, d)
    return rng.standard_normal((n, d)).astype(dtype), rng.standard_normal((m, d)).astype(dtype)


@pytest.fixture
def blocks(monkeypatch):
    """Return what makes blocks of `ROWS` samples, and points that come by 16."""

    def make(d, itemsize=4):
        monkeypatch.setattr(gpu_plan, "POINTS", 16)
        monkeypatch.setattr(gpu_plan, "DENSITY_FIXED_BYTES", 0)
        monkeypatch.setattr(gpu_plan, "DENSITY_BLOCK_BYTES", ROWS * d * itemsize)

    return make


@pytest.fixture
def uploads(monkeypatch):
    """Record how many rows come to the GPU at a time."""
    sizes = []
    handle = Gpu.handle

    def listen(self, rows, device=None):
        if not rows.copies:
            sizes.append(rows.n)
        return handle(self, rows, device)

    monkeypatch.setattr(Gpu, "handle", listen)
    return sizes


def least(points, samples, d, itemsize=4, bandwidths=1):
    """Return the bytes that one block of samples takes, and so many points."""
    absent = points + ROWS
    return gpu_plan.density_bytes_needed(points, samples, absent, d, itemsize, bandwidths)


def calls(points, samples):
    """Return calls of every kind, and the samples of each."""
    weights = np.where(np.arange(97) % 3 == 0, 0.0, 1.0 + np.arange(97.0) ** 3)
    few = np.where(np.arange(97) < 70, 1e-9, 0.25)  # a block's largest is not that of all
    alone = {"leave_one_out": True}
    return (
        lambda module, **how: module.log_density(points, samples, [0.7, 2.0, 0.02], **how),
        lambda module, **how: module.log_density(points, samples, 0.7, weights=weights, **how),
        lambda module, **how: module.log_density(points, samples, [0.1, 0.7], weights=few, **how),
        lambda module, **how: module.log_density(None, samples, 0.7, **alone, **how),
        lambda module, **how: module.log_density(
            None, samples, [0.05, 0.7], **alone, weights=weights, **how
        ),
    )


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("d", [2, 3, 40])
def test_values_by_blocks(blocks, d, dtype):
    points, samples = sets(d=d, dtype=dtype)
    bound = 1e-10 if dtype == "float64" else 1e-5
    for call in calls(points, samples):
        whole = call(fastgen, device="cuda")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(gpu_plan, "POINTS", 16)
            patch.setattr(gpu_plan, "DENSITY_BLOCK_BYTES", ROWS * d * points.itemsize)
            found = call(fastgen, device="cuda")
        expected = call(reference)
        np.testing.assert_allclose(found, expected, rtol=2.0**-44, atol=bound)
        np.testing.assert_allclose(found, whole, rtol=2.0**-43, atol=2 * bound)
        assert not np.array_equal(found, whole)


@pytest.mark.parametrize("device", ["cuda", "cuda:all"])
@pytest.mark.parametrize("d", [3, 40])
def test_memory_for_one_block_changes_no_bit(blocks, uploads, d, device):
    points, samples = sets(d=d)
    blocks(d)
    for call in calls(points, samples):
        plenty = call(fastgen, device="cuda")
        assert max(uploads) >= 64  # samples as a whole, but for those that have no weight
        uploads.clear()
        # One bandwidth may take more than three: products screen it, on copies of the samples.
        memory = max(least(16, 97, d, bandwidths=count) for count in (1, 3))
        assert_same_bits(call(fastgen, device=device, memory=memory), plenty)
        assert max(uploads) <= ROWS
        uploads.clear()


def test_public_functions_by_blocks(blocks, uploads):
    points, samples = sets()
    blocks(3)
    memory = least(16, 97, 3, bandwidths=25)
    for folds in (None, 4):
        found = fastgen.select_bandwidth(samples, folds=folds, device="cuda", memory=memory)
        assert max(uploads) <= ROWS
        uploads.clear()
        assert_same_bits(found, fastgen.select_bandwidth(samples, folds=folds, device="cuda"))
        uploads.clear()
        expected = reference.select_bandwidth(samples, folds=folds)
        assert found.bandwidth == expected.bandwidth
        np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=1e-5)
    found = fastgen.heldout_log_likelihood(
        points, samples, [0.5, 1.0], device="cuda", memory=memory
    )
    expected = fastgen.heldout_log_likelihood(points, samples, [0.5, 1.0], device="cuda")
    assert_same_bits(found, expected)
    for first, second in ((points, samples), (samples, None), (samples, samples)):
        found = pairwise.log_kernel_sums(first, second, 0.5, device="cuda", memory=memory)
        assert_same_bits(found, pairwise.log_kernel_sums(first, second, 0.5, device="cuda"))
        expected = pairwise.log_kernel_sums(first, second, 0.5, device="cpu")
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)


def test_whitened_and_widened_samples_by_blocks(blocks, uploads):
    points, samples = sets()
    blocks(3, 8)
    for options in ({"covariance": "sample"}, {}):
        given = points if options else points.astype(np.float64)
        uploads.clear()
        # Points of two dtypes each, and the block twice.
        memory = gpu_plan.density_bytes_needed(16, 97, 2 * (16 + ROWS), 3, 8, 1)
        found = fastgen.log_density(given, samples, 0.7, device="cuda", memory=memory, **options)
        assert max(uploads) <= ROWS
        assert_same_bits(found, fastgen.log_density(given, samples, 0.7, device="cuda", **options))
        expected = reference.log_density(given, samples, 0.7, **options)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("d", [3, 40])
def test_samples_on_the_device_stay_in_place(blocks, uploads, d):
    points, samples = sets(d=d)
    blocks(d)
    expected = fastgen.log_density(points, samples, [0.3, 0.7], device="cuda")
    alone = fastgen.log_density(None, samples, 0.7, leave_one_out=True, device="cuda")
    uploads.clear()
    memory = gpu_plan.density_bytes_needed(16, 97, 0, d, 4, 2)
    for how in ({}, {"memory": memory}):
        there = Packed(points), Packed(samples)
        assert_same_bits(fastgen.log_density(*there, [0.3, 0.7], **how), expected)
    there = Packed(samples)
    found = fastgen.log_density(there, there, 0.7, leave_one_out=True)
    assert_same_bits(found, alone)
    assert not uploads


@pytest.mark.parametrize("d", [1, 3, 40])
def test_dominated_by_one_sample_of_all(blocks, d):
    """Points of which one sample has more than half of a block, but not of the whole, are not."""
    points, samples = sets(d=d)
    points[:20] = samples[:20]
    samples[50:60] = samples[:10]  # two blocks have the same nearest sample
    weights = np.where(np.arange(97) % 5 == 0, 0.1, 1.0)
    bandwidths = np.array([0.01, 0.1, 0.3, 1.0, 10.0]) * np.sqrt(d)

    def count(rows, weights):
        with Session("log_density", device="cuda") as session:
            taken = session.rows("samples", samples)
            of = None if rows is None else session.rows("points", rows)
            sets = (taken,) if of is None else (taken, of)
            densities.require_memory(session, of, taken, len(bandwidths), weights=weights)
            session.check_values(*sets)
            return densities.log_sums(session, of, taken, bandwidths, weights)[1]

    for rows in (points, None):
        for given in (None, weights):
            whole = count(rows, given)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(gpu_plan, "POINTS", 16)
                patch.setattr(gpu_plan, "DENSITY_BLOCK_BYTES", ROWS * d * 4)
                found = count(rows, given)
            np.testing.assert_array_equal(found, whole)
            assert found[0] > found[-1] == 0


def test_samples_beyond_reach_of_a_point_in_some_blocks(blocks):
    samples = np.concatenate([np.full((ROWS, 2), 1e4), np.zeros((ROWS, 2)), np.full((5, 2), -1e9)])
    samples += np.arange(len(samples))[:, np.newaxis] * 1e-3
    points = np.array([[0.0, 0.0], [1e4, 1e4], [7e3, 1.0]])
    blocks(2, 8)
    found = fastgen.log_density(points, samples, [1e-2, 3.0], device="cuda")
    expected = reference.log_density(points, samples, [1e-2, 3.0])
    np.testing.assert_allclose(found, expected, rtol=2.0**-43, atol=1e-10)


def test_bandwidths_that_are_too_small_for_one_of_the_blocks(blocks):
    points, samples = sets(dtype="float64")
    samples[40] = 1e150
    blocks(3, 8)
    text = "^log_density: expected `bandwidth` not so small beside the rows that exponents leave"
    for device in ("cuda", "cuda:all"):
        with pytest.raises(ValueError, match=text):
            fastgen.log_density(points, samples, 1e-300, device=device)


def test_bad_numbers_in_samples_that_stay_on_the_host(blocks, uploads):
    points, samples = sets()
    samples[80, 1] = np.nan
    blocks(3)
    memory = least(16, 97, 3)
    with pytest.raises(ValueError, match=r"^log_density: .*`samples`.*80"):
        fastgen.log_density(points, samples, 0.7, device="cuda", memory=memory)
    assert not uploads


def test_memory_that_holds_no_block(blocks):
    points, samples = sets()
    blocks(3)
    text = r"^log_density: expected `memory` of at least \d+ bytes for this input, got 900; "
    with pytest.raises(ValueError, match=text) as caught:
        fastgen.log_density(points, samples, 1.0, device="cuda", memory=900)
    enough = int(re.search(r"at least (\d+)", str(caught.value))[1])
    assert enough < gpu_plan.density_bytes_needed(16, 97, 97 + 16, 3, 4, 1)
    found = fastgen.log_density(points, samples, 1.0, device="cuda", memory=enough)
    assert_same_bits(found, fastgen.log_density(points, samples, 1.0, device="cuda"))


def test_blocks_of_samples():
    assert density_blocks.cut(10**6, 64, 4) == [slice(0, 10**6)]
    rows = gpu_plan.density_block_rows(2048, 4)
    assert rows == gpu_plan.DENSITY_BLOCK_BYTES // 8192
    assert gpu_plan.density_block_rows(3, 8) % gpu_plan.POINTS == 0
    assert gpu_plan.density_block_rows(1, 2) == 1 << 30
    assert gpu_plan.density_block_rows(10**7, 8) == gpu_plan.POINTS
    cut = density_blocks.cut(2 * rows + 1, 2048, 4)
    assert cut == [slice(0, rows), slice(rows, 2 * rows), slice(2 * rows, 2 * rows + 1)]
    assert density_blocks.segments(0, 100, slice(32, 64), True) == [
        (0, 32, False),
        (32, 64, True),
        (64, 100, False),
    ]
    assert density_blocks.segments(0, 16, slice(32, 64), True) == [(0, 16, False)]
    assert density_blocks.segments(48, 80, slice(32, 64), True) == [
        (48, 64, True),
        (64, 80, False),
    ]
