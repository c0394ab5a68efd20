"""Every function takes arrays on a GPU, and gives the bits that it gives for host arrays."""

from __future__ import annotations

import numpy as np
import pytest
from checks import assert_same_bits
from device_arrays import Interface, Made, Named, Packed

import fastgen
from fastgen import Energy, Gaussian, Polynomial, pairwise

pytestmark = pytest.mark.filterwarnings("ignore::fastgen.DensityWarning")

RNG = np.random.default_rng(5)
REAL = RNG.standard_normal((70, 20)).astype(np.float32)
FAKE = (0.9 * RNG.standard_normal((60, 20)) + 0.1).astype(np.float64)
CHOSEN = RNG.integers(0, 60, (3, 10)), RNG.integers(0, 60, (3, 8))


def pair(function, **options):
    return lambda real, fake, **how: function(real=real, fake=fake, **options, **how)


def two(function, *more, **options):
    return lambda real, fake, **how: function(real, fake, *more, **options, **how)


CALLS = {
    "prdc": pair(fastgen.prdc, k=[1, 4]),
    "precision_recall": pair(fastgen.precision_recall, ties="open"),
    "membership": pair(fastgen.membership),
    "nearest": two(fastgen.nearest, k=3),
    "knn_radii": lambda real, fake, **how: fastgen.knn_radii(fake, [2, 5], **how),
    "kid": pair(fastgen.kid),
    "kid of subsets": pair(fastgen.kid, subsets=4, subset_size=20, seed=3),
    "kid of given subsets": pair(fastgen.kid, subset_indices=CHOSEN),
    "cmmd": pair(fastgen.cmmd),
    "mmd": two(fastgen.mmd, [Polynomial(2), Gaussian("median"), Energy()], permutations=9),
    "log_density": two(fastgen.log_density, [1.0, 3.0]),
    "log_density, whitened": two(fastgen.log_density, covariance="sample"),
    "select_bandwidth": lambda real, fake, **how: fastgen.select_bandwidth(real, **how),
    "select_bandwidth, folds": lambda real, fake, **how: fastgen.select_bandwidth(
        fake, folds=5, **how
    ),
    "heldout_log_likelihood": two(fastgen.heldout_log_likelihood, 2.0),
    "sq_knn": two(pairwise.sq_knn, 2, indices=True),
    "ball_counts": two(pairwise.ball_counts, np.full(70, 20.0), np.full(60, 30.0)),
    "sq_realism": two(pairwise.sq_realism, np.full(70, 20.0)),
    "kernel_sums": two(pairwise.kernel_sums, Gaussian("median")),
    "log_kernel_sums": two(pairwise.log_kernel_sums, 2.0),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_bits_of_host_arrays(name):
    call = CALLS[name]
    expected = call(REAL, FAKE, device="cuda")
    assert_same_bits(call(Packed(REAL), Interface(FAKE)), expected)
    strided = np.repeat(REAL, 2, axis=1)[:, ::2]
    assert_same_bits(call(Packed(strided), Packed(FAKE), device="cuda"), expected)
    assert_same_bits(call(Packed(REAL), FAKE, device="cuda"), expected)


def test_reports():
    metrics = ["kid", "mmd", "cmmd", "prdc", "precision_recall", "kde"]
    for bandwidth in ("cv", 2.0):
        options = {"metrics": metrics, "bandwidth": bandwidth}
        found = fastgen.evaluate(real=Packed(REAL), fake=Packed(FAKE), **options)
        expected = fastgen.evaluate(real=REAL, fake=FAKE, device="cuda", **options)
        assert_same_bits(found.metrics, expected.metrics)
        assert (found.n, found.m, found.d) == (70, 60, 20)
    # FID makes its sums on the host where no library can compute with the array.
    found = fastgen.evaluate(real=Packed(REAL), fake=Packed(FAKE))
    expected = fastgen.evaluate(real=REAL, fake=FAKE)
    assert found.metrics["fid"].value == pytest.approx(expected.metrics["fid"].value, rel=1e-12)
    assert_same_bits(found.metrics["prdc"], expected.metrics["prdc"])


def test_indices_may_be_on_the_device():
    given = tuple(Packed(indices) for indices in CHOSEN)
    found = fastgen.kid(real=Packed(REAL), fake=Packed(FAKE), subset_indices=given)
    assert_same_bits(found, CALLS["kid of given subsets"](REAL, FAKE, device="cuda"))


def test_results_are_plain_in_dictionaries():
    found = fastgen.nearest(Named(REAL), Packed(FAKE))
    assert isinstance(found.distances, Made)
    assert found.to_dict() == fastgen.nearest(REAL, FAKE).to_dict()


def test_bad_numbers_are_named():
    bad = FAKE.copy()
    bad[41, 7] = -np.inf
    for name, call in CALLS.items():
        if name == "select_bandwidth":  # of the other set
            continue
        with pytest.raises(ValueError, match=r"to be finite, got -inf in row 41, column 7$"):
            call(Packed(REAL), Packed(bad))


def test_progress_rises_to_one():
    for call in CALLS.values():
        told: list[float] = []
        call(Packed(REAL), Packed(FAKE), progress=told.append)
        assert told == sorted(told)
        assert told[-1] == 1.0
