"""FID of features and of their statistics: few rows, any dtype, and the line to infinitely many."""

from __future__ import annotations

import math

import numpy as np
import pytest
from checks import assert_same_bits
from families import DATA_FAMILIES, seeded
from frechet_cases import from_roots

import fastgen
from fastgen import FrechetFit, Moments, fid, frechet_distance
from fastgen.numpy_reference.frechet import fid as reference

METHODS = ("auto", "eigh", "newton_schulz")


def features(*key, n=60, m=50, d=20):
    """Draw two sets of correlated features."""
    rng = seeded("fid", *key)
    mixed = rng.standard_normal((d, d)) / math.sqrt(d)
    x, y = rng.standard_normal((n, d)), rng.standard_normal((m, d))
    return x @ mixed, 1.5 * y @ mixed + 0.3


def moments(rows):
    found = Moments(rows.shape[1])
    found.update(rows)
    return found


def traces(*sets):
    return math.fsum(float(np.var(rows.astype("f8"), axis=0, ddof=1).sum()) for rows in sets)


# --- against the reference ------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 19, 20, 21, 90])
@pytest.mark.parametrize("m", [2, 19, 20, 21, 60])
def test_any_numbers_of_rows(n, m):
    x, y = features("rows", n, m, n=n, m=m)
    found, expected = fid(real=x, fake=y), reference(real=x, fake=y)
    scale = traces(x, y)
    # Rows that are their own factor lose nothing; covariances may, as much as their condition has.
    tolerance = 1e-13 if max(n, m) <= 20 else 1e-10
    difference = abs(found.value - expected.value)
    assert difference <= tolerance * scale
    assert difference <= found.error_bound + expected.error_bound
    assert found.mean_term == pytest.approx(expected.mean_term, rel=1e-14)
    assert found.value == found.mean_term + found.covariance_term
    assert found.method == "eigh"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", DATA_FAMILIES)
def test_all_kinds_of_features(method, name):
    dtype = "float32" if name in ("tiny_values", "huge_values", "all_scales") else "float64"
    if name == "at_the_limit":
        dtype = "float32"  # variances above 1e150 are refused
    for n, m, d in ((30, 20, 6), (12, 30, 16)):
        x, y = DATA_FAMILIES[name](seeded("fid", name, n), n, d, dtype, m)
        found = fid(real=x, fake=y, method=method)
        expected = reference(real=x, fake=y)
        scale = traces(x, y) + expected.mean_term
        assert 0 <= found.value < math.inf
        assert abs(found.value - expected.value) <= 1e-9 * scale
        assert abs(found.value - expected.value) <= found.error_bound + expected.error_bound


@pytest.mark.parametrize("shape", [(2, 1), (2, 9), (5, 40), (40, 40), (41, 40), (300, 40)])
@pytest.mark.parametrize("method", METHODS)
def test_a_set_and_itself(shape, method):
    x = seeded("fid", "itself").standard_normal(shape)
    for offset in (0.0, 1e6):
        rows = x + offset
        for fake in (rows, rows[::-1], rows.copy(), moments(rows)):
            found = fid(real=rows, fake=fake, method=method)
            assert 0 <= found.value <= 1e-10 * traces(rows), type(fake)


def test_few_rows_are_known_to_rounding():
    # With 2 rows each, the covariances are u u' / 2 and v v' / 2 of the differences u and v.
    x, y = features("few", n=2, m=2, d=300)
    u, v = x[1] - x[0], y[1] - y[0]
    found = fid(real=x, fake=y)
    expected = 0.5 * (u @ u + v @ v) - abs(u @ v)
    assert found.covariance_term == pytest.approx(expected, rel=1e-13)
    assert found.error_bound <= 1e-12 * traces(x, y)


@pytest.mark.parametrize(("n", "m"), [(5, 30), (30, 5), (39, 200), (200, 40)])
def test_few_rows_beside_many(n, m):
    x, y = features("mixed", n, m, n=n, m=m, d=40)
    factors = [(a - a.mean(axis=0)).T / math.sqrt(len(a) - 1) for a in (x, y)]
    expected, scale = from_roots(*factors)
    for method in METHODS:
        found = fid(real=x, fake=y, method=method)
        difference = abs(found.covariance_term - expected)
        assert difference <= min(1e-9 * scale, found.error_bound), method


def test_equal_rows_have_no_covariance():
    x = np.tile([3.0, -1.0, 0.1], (7, 1))
    y = np.array([[0.0, 1.0, 0.0], [2.0, 1.0, 0.0]])
    for n in (2, 7):
        found = fid(real=x[:n], fake=y)
        assert found.covariance_term == pytest.approx(2.0, abs=1e-14)
        assert found.mean_term == pytest.approx(4 + 4 + 0.01, rel=1e-14)
        assert fid(real=x[:n], fake=x[:2] + 1).value == 3.0


@pytest.mark.parametrize("n", [8, 200])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_far_means(n, dtype):
    # Integers below 2^9 beside 2^k: exact in the dtype, so that moving them rounds nothing.
    far = 2.0 ** (14 if dtype == "float32" else 40)
    x, y = seeded("fid", "far").integers(-256, 257, (2, n, 16))
    expected = reference(real=x, fake=y)
    moved = [(a + far).astype(dtype) for a in (x, y)]
    for real, fake in (moved, map(moments, moved)):
        found = fid(real=real, fake=fake)
        difference = abs(found.covariance_term - expected.covariance_term)
        assert difference <= min(1e-11 * traces(x, y), found.error_bound + expected.error_bound)
        # A mean is one float64.
        apart, rounding = math.sqrt(expected.mean_term), 2 * 2.0**-53 * far * math.sqrt(16)
        difference = abs(found.mean_term - expected.mean_term)
        assert difference <= 2 * rounding * apart + rounding**2 + 1e-12 * expected.mean_term


def test_means_at_a_billion_standard_deviations():
    x, y = features("billion", n=100, m=90)
    found = fid(real=x + 1e9, fake=y + 1e9)
    expected = reference(real=x + 1e9, fake=y + 1e9)
    assert abs(found.covariance_term - expected.covariance_term) <= 1e-12 * traces(x, y)


# --- where the numbers come from ------------------------------------------------------------------


@pytest.mark.parametrize("method", [*METHODS, "eigvals"])
def test_arrays_moments_and_statistics_agree(tmp_path, method):
    x, y = features("sources", n=200, m=150)
    np.savez(tmp_path / "x.npz", mu=x.mean(axis=0), sigma=np.cov(x.T))  # as pytorch-fid does
    moments(y).save(tmp_path / "y.npz")
    expected = fid(real=x, fake=y, method=method)
    for real in (x, moments(x), tmp_path / "x.npz", str(tmp_path / "x.npz")):
        for fake in (y, moments(y), tmp_path / "y.npz"):
            found = fid(real=real, fake=fake, method=method)
            assert abs(found.value - expected.value) <= 1e-13 * traces(x, y)
            assert found.method == expected.method


def test_fid_of_rows_is_the_distance_of_their_moments():
    x, y = features("distance", n=200, m=150)
    one, other = moments(x), moments(y)
    expected = frechet_distance(one.mean, one.covariance, other.mean, other.covariance)
    assert_same_bits(fid(real=x, fake=y), expected)
    assert_same_bits(fid(real=one, fake=other), expected)


@pytest.mark.parametrize("n", [12, 60])
def test_dtypes(n):
    x, y = seeded("fid", "dtypes").integers(-50, 50, (2, n, 20))
    expected = fid(real=x.astype("f8"), fake=y.astype("f8"))
    for dtype in ("float16", "float32", "int8", "int64", ">f8"):
        found = fid(real=x.astype(dtype), fake=y.astype(dtype))
        assert_same_bits(found, expected, dtype)
    assert_same_bits(fid(real=x.astype("f2"), fake=y.astype("f8")), expected)


@pytest.mark.parametrize("n", [12, 60])
def test_layouts(n):
    x, y = features("layouts", n=n, m=n)
    expected = fid(real=x, fake=y)
    assert_same_bits(fid(real=np.asfortranarray(x), fake=y[::-1][::-1]), expected)
    apart = np.zeros((2 * n, 40))
    apart[::2, ::2] = x
    assert_same_bits(fid(real=apart[::2, ::2], fake=y), expected)


@pytest.mark.parametrize("n", [12, 60])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16"])
def test_torch_tensors(n, dtype):
    torch = pytest.importorskip("torch")
    x, y = seeded("fid", "torch").integers(-50, 50, (2, n, 20)).astype("f8")
    tensors = [torch.tensor(rows).to(getattr(torch, dtype)) for rows in (x, y)]
    for method in METHODS:
        expected = fid(real=x, fake=y, method=method)
        assert_same_bits(fid(real=tensors[0], fake=tensors[1], method=method), expected)


@pytest.mark.parametrize("n", [12, 60])
def test_paths(tmp_path, n):
    x, y = features("paths", n=n, m=n)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "y.npz", y)
    np.savez(tmp_path / "more.npz", mu=y, other=x)  # no statistics, for want of sigma
    expected = fid(real=x, fake=y)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for real in (tmp_path / "x.npy", str(tmp_path / "x.npy"), mapped, f"{tmp_path}/more.npz:other"):
        assert_same_bits(fid(real=real, fake=tmp_path / "y.npz"), expected)


@pytest.mark.parametrize(("n", "m"), [(15, 20), (40, 15), (3000, 2500)])
def test_threads_do_not_change_a_bit(n, m):
    x, y = features("threads", n=n, m=m)
    for more in ({}, {"extrapolate": True}, {"method": "newton_schulz"}):
        expected = fid(real=x, fake=y, threads=1, **more)
        for threads in (2, 5, None):
            assert_same_bits(fid(real=x, fake=y, threads=threads, **more), expected)


@pytest.mark.parametrize(("n", "m"), [(15, 20), (40, 15), (400, 300)])
def test_symmetric_in_its_arguments(n, m):
    x, y = features("symmetric", n=n, m=m)
    one, other = fid(real=x, fake=y), fid(real=y, fake=x)
    assert_same_bits(other, one)


@pytest.mark.parametrize("n", [12, 60])
def test_powers_of_two_scale_to_the_bit(n):
    x, y = features("powers", n=n, m=n)
    expected = fid(real=x, fake=y)
    for power in (-100, -3, 1, 100):
        found = fid(real=x * 2.0**power, fake=y * 2.0**power)
        factor = 4.0**power
        assert found.value == factor * expected.value
        assert found.error_bound == factor * expected.error_bound


def test_one_feature():
    # Means 1 and 4, variances 2 and 8.
    for copies in (1, 3):
        real = np.tile([[0.0], [2.0]], (copies, 1))
        found = fid(real=real, fake=np.array([[2.0], [6.0]]))
        variance = 2 * copies / (2 * copies - 1)
        assert found.mean_term == 9.0
        expected = (math.sqrt(variance) - math.sqrt(8)) ** 2
        assert found.covariance_term == pytest.approx(expected, rel=1e-13)


def test_the_sets_stay_as_they_are():
    x, y = features("untouched")
    copies = x.copy(), y.copy()
    x.flags.writeable = y.flags.writeable = False
    for more in ({}, {"extrapolate": True}, {"method": "newton_schulz"}):
        fid(real=x, fake=y, **more)
        fid(real=x[:9], fake=y[:9], **more)
    assert_same_bits([x, y], list(copies))
    one = moments(x)
    before = one.count, one.mean, one.covariance
    fid(real=one, fake=y, extrapolate=True)
    assert_same_bits([one.count, one.mean, one.covariance], list(before))


# --- the line to infinitely many rows -------------------------------------------------------------


@pytest.mark.parametrize("m", [4, 5, 17, 50, 300])
@pytest.mark.parametrize("seed", [None, 0, 7])
def test_the_subsets_are_the_first_rows_of_a_permutation(m, seed):
    x, y = features("subsets", m, n=80, m=m)
    found = fid(real=x, fake=y, extrapolate=True, seed=seed)
    assert isinstance(found, FrechetFit)
    least = min(5000, max(m // 10, 2))
    assert found.sizes == tuple(np.unique(np.linspace(least, m, 15).astype(int)).tolist())
    assert len(found.values) == len(found.sizes)
    order = np.random.default_rng(seed or 0).permutation(m)
    for size, value in zip(found.sizes, found.values, strict=True):
        expected = reference(real=x, fake=y[order[:size]])
        alone = fid(real=x, fake=y[order[:size]])
        assert value == alone.value  # to the bit: moments do not depend on the batches
        assert abs(value - expected.value) <= alone.error_bound + expected.error_bound


def test_fifteen_subsets_from_five_thousand_rows_on():
    x, y = seeded("fid", "large").standard_normal((2, 60_000, 2), dtype=np.float32)
    found = fid(real=x, fake=y, extrapolate=True)
    assert len(found.sizes) == 15
    assert (found.sizes[0], found.sizes[-1]) == (5000, 60_000)
    found = fid(real=x, fake=y[:20_000], extrapolate=True)
    assert (found.sizes[0], found.sizes[-1]) == (2000, 20_000)


@pytest.mark.parametrize("method", ["auto", "newton_schulz", "eigvals"])
def test_the_value_is_that_of_the_line_at_zero(method):
    x, y = features("line", n=300, m=400)
    found = fid(real=x, fake=y, extrapolate=True, seed=3, method=method)
    slope, at_zero = np.polyfit(1 / np.array(found.sizes), found.values, 1)
    assert slope > 0
    assert found.value == pytest.approx(at_zero, rel=1e-10)
    assert found.value == found.mean_term + found.covariance_term
    plain = fid(real=x, fake=y, method=method)
    assert found.values[-1] == pytest.approx(plain.value, rel=1e-9)
    assert found.method == plain.method
    if method == "eigvals":
        assert math.isnan(found.error_bound)
    else:
        assert 0 < found.error_bound <= 1e-5 * found.value


def test_a_seed_decides():
    x, y = features("seeds", n=100, m=200)
    first = fid(real=x, fake=y, extrapolate=True, seed=5)
    assert_same_bits(fid(real=x, fake=y, extrapolate=True, seed=5), first)
    assert_same_bits(fid(real=x, fake=y, extrapolate=True, seed=np.int64(5)), first)
    other = fid(real=x, fake=y, extrapolate=True, seed=6)
    assert other.value != first.value
    assert other.sizes == first.sizes
    assert_same_bits(fid(real=x, fake=y, seed=5), fid(real=x, fake=y, seed=6))
    none = fid(real=x, fake=y, extrapolate=True)
    assert_same_bits(none, fid(real=x, fake=y, extrapolate=True, seed=0))


def test_the_reference_set_is_taken_as_it_is():
    x, y = features("as it is", n=100, m=200)
    expected = fid(real=x, fake=y, extrapolate=True)
    found = fid(real=moments(x), fake=y, extrapolate=True)
    assert_same_bits(found, expected)


def test_extrapolation_takes_the_bias_away():
    # The true distance is 0.16 of the means, and the true moments of the reference set are given.
    m, d = 2000, 16
    plain, lines = [], []
    for sample in range(8):
        rng = seeded("fid", "bias", sample)
        real = rng.standard_normal((40 * m, d), dtype=np.float32)
        fake = rng.standard_normal((m, d), dtype=np.float32) + np.float32(0.1)
        truth = moments(real)
        plain.append(fid(real=truth, fake=fake).value)
        line = fid(real=truth, fake=fake, extrapolate=True)
        assert line.value < line.values[-1]
        lines.append(line.value)
    # FID is too large by about d (d + 5) / 4 m = 0.042 for two samples of normal distributions.
    assert np.mean(plain) - 0.16 > 0.02
    assert abs(np.mean(lines) - 0.16) < 0.5 * (np.mean(plain) - 0.16)


def test_a_line_below_zero_is_zero():
    lowest = []
    for sample in range(6):
        x, y = seeded("fid", "below", sample).standard_normal((2, 60, 8))
        found = fid(real=x, fake=y, extrapolate=True)
        assert found.value >= 0
        assert found.mean_term >= 0
        assert found.covariance_term >= 0
        at_zero = np.polyfit(1 / np.array(found.sizes), found.values, 1)[1]
        lowest.append(at_zero)
        if at_zero < 0:
            assert found.value < 0.2 * found.values[-1]
    assert min(lowest) < 0  # or this is not the case that was meant
    x = np.ones((20, 3))
    assert fid(real=x, fake=x, extrapolate=True).value == 0


# --- while it runs --------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [{}, {"extrapolate": True}])
@pytest.mark.parametrize(("n", "m"), [(3000, 5000), (10, 15)])
def test_progress_goes_from_0_to_1(more, n, m):
    x, y = features("progress", n=n, m=m)
    seen = []
    found = fid(real=x, fake=y, progress=seen.append, **more)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert all(0 <= fraction <= 1 for fraction in seen)
    assert_same_bits(found, fid(real=x, fake=y, **more))


@pytest.mark.parametrize("more", [{}, {"extrapolate": True}])
def test_an_interrupt_leaves_nothing_behind(more):
    x, y = features("interrupt", n=3000, m=5000)
    expected = fid(real=x, fake=y, **more)

    def stop(fraction):
        raise KeyboardInterrupt

    for real in (x, moments(x)):
        with pytest.raises(KeyboardInterrupt):
            fid(real=real, fake=y, progress=stop, **more)
        assert_same_bits(fid(real=real, fake=y, **more), expected)


def test_enough_memory_is_enough():
    x, y = features("memory")
    expected = fid(real=x, fake=y)
    assert_same_bits(fid(real=x, fake=y, memory="200MB"), expected)
    assert_same_bits(fastgen.fid(real=x, fake=y, device="cpu"), expected)
