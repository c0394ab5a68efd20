"""Points dealt to devices and to passes: the same bits, however much memory there is."""

from __future__ import annotations

import re

import families
import numpy as np
import pytest
from checks import assert_same_bits
from device_arrays import Made, Named, Packed

import fastgen
from fastgen import density_passes, gpu_plan, pairwise
from fastgen import numpy_reference as reference

pytestmark = pytest.mark.filterwarnings("ignore::fastgen.DensityWarning")


def sets(n=100, m=70, d=3, dtype="float32"):
    rng = families.seeded("density passes", n, m, d)
    return rng.standard_normal((n, d)).astype(dtype), rng.standard_normal((m, d)).astype(dtype)


@pytest.fixture
def passes(monkeypatch):
    """Let points come by 16, and record how many each pass had."""
    monkeypatch.setattr(gpu_plan, "POINTS", 16)
    monkeypatch.setattr(gpu_plan, "DENSITY_FIXED_BYTES", 0)
    sizes = []
    cut = density_passes._parts

    def listen(*arguments):
        parts = cut(*arguments)
        sizes.extend(stop - start for of_device in parts for start, stop in of_device)
        return parts

    monkeypatch.setattr(density_passes, "_parts", listen)
    return sizes


def budget(points, samples, d, itemsize=4, bandwidths=1, alone=False):
    absent = samples if alone else samples + points
    return gpu_plan.density_bytes_needed(points, samples, absent, d, itemsize, bandwidths)


@pytest.mark.parametrize("device", ["cuda", "cuda:all"])
@pytest.mark.parametrize("d", [3, 40])
def test_passes_change_no_bit(passes, d, device):
    points, samples = sets(d=d)
    weights = np.where(np.arange(70) % 3 == 0, 0.0, 1.0 + np.arange(70))
    alone = {"leave_one_out": True, "weights": weights}
    calls = (
        (70, False, lambda **how: fastgen.log_density(points, samples, [0.7, 2.0], **how)),
        (
            70,
            False,
            lambda **how: fastgen.log_density(points, samples, 0.7, weights=weights, **how),
        ),
        (70, False, lambda **how: pairwise.log_kernel_sums(points, samples, 1.5, **how)),
        (100, True, lambda **how: pairwise.log_kernel_sums(points, None, 1.5, **how)),
        (
            100,
            True,
            lambda **how: fastgen.log_density(None, points, 0.7, leave_one_out=True, **how),
        ),
        (70, True, lambda **how: fastgen.log_density(None, samples, 0.7, **alone, **how)),
    )
    for m, is_alone, call in calls:
        passes.clear()
        whole = call(device="cuda")
        few = len(passes)
        passes.clear()
        # One bandwidth may take more than two: products screen it, on copies of the samples.
        memory = max(budget(16, m, d, bandwidths=count, alone=is_alone) for count in (1, 2))
        assert_same_bits(call(device=device, memory=memory), whole)
        assert len(passes) > few


@pytest.mark.parametrize("device", ["cuda", "cuda:all"])
def test_public_functions_in_passes(passes, device):
    points, samples = sets()
    how = {"device": device, "memory": budget(32, 100, 3, bandwidths=25)}
    for folds in (None, 4):
        found = fastgen.select_bandwidth(samples, folds=folds, **how)
        assert_same_bits(found, fastgen.select_bandwidth(samples, folds=folds, device="cuda"))
        expected = reference.select_bandwidth(samples, folds=folds)
        assert found.bandwidth == expected.bandwidth
    found = fastgen.heldout_log_likelihood(points, samples, [0.5, 1.0], **how)
    assert_same_bits(
        found, fastgen.heldout_log_likelihood(points, samples, [0.5, 1.0], device="cuda")
    )
    whitened = {"covariance": "sample", "memory": budget(32, 100, 3, 8)}
    found = fastgen.log_density(points, samples, device=device, **whitened)
    expected = reference.log_density(points, samples, covariance="sample")
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_arrays_on_the_device():
    points, samples = sets(dtype="float16")
    wide = samples.astype(np.float64)
    for covariance in (None, "sample", np.diag([1.0, 2.0, 3.0])):
        found = fastgen.log_density(Named(points), Packed(wide), covariance=covariance)
        assert isinstance(found, Made)
        expected = fastgen.log_density(points, wide, covariance=covariance, device="cuda")
        assert_same_bits(found.values, expected)
        expected = reference.log_density(points, wide, covariance=covariance)
        np.testing.assert_allclose(found.values, expected, rtol=0, atol=1e-9)
    weights = np.arange(70.0)
    found = fastgen.log_density(
        Packed(points), Packed(samples), Packed(np.array([0.5, 1.0])), weights=Packed(weights)
    )
    how = {"weights": weights, "device": "cuda"}
    assert_same_bits(found, fastgen.log_density(points, samples, [0.5, 1.0], **how))
    for folds in (None, 3):
        found = fastgen.select_bandwidth(Packed(samples), folds=folds)
        expected = fastgen.select_bandwidth(samples, folds=folds, device="cuda")
        assert_same_bits(found, expected)
    found = fastgen.heldout_log_likelihood(Packed(points), Packed(samples), 0.7)
    assert_same_bits(found, fastgen.heldout_log_likelihood(points, samples, 0.7, device="cuda"))
    same = Packed(samples)
    found = fastgen.log_density(same, same, 0.7, leave_one_out=True)
    expected = fastgen.log_density(None, samples, 0.7, leave_one_out=True, device="cuda")
    assert_same_bits(found, expected)


def test_new_rows_take_memory_where_the_old_ones_are_there(passes):
    points, samples = sets(d=40)
    wide = samples.astype(np.float64)
    for given, options, new in ((samples, {"covariance": "sample"}, 16 + 70), (wide, {}, 16)):
        memory = gpu_plan.density_bytes_needed(16, 70, new, 40, 8, 1)
        found = []
        for how in ({}, {"memory": memory}):
            passes.clear()
            there = Packed(points), Packed(given)
            found.append(fastgen.log_density(*there, 0.7, **options, **how))
        assert_same_bits(*found)
        assert max(passes) == 16
    passes.clear()
    memory = gpu_plan.density_bytes_needed(100, 70, 0, 40, 4, 1)
    fastgen.log_density(Packed(points), Packed(samples), 0.7, memory=memory)
    assert passes == [100]


def test_equal_rows_on_the_device_have_no_default_candidates():
    text = "^select_bandwidth: expected `samples` that differ, or `candidates`, got equal rows"
    with pytest.raises(ValueError, match=text):
        fastgen.select_bandwidth(Packed(np.full((9, 3), 0.1, dtype=np.float32)))


def test_bandwidths_that_are_too_small_in_one_of_the_passes(passes):
    points, samples = sets()
    points[90] = 1e30
    text = "^log_density: expected `bandwidth` not so small beside the rows that exponents leave"
    for device in ("cuda", "cuda:all"):
        with pytest.raises(ValueError, match=text):
            fastgen.log_density(
                points.astype(np.float64) * 1e120,
                samples,
                1e-300,
                device=device,
                memory=budget(32, 100, 3, 8),
            )


def test_samples_that_do_not_fit(passes):
    points, samples = sets()
    text = r"^log_density: expected `memory` of at least \d+ bytes for this input, got 900; "
    with pytest.raises(ValueError, match=text) as caught:
        fastgen.log_density(points, samples, 1.0, device="cuda", memory=900)
    enough = int(re.search(r"at least (\d+)", str(caught.value))[1])
    found = fastgen.log_density(points, samples, 1.0, device="cuda", memory=enough)
    assert_same_bits(found, fastgen.log_density(points, samples, 1.0, device="cuda"))
    assert min(passes) <= 16


@pytest.mark.parametrize("path", ["direct", "tiles", "ordered"])
def test_paths_serve_so_many_features(path):
    points, samples = sets(20, 30, 3)
    found = pairwise.log_kernel_sums(points, samples, path=path, device="cuda")
    np.testing.assert_allclose(found, pairwise.log_kernel_sums(points, samples), atol=2e-5)
    points, samples = sets(20, 30, 17)
    if path != "tiles":
        with pytest.raises(ValueError, match="expected `path` to be one of auto, tiles for d = 17"):
            pairwise.log_kernel_sums(points, samples, path=path, device="cuda")
