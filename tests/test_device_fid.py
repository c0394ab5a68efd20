"""FID of sets on a device: few rows or many, from anywhere, and the line to infinitely many."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from checks import assert_same_bits
from families import DATA_FAMILIES, seeded
from library_arrays import library

from fastgen import Moments, evaluate, fid, inception_score, library_devices, namespaces
from fastgen.answers import as_answers
from fastgen.gaussians import as_sources
from fastgen.numpy_reference.frechet import fid as reference

__all__ = ["library"]  # a fixture


def features(*key, n=60, m=50, d=20):
    """Draw two sets of correlated features."""
    rng = seeded("device fid", *key)
    mixed = rng.standard_normal((d, d)) / math.sqrt(d)
    x, y = rng.standard_normal((n, d)), rng.standard_normal((m, d))
    return x @ mixed, 1.5 * y @ mixed + 0.3


def traces_of(*sets):
    return math.fsum(float(np.var(rows.astype("f8"), axis=0, ddof=1).sum()) for rows in sets)


def test_cuda_is_the_gpu_of_the_sets_and_else_the_current_one(monkeypatch, library):
    x, y = features("places")
    there = namespaces.device_of(library(x))
    current, other = replace(there, name="cuda:0"), replace(there, name="cuda:1")
    monkeypatch.setattr(library_devices, "first_gpu", lambda index: current)
    monkeypatch.setattr(namespaces, "device_of", lambda array: other)
    for device, own in (("cuda", True), ("cuda:all", True), ("cuda:0", False)):
        asked = library_devices.asked_for("fid", device)
        for sets in ((library(x), library(y)), (x, library(y)), (library(x), y)):
            where = as_sources("fid", *sets, asked)[1]
            assert where is (other if own else asked)
        assert as_sources("fid", x, y, asked)[1] is asked
        where = as_answers("inception_score", library(x), None, asked).device
        assert where is (other if own else asked)
        assert as_answers("inception_score", x, None, asked).device is asked
    for asked in (library_devices.asked_for("fid", name) for name in ("cpu", None)):
        where = as_sources("fid", library(x), y, asked)[1]
        assert where is (other if asked is None else None)


# --- against the reference ------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 19, 20, 21, 90])
@pytest.mark.parametrize("m", [2, 19, 20, 21, 60])
def test_any_numbers_of_rows(n, m, library):
    x, y = features("rows", n, m, n=n, m=m)
    expected, scale = reference(real=x, fake=y), traces_of(x, y)
    tolerance = 1e-13 if max(n, m) <= 20 else 1e-10
    for real, fake in ((library(x), library(y)), (x, library(y)), (library(x), y)):
        found = fid(real=real, fake=fake)
        difference = abs(found.value - expected.value)
        assert difference <= tolerance * scale
        assert difference <= found.error_bound + expected.error_bound
        assert found.mean_term == pytest.approx(expected.mean_term, rel=1e-13)
        assert found.value == found.mean_term + found.covariance_term
        assert found.method == "newton_schulz"


@pytest.mark.parametrize("name", DATA_FAMILIES)
def test_all_kinds_of_features(name, library):
    small = name in ("tiny_values", "huge_values", "all_scales", "at_the_limit")
    for n, m, d in ((30, 20, 6), (12, 30, 16)):
        dtype = "float32" if small else "float64"
        x, y = DATA_FAMILIES[name](seeded("fid", name, n), n, d, dtype, m)
        found, expected = fid(real=library(x), fake=library(y)), reference(real=x, fake=y)
        scale = traces_of(x, y) + expected.mean_term
        assert 0 <= found.value < math.inf
        assert abs(found.value - expected.value) <= 1e-9 * scale
        assert abs(found.value - expected.value) <= found.error_bound + expected.error_bound


@pytest.mark.parametrize("shape", [(2, 1), (2, 9), (5, 40), (40, 40), (41, 40), (300, 40)])
def test_a_set_and_itself(shape, library):
    x = seeded("device", "itself").standard_normal(shape)
    for offset in (0.0, 1e6):
        rows = library(x + offset)
        moments = Moments(shape[1])
        moments.update(rows)
        for fake in (rows, library(x[::-1] + offset), moments):
            found = fid(real=rows, fake=fake)
            assert 0 <= found.value <= 1e-10 * traces_of(x)


def test_few_rows_are_known_to_rounding(library):
    # With 2 rows each, the covariances are u u' / 2 and v v' / 2 of the differences u and v.
    x, y = features("few", n=2, m=2, d=300)
    u, v = x[1] - x[0], y[1] - y[0]
    found = fid(real=library(x), fake=library(y))
    expected = 0.5 * (u @ u + v @ v) - abs(u @ v)
    assert found.covariance_term == pytest.approx(expected, rel=1e-13)
    assert found.error_bound <= 1e-11 * traces_of(x, y)


def test_equal_rows_have_no_covariance(library):
    x = np.tile([3.0, -1.0, 0.1], (7, 1))
    y = np.array([[0.0, 1.0, 0.0], [2.0, 1.0, 0.0]])
    for n in (2, 7):
        found = fid(real=library(x[:n]), fake=library(y))
        assert found.covariance_term == pytest.approx(2.0, abs=1e-14)
        assert found.mean_term == pytest.approx(4 + 4 + 0.01, rel=1e-14)


def test_means_at_a_billion_standard_deviations(library):
    for n in (100, 15):
        x, y = features("billion", n=n, m=90)
        found = fid(real=library(x + 1e9), fake=library(y + 1e9))
        expected = reference(real=x + 1e9, fake=y + 1e9)
        difference = abs(found.covariance_term - expected.covariance_term)
        assert difference <= min(1e-12 * traces_of(x, y), found.error_bound + expected.error_bound)


def test_arrays_moments_and_statistics_agree(tmp_path, library):
    x, y = features("sources", n=200, m=150)
    moments = {"there": Moments(20), "here": Moments(20)}
    moments["there"].update(library(y))
    moments["here"].update(y)
    moments["there"].save(tmp_path / "there.npz")
    np.savez(tmp_path / "here.npz", mu=y.mean(axis=0), sigma=np.cov(y.T))  # as pytorch-fid does
    expected = fid(real=x, fake=y)
    sources = [library(y), *moments.values(), tmp_path / "there.npz", tmp_path / "here.npz"]
    for fake in sources:
        found = fid(real=library(x), fake=fake)
        assert abs(found.value - expected.value) <= 1e-13 * traces_of(x, y)
        assert found.method == "newton_schulz"
        on_cpu = fid(real=library(x), fake=fake, device="cpu")
        assert abs(on_cpu.value - expected.value) <= 1e-13 * traces_of(x, y)
        assert on_cpu.method == "eigh"
    assert_same_bits(fid(real=library(x), fake=y, device="cpu"), expected)
    assert_same_bits(fid(real=library(x[:9]), fake=y, device="cpu"), fid(real=x[:9], fake=y))


@pytest.mark.parametrize("method", ["eigh", "eigvals"])
@pytest.mark.parametrize("n", [12, 200])
def test_methods_of_lapack_take_sets_of_a_device(method, n, library):
    x, y = features("lapack", n=n, m=150)
    found = fid(real=library(x), fake=library(y), method=method)
    expected = fid(real=x, fake=y, method=method)
    tolerance = 1e-6 if method == "eigvals" else 1e-12
    assert abs(found.value - expected.value) <= tolerance * traces_of(x, y)
    assert found.method == method


@pytest.mark.parametrize("n", [12, 60])
@pytest.mark.parametrize("dtype", ["float16", "float32", "int8", "int64"])
def test_dtypes_of_features(n, dtype, library):
    x, y = seeded("device", "dtypes").integers(-50, 50, (2, n, 20))
    expected = fid(real=library(x.astype("f8")), fake=library(y.astype("f8")))
    sets = library(x.astype(dtype)), library(y.astype(dtype))
    assert_same_bits(fid(real=sets[0], fake=sets[1]), expected)
    on_cpu = fid(real=sets[0], fake=sets[1], device="cpu")
    assert_same_bits(on_cpu, fid(real=x, fake=y))


@pytest.mark.parametrize("seed", [None, 7])
@pytest.mark.parametrize("m", [4, 50, 300])
def test_the_line_to_infinitely_many_rows(m, seed, library, monkeypatch):
    monkeypatch.setattr("fastgen.gaussians._BLOCK_BYTES", 8 * 20 * 7)  # blocks of 7 rows
    x, y = features("line", m, n=80, m=m)
    found = fid(real=library(x), fake=library(y), extrapolate=True, seed=seed)
    expected = fid(real=x, fake=y, extrapolate=True, seed=seed)
    assert found.sizes == expected.sizes
    scale = traces_of(x, y)
    assert np.abs(np.subtract(found.values, expected.values)).max() <= 1e-10 * scale
    assert abs(found.value - expected.value) <= found.error_bound + expected.error_bound
    # Each is that of its rows alone, to the bit: moments do not depend on the batches.
    order = np.random.default_rng(seed or 0).permutation(m)
    for size, value in zip(found.sizes, found.values, strict=True):
        assert value == fid(real=library(x), fake=library(y[order[:size]])).value


def test_the_same_bits_every_time(library):
    x, y = features("again", n=2500, m=1500)
    expected = fid(real=library(x), fake=library(y))
    for threads in (1, 2):
        assert_same_bits(fid(real=library(x), fake=library(y), threads=threads), expected)


def test_progress_goes_from_0_to_1(library):
    for n, m in ((3000, 5000), (10, 15)):
        x, y = features("progress", n=n, m=m)
        seen = []
        fid(real=library(x), fake=library(y), progress=seen.append)
        assert seen == sorted(seen)
        assert seen[-1] == 1.0


def test_evaluate_does_the_same(library):
    x, y = features("evaluate", n=100, m=90)
    logits = 3 * seeded("device", "logits").standard_normal((60, 7))
    report = evaluate(
        real=library(x), fake=library(y), metrics=["fid", "is"], logits=library(logits)
    )
    assert_same_bits(report.metrics["fid"], fid(real=library(x), fake=library(y)))
    assert_same_bits(report.metrics["is"], inception_score(logits=library(logits)))
    assert (report.n, report.m, report.d) == (100, 90, 20)
    alone = evaluate(real=library(x), fake=library(y), metrics=["is"], logits=logits)
    assert_same_bits(alone.metrics["is"], inception_score(logits=logits))


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda x: x[:1], "`real` with at least 2 rows, got 1; a single row has no covariance"),
        (lambda x: x[0], "`real` of shape (n, d), got shape (2,)"),
        (lambda x: x[:, :1], "`fake` with d = 1 features like `real`, got 2 features"),
        (lambda x: x * np.nan, "`real` to be finite, got nan in row 0, column 0"),
        (lambda x: x[:2] * np.nan, "`real` to be finite, got nan in row 0, column 0"),
        (lambda x: x * 2.0**500, "`real` within 2^500 in magnitude"),
        (lambda x: x * 2.0**264, "`real` with variances of 0 or from 1e-150 to 1e+150"),
    ],
)
def test_bad_sets(change, text, library):
    x = np.arange(12.0).reshape(6, 2) ** 2
    for method in ("auto", "eigh"):
        with pytest.raises(ValueError, match=f"^fid: expected {re.escape(text)}"):
            fid(real=library(change(x)), fake=library(x), method=method)
