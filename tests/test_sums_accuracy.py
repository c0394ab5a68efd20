"""MMD, KID, CMMD and sums of kernels against the reference, within the errors of `sum_errors`."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import families
import numpy as np
import pytest
from checks import Array, remembered_distances
from sum_errors import Sample, SumErrors

import fastgen
from fastgen import (
    Energy,
    Gaussian,
    Kernel,
    Laplacian,
    Polynomial,
    RationalQuadratic,
    pairwise,
    sums,
)
from fastgen import numpy_reference as reference
from fastgen.estimators import ESTIMATORS, KernelSums, standard_error
from fastgen.session import Rows, Session

core = pytest.importorskip("fastgen._core", reason="the compiled module has to be built")

DTYPES = ("float16", "float32", "float64")
ISAS = core.instruction_sets()

# Every family and dtype meets one width of each row, and one of its numbers of rows.
SWEEPS = (
    ((1, 2, 3, 7), (37, 130, 61)),
    ((8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100), (130, 61, 203)),
    ((127, 128, 129, 255, 257, 768, 2048), (41, 77, 30)),
)


@dataclass(frozen=True)
class Case:
    """A data family at one size; `number` moves the choices that change from case to case."""

    family: str
    n: int
    d: int
    dtype: str
    number: int
    m: int | None = None

    def __str__(self) -> str:
        m = "" if self.m is None else f"-m={self.m}"
        return f"{self.family}-n={self.n}{m}-d={self.d}-{self.dtype}"

    def data(self) -> tuple[Array, Array]:
        family = (families.DATA_FAMILIES | families.FLOAT64_FAMILIES)[self.family]
        return family(families.seeded("sums", str(self)), self.n, self.d, self.dtype, self.m)


def _swept() -> list[Case]:
    cases: dict[str, Case] = {}

    def add(*size: object) -> None:
        case = Case(*size, len(cases))
        cases.setdefault(str(case), case)

    for f, family in enumerate([*families.DATA_FAMILIES, *families.FLOAT64_FAMILIES]):
        for t, dtype in enumerate(DTYPES):
            if family in families.FLOAT64_FAMILIES and dtype != "float64":
                continue
            for widths, sizes in SWEEPS:
                add(family, sizes[(f + t) % len(sizes)], widths[(f + 3 * t) % len(widths)], dtype)
    for widths, sizes in SWEEPS:
        for w, d in enumerate(widths):
            add("relu", sizes[w % len(sizes)], d, "float32")
    return list(cases.values())


def kernels_of(x: Array, y: Array) -> list[Kernel]:
    """Kernels of every shape, narrow and wide, in the units of the rows."""
    pooled = np.concatenate([x, y]).astype(np.float64)
    largest = float(np.abs(pooled).max()) or 1.0
    norms = np.linalg.norm(pooled / largest, axis=1)
    most = float(norms.max() or 1.0) * largest
    size = float(np.median(norms)) * largest or most
    if size < 1e-150:  # no number is small enough for their bandwidths
        return [Energy(), Polynomial(1, 1e300, 0.0), Polynomial(3, 1e300, 1.0), Energy()]
    if size > 1e149:  # and 2^500 is the largest
        return [Polynomial(d, size**-2, c) for d, c in ((1, 0.0), (2, 1.0), (3, 0.5), (9, 0.1))]
    return [
        Polynomial(3, most**-2, 1.0),
        Gaussian(size),
        Energy(),
        Laplacian(size / 30),
        RationalQuadratic(0.7, size),
        Polynomial(1, size**-2, 0.0),
        Gaussian(size / 50),
        Laplacian(size),
        Gaussian(50 * size),
        Polynomial(7, most**-2 / 2, 0.3),
        Gaussian(size) + Polynomial(2, most**-2, 1.0) + Laplacian(2 * size) + Energy(),
        RationalQuadratic(3.0, size / 20),
    ]


def summed(x: Array, y: Array, kernel: Kernel, isa: str, threads: int = 1, **how: object):
    session = Session("mmd", isa=isa, threads=threads)
    (found,) = sums.kernel_sums(session, Rows(x), Rows(y), [kernel], **how)
    return found


def check(sample: Sample, kernel: Kernel, estimator: str, isas=ISAS) -> None:
    """Compare the estimate and its standard error, for every instruction set."""
    x, y = sample.wide_x, sample.wide_y
    expected = reference.mmd(x, y, kernel, estimator)
    errors = SumErrors(sample, kernel)
    blocks = [reference.kernel_matrix(*pair, kernel) for pair in ((x, x), (x, y), (y, y))]
    deviation = max(float(block.std()) for block in blocks)
    for turn, isa in enumerate(isas):
        found = summed(sample.x, sample.y, kernel, isa, 1 + turn % 3)
        value = ESTIMATORS[estimator](found)[0]
        assert abs(value - expected.value) <= errors.of_value(), f"{kernel} {estimator} {isa}"
        error = standard_error(found)[0]
        if np.isnan(expected.standard_error):
            assert np.isnan(error)
        elif np.abs(blocks[1]).max() > 1e-150:  # else the squares vanish, which is tested below
            off = abs(error**2 - expected.standard_error**2)
            assert off <= errors.of_variance(deviation), f"{kernel} standard error {isa}"


def check_rows(sample: Sample, kernel: Kernel, isa: str, *, alone: bool) -> None:
    """Compare the sums of each row over the other set, or over the other rows of its own."""
    sample = sample.alone() if alone else sample
    y, wide_y = (None, None) if alone else (sample.y, sample.wide_y)
    errors = SumErrors(sample, kernel).xy.both()
    largest = np.abs(reference.kernel_matrix(sample.wide_x, sample.wide_y, kernel))
    allowed = (errors + 2.0**-48 * largest).sum(axis=1)
    found = pairwise.kernel_sums(sample.x, y, kernel, isa=isa)
    off = np.abs(found - reference.kernel_sums(sample.wide_x, wide_y, kernel))
    assert np.all(off <= allowed), f"{kernel} {isa} row {np.argmax(off - allowed)}"


@pytest.mark.parametrize("case", _swept(), ids=str)
def test_sums_are_those_of_the_reference(case):
    sample = Sample(*case.data())
    kernels = kernels_of(sample.x, sample.y)
    with remembered_distances():
        for turn in range(2):
            kernel = kernels[(case.number + 5 * turn) % len(kernels)]
            check(sample, kernel, ("unbiased", "biased")[(case.number // 2 + turn) % 2])
            isa = ISAS[(case.number + turn) % len(ISAS)]
            check_rows(sample, kernel, isa, alone=turn == 1)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 6), (2, 2), (2, 3), (4, 4), (9, 4)])
def test_sums_of_few_rows_are_those_of_the_reference(n, m):
    for number, dtype in enumerate(DTYPES):
        sample = Sample(*Case("relu", n, 5 + number, dtype, 0, m).data())
        for kernel in kernels_of(sample.x, sample.y):
            for estimator in ["biased"] if n == 1 else ["biased", "unbiased"]:
                check(sample, kernel, estimator, ISAS[number : number + 2])
            check_rows(sample, kernel, ISAS[number], alone=True)
            check_rows(sample, kernel, ISAS[number], alone=False)


@pytest.mark.parametrize(
    ("x_dtype", "y_dtype"),
    [
        *itertools.permutations(DTYPES, 2),
        ("int32", "float16"),
        ("float32", "uint8"),
        2 * ("int64",),
    ],
)
def test_sums_of_different_dtypes_are_those_of_the_reference(x_dtype, y_dtype):
    x, y = (4 * rows for rows in Case("relu", 90, 33, "float64", 0).data())
    sample = Sample(x.astype(x_dtype), y.astype(y_dtype))
    for kernel in kernels_of(sample.x, sample.y):
        found = fastgen.mmd(sample.x, sample.y, kernel)
        expected = reference.mmd(sample.x, sample.y, kernel)
        assert abs(found.value - expected.value) <= SumErrors(sample, kernel).of_value(), kernel
    for kernel in (Polynomial(), Energy()):
        check_rows(sample, kernel, ISAS[0], alone=False)
        check_rows(Sample(sample.y, sample.x), kernel, ISAS[-1], alone=False)


@pytest.mark.parametrize("family", [*families.DATA_FAMILIES, *families.FLOAT64_FAMILIES])
def test_cmmd_is_that_of_the_reference(family, monkeypatch):
    dtypes = ["float64"] if family in families.FLOAT64_FAMILIES else DTYPES
    for number, dtype in enumerate(dtypes):
        d = (3, 33, 130)[(number + len(family)) % 3]
        x, y = (rows[np.any(rows != 0, axis=1)] for rows in Case(family, 80, d, dtype, 0).data())
        expected = reference.cmmd(real=x, fake=y)
        for isa in ISAS:
            monkeypatch.setenv("FASTGEN_ISA", isa)
            found = fastgen.cmmd(real=x, fake=y)
            # Squared distances, at most 4, within 16 u of 4; over 2 bandwidth^2 = 200; three means.
            u = 2.0 ** (-53 if dtype == "float64" else -24)
            assert abs(found.value - expected.value) <= 1000 * 4 * 16 * u * 4 / 200, (
                f"{dtype} {isa}"
            )
            assert found.standard_error == pytest.approx(
                expected.standard_error, rel=1e-4, abs=1000 * 2**12 * u / 200
            )
            assert (found.p_value, found.n, found.m) == (None, len(x), len(y))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [1, 33, 513])
def test_kid_is_that_of_the_reference(d, dtype):
    x, y = Case("relu", 95, d, dtype, 0).data()
    rng = families.seeded("kid indices")
    given = rng.integers(0, len(x), (4, 17)), rng.integers(0, len(y), (4, 9))
    for degree, gamma, coef0, options in (
        (3, None, 1.0, {}),
        (2, 0.1, 0.0, {"subsets": 5, "subset_size": 70, "seed": 11}),
        (3, None, 1.0, {"subsets": 40, "subset_size": 2}),
        (1, None, 2.0, {"subset_indices": given}),
    ):
        numbers = {"degree": degree, "gamma": gamma, "coef0": coef0}
        found = fastgen.kid(real=x, fake=y, **numbers, **options)
        expected = reference.kid(real=x, fake=y, **numbers, **options)
        kernel = Polynomial(degree, gamma, coef0)
        allowed = SumErrors(Sample(x, y), kernel).of_value()
        if options:  # some rows count more in subsets than in the whole
            allowed *= 4
            assert abs(found.std - expected.std) <= allowed
        else:
            assert found.std == pytest.approx(expected.std, rel=2e-5)
        assert abs(found.mean - expected.mean) <= allowed


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("isa", ISAS)
def test_every_field_is_that_of_a_dense_matrix(isa, dtype):
    n, m, d = 150, 90, 33
    x, y = Case("relu", n, d, dtype, 0, m).data()
    labels = np.where(families.seeded("labels").random((n + m, 7)) < 0.4, 1, -1).astype(np.int8)
    for kernel in kernels_of(x, y):
        found = summed(x, y, kernel, isa, labels=labels)
        errors = SumErrors(Sample(x, y), kernel)
        shift = [found.x_shift[0], found.y_shift[0]]
        rounding = {"float32": 2.0**-20, "float64": 2.0**-48}[dtype]
        forms, allowed = np.zeros(7), np.zeros(7)
        for name, first, second in (("xx", 0, 0), ("xy", 0, 1), ("yx", 1, 0), ("yy", 1, 1)):
            pair = (x, y)[first], (x, y)[second]
            k = reference.kernel_matrix(*pair, kernel)
            off = errors.xy.both().T if name == "yx" else getattr(errors, name).both()
            off = off + 2.0**-49 * (np.abs(k) + np.abs(shift[first])[:, np.newaxis])
            k = k - shift[first][:, np.newaxis] - shift[second]
            assert np.all(np.abs(getattr(found, name)[0] - k.sum(axis=1)) <= off.sum(axis=1))
            if name != "yx":
                squares = getattr(found, f"{name}_squares")[0]
                assert abs(squares - np.sum(k * k)) <= np.sum(off * (2 * np.abs(k) + off))
            if first == second:
                diagonal = getattr(found, f"{name}_diagonal")[0]
                assert np.all(np.abs(diagonal - np.diagonal(k)) <= np.diagonal(off))
            w = [labels[:n], labels[n:]]
            forms += np.sum(w[first] * (k @ w[second]), axis=0)
            # Labelled values are added by runs in the arithmetic of the products.
            allowed += off.sum() + rounding * np.abs(k).sum()
        assert np.all(np.abs(found.forms - forms) <= allowed), str(kernel)
        assert isinstance(found, KernelSums)


# --- what the numbers are good for ----------------------------------------------------------------


def biased_in_float64(x: Array, y: Array, kernel: Kernel) -> float:
    """Of centred rows: what is left of rounding is 2^-50 of a kernel value."""
    centre = np.concatenate([x, y]).mean(axis=0, dtype=np.float64)
    means = []
    for first, second in ((x, x), (y, y), (x, y)):
        if isinstance(kernel, Polynomial):
            means.append(reference.kernel_matrix(first, second, kernel).mean())
            continue
        a, b = first - centre, second - centre
        sq = np.square(a).sum(axis=1)[:, np.newaxis] + np.square(b).sum(axis=1) - 2 * (a @ b.T)
        means.append(np.expm1(-sq / 2 / kernel.bandwidth**2).mean())
    return float((means[0] + means[1]) - 2 * means[2])


@pytest.mark.parametrize("kernel", [Polynomial(), Gaussian(20.0)], ids=["polynomial", "gaussian"])
def test_small_mmd_of_raw_features_keeps_five_digits(kernel):
    worst_of_numpy = 0.0
    # Roundings average out over the pairs: at a value of 1e-5 about 5e-6 is left of them for 1,500
    # rows, 2e-6 for 3,000.
    for seed in range(2):
        x = families.inception_like(families.seeded("raw features", seed), 3000, 512)
        assert x.min() == 0.0
        assert x.mean() > 0.4
        # A sample against itself dimmed: small values without noise of sampling.
        hundredth = fastgen.mmd(x, x * np.float32(0.99), kernel, "biased").value
        for value in (1e-3, 1e-5):
            y = x * np.float32(1 - 0.01 * np.sqrt(value / hundredth))
            expected = biased_in_float64(x, y, kernel)
            assert 0.9 * value < expected < 1.1 * value
            found = fastgen.mmd(x, y, kernel, "biased").value
            assert abs(found - expected) <= 1e-5 * expected
        if isinstance(kernel, Polynomial):
            pairs = ((x, x), (y, y), (x, y))
            means = [((a @ b.T / np.float32(512) + 1) ** 3).mean() for a, b in pairs]
            plain = float(means[0] + means[1] - 2 * means[2])
            worst_of_numpy = max(worst_of_numpy, abs(plain / expected - 1))
    # The same in float32 NumPy, which shows that this can fail.
    assert isinstance(kernel, Gaussian) or worst_of_numpy > 1e-3


@pytest.mark.parametrize("change", ["none", "contrast", "threshold", "mixture"])
def test_mmd_and_kid_of_raw_features_keep_five_digits(change):
    rng = families.seeded("raw samples", change)
    x, y = np.split(families.inception_like(rng, 1500, 512), [800])
    if change == "contrast":
        y = y * np.float32(1.02)
    elif change == "threshold":
        y = np.maximum(y - np.float32(0.02), 0)
    elif change == "mixture":
        y[:40] = families.inception_like(rng, 40, 512)
    expected = reference.kid(real=x, fake=y)
    assert abs(expected.mean) > 1e-5
    found = fastgen.kid(real=x, fake=y)
    assert found.mean == pytest.approx(expected.mean, rel=1e-5)
    assert found.std == pytest.approx(expected.std, rel=1e-5)


def test_mmd_of_raw_features_that_are_offset_keeps_five_digits():
    # The zeros of a ReLU are no zeros in the other set: roundings of one and the same value do not
    # cancel between the means.
    for seed, offset in itertools.product(range(2), (0.003, 0.01)):
        rng = families.seeded("raw samples", seed)
        x, y = np.split(families.inception_like(rng, 1500, 512), [800])
        y = y + np.float32(offset)
        expected = reference.mmd(x, y).value
        assert abs(expected) > 1e-5
        assert fastgen.mmd(x, y).value == pytest.approx(expected, rel=1e-5)


def test_cmmd_of_raw_features_is_off_by_a_billionth_of_its_scale():
    features = families.inception_like(families.seeded("raw embeddings"), 900, 128)
    x, y = features[:500], features[500:]
    for fake in (y, x + np.float32(0.01), x * np.float32(1.234), x[::-1]):
        expected = reference.cmmd(real=x, fake=fake).value
        assert abs(fastgen.cmmd(real=x, fake=fake).value - expected) <= 1e-6


@pytest.mark.parametrize("isa", ISAS)
def test_a_collapsed_generator_has_no_distance_from_itself(isa):
    x, _ = Case("relu", 260, 64, "float32", 0).data()
    for row in (x[0], 0 * x[0], x[0] + 100, 1e6 * x[0]):
        y = np.tile(row.astype(np.float32), (150, 1))
        size = float(np.linalg.norm(x.std(axis=0)))
        for kernel in (Energy(), Laplacian(size), Laplacian(100 * size), Laplacian(size / 100)):
            found = summed(x, y, kernel, isa)
            of_pair = 0.0 if isinstance(kernel, Energy) else 1.0
            within = pairwise.kernel_sums(y, kernel=kernel, isa=isa)
            assert np.all(within == 149 * of_pair)
            assert np.all(found.yy + 2 * 150 * found.y_shift == 150 * of_pair)
            if isa == ISAS[0]:
                expected = reference.mmd(x, y, kernel).value
                assert fastgen.mmd(x, y, kernel).value == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kernel", [Energy(), Laplacian(3.0)], ids=["energy", "laplacian"])
def test_close_rows_far_from_the_others_keep_their_distances(kernel, isa):
    # Rows a few units in the last place apart, ten times as far out as the others spread.
    rng = families.seeded("close rows")
    x = rng.standard_normal((200, 48)).astype(np.float32)
    y = np.tile(10 * x[:1], (70, 1))
    y += rng.integers(-9, 10, y.shape).astype(np.float32) * np.spacing(y)
    found = summed(x, y, kernel, isa)
    expected = reference.kernel_matrix(y, y, kernel).sum(axis=1)
    if isinstance(kernel, Energy):
        np.testing.assert_allclose(found.yy[0], expected, rtol=1e-6)
    distances = np.sqrt(reference.sq_distances(y, y)).sum(axis=1)
    assert np.all(distances < 0.01)
    own = pairwise.kernel_sums(y, y, kernel, isa=isa)
    np.testing.assert_allclose(own, expected, rtol=1e-6)


@pytest.mark.parametrize(("exponent", "accuracy"), [(-480, 1e-11), (-505, 1e-9)])
def test_standard_error_of_tiny_values(exponent, accuracy):
    # Scaling by a power of 2 scales distances to the last bit, so it has to scale this too.
    x, y = Case("gaussian", 40, 5, "float64", 0).data()
    expected = fastgen.mmd(x, y, Energy())
    found = fastgen.mmd(x * 2.0**exponent, y * 2.0**exponent, Energy())
    assert found.value == expected.value * 2.0**exponent
    scaled = found.standard_error * 2.0**-exponent
    assert scaled == pytest.approx(expected.standard_error, rel=accuracy)


def test_values_that_vanish_beside_their_bandwidth():
    x, y = (2.0**200 * rows for rows in Case("gaussian", 40, 5, "float64", 0).data())
    for kernel in (Gaussian(2.0**-400), Laplacian(2.0**-400), RationalQuadratic(1.0, 2.0**-400)):
        expected = reference.mmd(x, y, kernel)
        found = fastgen.mmd(x, y, kernel)
        assert (found.value, expected.value) == (0.0, 0.0), str(kernel)
