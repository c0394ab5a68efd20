"""Densities integrate to 1, and are those of scikit-learn and SciPy where these are right."""

from __future__ import annotations

import math

import families
import numpy as np
import pytest
from exact_density import WORKED, some_covariance, two_sets

import fastgen
from fastgen import numpy_reference as reference

pytestmark = pytest.mark.filterwarnings("ignore::fastgen.DensityWarning")

ERROR = {"float32": 1e-5, "float64": 1e-10}


def test_the_worked_example():
    # The textbook figure of six bumps with variance 2.25.
    (found,) = fastgen.log_density(np.array([[-0.5]]), WORKED, 1.5)
    assert found == pytest.approx(-2.119071537833929, abs=1e-10)
    assert math.exp(found) == pytest.approx(0.1201431250894291, abs=1e-11)


# --- integrals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("h", [0.02, 0.7, "scott", "silverman"])
@pytest.mark.parametrize("weights", [None, [3.0, 0.0, 1.0, 5.0, 0.1, 2.0]], ids=str)
def test_density_integrates_to_one_on_a_line(h, weights, dtype):
    # Equal steps of half a bandwidth leave 1e-16 of a Gaussian's integral.
    step = 2.0**-7 if h == 0.02 else 2.0**-3
    x = np.arange(-20.0, 25.0, step).astype(dtype)[:, np.newaxis]
    for covariance in (None, [[2.5]], "sample"):
        log_p = fastgen.log_density(
            x, WORKED.astype(dtype), h, weights=weights, covariance=covariance
        )
        assert np.exp(log_p).sum() * step == pytest.approx(1.0, abs=ERROR[dtype])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("covariance", [None, "sample", [[2.0, -0.9], [-0.9, 0.5]]], ids=str)
@pytest.mark.parametrize("weighted", [False, True])
def test_density_integrates_to_one_on_a_plane(covariance, weighted, dtype):
    _, samples = two_sets("plane", n=1, m=7, d=2)
    x = np.arange(-14.0, 14.0, 0.125)
    points = np.stack(np.meshgrid(x, x), axis=-1).reshape(-1, 2)
    weights = [1.0, 2.0, 0.0, 0.5, 1.0, 3.0, 0.01] if weighted else None
    log_p = fastgen.log_density(
        points.astype(dtype),
        samples.astype(dtype),
        [0.6, 1.1],
        covariance=covariance,
        weights=weights,
    )
    np.testing.assert_allclose(np.exp(log_p).sum(axis=0) / 64, 1.0, atol=ERROR[dtype])


def test_one_sample_is_one_bump():
    for d in (1, 5, 784):
        points, sample = two_sets("one", n=3, m=1, d=d)
        found = fastgen.log_density(points, sample, 0.7)
        square = (((points - sample) / 0.7) ** 2).sum(axis=1)
        expected = -square / 2 - d * math.log(0.7) - d / 2 * math.log(2 * math.pi)
        np.testing.assert_allclose(found, expected, rtol=2.0**-44, atol=1e-10)


# --- other libraries ------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 3, 16, 64])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_identity_is_scikit_learn(d, dtype):
    neighbors = pytest.importorskip("sklearn.neighbors")
    points, samples = (x.astype(dtype) for x in two_sets("sklearn", n=15, m=80, d=d))
    weights = families.seeded("weights").uniform(0.1, 3.0, 80)
    for h in ("scott", "silverman", 0.6, 2.0):
        model = neighbors.KernelDensity(bandwidth=h, rtol=0, atol=0).fit(samples)
        found = fastgen.log_density(points, samples, h)
        close = {"rtol": 1e-11, "atol": ERROR[dtype]}
        np.testing.assert_allclose(found, model.score_samples(points), **close)
        if not isinstance(h, str):  # its factors do not look at weights
            model.fit(samples, sample_weight=weights)
            found = fastgen.log_density(points, samples, h, weights=weights)
            np.testing.assert_allclose(found, model.score_samples(points), **close)


@pytest.mark.parametrize("d", [1, 2, 5, 20])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sample_covariance_is_scipy(d, weighted, dtype):
    from scipy import stats

    points, samples = (x.astype(dtype) for x in two_sets("scipy", n=20, m=60, d=d))
    weights = families.seeded("weights").uniform(0.0, 3.0, 60) if weighted else None
    for h in ("scott", "silverman", 0.4, None):
        # In float64: of float32 rows, it computes the covariance in float32.
        model = stats.gaussian_kde(samples.T.astype(np.float64), h, weights)
        found = fastgen.log_density(points, samples, h, covariance="sample", weights=weights)
        # Whitened rows are float64 whatever the samples are.
        np.testing.assert_allclose(found, model.logpdf(points.T), rtol=1e-10, atol=1e-10)


# --- covariance -----------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 2, 6, 30])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_covariance_is_that_of_the_reference(d, dtype):
    points, samples = (x.astype(dtype) for x in two_sets("covariance", n=9, m=80, d=d))
    wide = points.astype(np.float64), samples.astype(np.float64)
    weights = families.seeded("weights").uniform(0.0, 3.0, 80)
    for given in ("sample", some_covariance(d), some_covariance(d).tolist()):
        for h in (0.05, None, [0.3, 1.3]):
            for w in (None, weights):
                how = {"covariance": given, "weights": w}
                found = fastgen.log_density(points, samples, h, **how)
                expected = reference.log_density(*wide, h, **how)
                np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)
                how["leave_one_out"] = True
                found = fastgen.log_density(None, samples, h, **how)
                expected = reference.log_density(None, wide[1], h, **how)
                np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


def test_covariance_of_rows_far_from_the_origin():
    points, samples = two_sets("offset", n=9, m=80, d=3)
    points, samples = (np.round(256 * x) / 256 for x in (points, samples))  # moved without rounding
    moved = np.array([2.0**20, -3.0, 2.0**30])
    for given in ("sample", some_covariance(3)):
        np.testing.assert_allclose(
            fastgen.log_density(points + moved, samples + moved, 0.3, covariance=given),
            fastgen.log_density(points, samples, 0.3, covariance=given),
            rtol=1e-10,
        )


def test_covariance_in_any_units():
    points, samples = two_sets("units", n=9, m=80, d=3)
    expected = fastgen.log_density(points, samples, "scott", covariance="sample")
    scales = np.array([1e-60, 1.0, 1e70])  # the condition number that counts is still the same
    found = fastgen.log_density(points * scales, samples * scales, "scott", covariance="sample")
    np.testing.assert_allclose(found, expected - 10 * math.log(10), rtol=1e-9)
    found = fastgen.log_density(
        points * scales, samples * scales, 1.0, covariance=np.diag(scales**2)
    )
    expected = fastgen.log_density(points, samples, 1.0) - 10 * math.log(10)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_covariance_in_blocks_of_rows(monkeypatch):
    points, samples = two_sets("blocks", n=50, m=90, d=4)
    weights = families.seeded("weights").uniform(0.0, 3.0, 90)
    for w in (None, weights):
        expected = fastgen.log_density(points, samples, covariance="sample", weights=w)
        with monkeypatch.context() as patch:
            patch.setattr("fastgen.covariances.BLOCK_BYTES", 7 * 8 * 4)
            found = fastgen.log_density(points, samples, covariance="sample", weights=w)
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_covariance_rounded_to_float32_is_symmetric_enough():
    covariance = some_covariance(3)
    rounded = covariance.copy()
    rounded[0, 1] *= 1 + 1e-7
    points, samples = two_sets("float32", n=3, m=5, d=3)
    np.testing.assert_allclose(
        fastgen.log_density(points, samples, covariance=rounded),
        fastgen.log_density(points, samples, covariance=covariance),
        rtol=1e-6,
    )


# --- weights, leaving out -------------------------------------------------------------------------


@pytest.mark.parametrize("d", [2, 20])
@pytest.mark.parametrize("covariance", [False, True])
def test_weights_are_repetitions(d, covariance):
    points, samples = two_sets("repeat", n=8, m=10, d=d)
    given = some_covariance(d) if covariance else None
    counts = np.array([1, 4, 0, 2, 7, 1, 0, 3, 1, 5])
    repeated = np.repeat(samples, counts, axis=0)
    expected = fastgen.log_density(points, repeated, 0.4, covariance=given)
    for weights in (counts, counts * 0.3, counts.astype("float32"), counts * 1e-300):
        found = fastgen.log_density(points, samples, 0.4, covariance=given, weights=weights)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("d", [1, 20])
def test_a_sample_without_weight_is_no_nearest_one(d):
    samples, points = np.zeros((2, d)), np.zeros((1, d))
    samples[1] = 1000.0
    found = fastgen.log_density(points, samples, 1.0, weights=[0.0, 1.0])
    np.testing.assert_allclose(found, fastgen.log_density(points, samples[1:], 1.0), rtol=1e-15)
    found = fastgen.log_density(points, samples, 1.0, weights=[1e-200, 1.0])
    expected = -200 * math.log(10) - d / 2 * math.log(2 * math.pi)
    assert found[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("weights", [None, [0.0, 2.0, 1e-30, 1.0, 0.0, 7.0, 1.0, 1.0]], ids=str)
@pytest.mark.parametrize("d", [2, 20])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_leaving_one_out_is_dropping_the_row(d, weights, dtype):
    samples = families.half_equal(families.seeded("drop", d), 8, d, dtype, 2)[0]
    for covariance in (None, some_covariance(d)):
        how = {"covariance": covariance, "weights": weights}
        found = fastgen.log_density(samples, samples, [0.4, 3.0], leave_one_out=True, **how)
        for row in range(8):
            rest = None if weights is None else np.delete(weights, row)
            expected = fastgen.log_density(
                samples[row : row + 1],
                np.delete(samples, row, axis=0),
                [0.4, 3.0],
                covariance=covariance,
                weights=rest,
            )
            np.testing.assert_allclose(found[row], expected[0], rtol=1e-11, atol=ERROR[dtype])


def test_one_row_nearly_all_the_weight_left_out():
    x = np.array([[0.0], [1.0], [2.0]])
    found = fastgen.log_density(x, x, 1.0, weights=[1e30, 1.0, 3.0], leave_one_out=True)
    expected = math.log((math.exp(-0.5) + 3 * math.exp(-2)) / 4) - 0.5 * math.log(2 * math.pi)
    assert found[0] == pytest.approx(expected, abs=1e-10)
