"""MMD, KID, CMMD and sums of kernels on a CUDA device, within the errors of `sum_errors`.

Split float16 products round to 2^-22 of a row, four times float32's 2^-24, and tensor cores
truncate where the CPU rounds: `WIDER` is what that may add.
"""

from __future__ import annotations

import itertools
import re
from typing import Any

import families
import numpy as np
import pytest
from checks import Array, assert_same_bits, remembered_distances
from sum_errors import Sample, SumErrors
from test_sums_accuracy import Case, biased_in_float64, kernels_of

import fastgen
from fastgen import Gaussian, Kernel, Laplacian, Polynomial, gpu_plan, pairwise
from fastgen import numpy_reference as reference
from fastgen.gpu import Gpu

DTYPES = ("float16", "float32", "float64")
WIDER = 4.0
SWEEPS = (((1, 3, 16, 33), (37, 130)), ((63, 100, 129, 200), (128, 61)))


def _swept() -> list[Case]:
    cases: dict[str, Case] = {}
    for f, family in enumerate([*families.DATA_FAMILIES, *families.FLOAT64_FAMILIES]):
        for s, (widths, sizes) in enumerate(SWEEPS):
            dtype = "float64" if family in families.FLOAT64_FAMILIES else DTYPES[(f + s) % 3]
            size = sizes[(f + s) % len(sizes)], widths[(f // 2 + s) % len(widths)]
            case = Case(family, *size, dtype, len(cases))
            cases.setdefault(str(case), case)
    return list(cases.values())


def check(sample: Sample, kernel: Kernel, estimator: str) -> None:
    """Compare the estimate and its standard error."""
    x, y = sample.wide_x, sample.wide_y
    expected = reference.mmd(x, y, kernel, estimator)
    errors = SumErrors(sample, kernel)
    blocks = [reference.kernel_matrix(*pair, kernel) for pair in ((x, x), (x, y), (y, y))]
    found = fastgen.mmd(sample.x, sample.y, kernel, estimator, device="cuda")
    assert abs(found.value - expected.value) <= WIDER * errors.of_value(), f"{kernel} {estimator}"
    if np.isnan(expected.standard_error):
        assert np.isnan(found.standard_error)
    elif np.abs(blocks[1]).max() > 1e-150:
        off = abs(found.standard_error**2 - expected.standard_error**2)
        deviation = max(float(block.std()) for block in blocks)
        assert off <= WIDER**2 * errors.of_variance(deviation), f"{kernel} standard error"


def check_rows(sample: Sample, kernel: Kernel, *, alone: bool) -> None:
    """Compare the sums of each row over the other set, or over the other rows of its own."""
    sample = sample.alone() if alone else sample
    y, wide_y = (None, None) if alone else (sample.y, sample.wide_y)
    errors = WIDER * SumErrors(sample, kernel).xy.both()
    largest = np.abs(reference.kernel_matrix(sample.wide_x, sample.wide_y, kernel))
    allowed = (errors + 2.0**-48 * largest).sum(axis=1)
    found = pairwise.kernel_sums(sample.x, y, kernel, device="cuda")
    off = np.abs(found - reference.kernel_sums(sample.wide_x, wide_y, kernel))
    assert np.all(off <= allowed), f"{kernel} row {np.argmax(off - allowed)}"


@pytest.mark.parametrize("case", _swept(), ids=str)
def test_sums_are_those_of_the_reference(case):
    sample = Sample(*case.data())
    kernels = kernels_of(sample.x, sample.y)
    with remembered_distances():
        for turn in range(2):
            kernel = kernels[(case.number + 5 * turn) % len(kernels)]
            check(sample, kernel, ("unbiased", "biased")[(case.number // 2 + turn) % 2])
            check_rows(sample, kernel, alone=turn == 1)


@pytest.mark.parametrize("number", range(12))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_kernel(dtype, number):
    sample = Sample(*Case("relu", 131, 40, dtype, 0, 70).data())
    kernel = kernels_of(sample.x, sample.y)[number]
    check(sample, kernel, "unbiased")
    check_rows(sample, kernel, alone=False)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 6), (2, 3), (9, 4)])
def test_sums_of_few_rows_are_those_of_the_reference(n, m):
    for number, dtype in enumerate(DTYPES):
        sample = Sample(*Case("relu", n, 5 + number, dtype, 0, m).data())
        for kernel in kernels_of(sample.x, sample.y)[:6]:
            for estimator in ["biased"] if n == 1 else ["biased", "unbiased"]:
                check(sample, kernel, estimator)


@pytest.mark.parametrize(("x_dtype", "y_dtype"), list(itertools.permutations(DTYPES, 2)))
def test_sums_of_different_dtypes(x_dtype, y_dtype):
    x, y = (4 * rows for rows in Case("relu", 90, 33, "float64", 0).data())
    sample = Sample(x.astype(x_dtype), y.astype(y_dtype))
    for kernel in kernels_of(sample.x, sample.y)[:4]:
        check(sample, kernel, "unbiased")


def test_several_kernels_in_one_pass_have_the_bits_of_each_alone():
    x, y = Case("relu", 140, 33, "float32", 0, 90).data()
    kernels = [Polynomial(3, 0.03, 1.0), Gaussian(4.0), Gaussian(2.5) + Polynomial(2, 0.03, 1.0)]
    together = fastgen.mmd(x, y, kernels, device="cuda")
    alone = [fastgen.mmd(x, y, kernel, device="cuda") for kernel in kernels]
    assert_same_bits(together, alone)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernel", [Polynomial(), Gaussian(5.0)], ids=["polynomial", "gaussian"])
def test_a_set_against_itself_is_0_to_the_last_bit(kernel, dtype):
    x, _ = Case("relu", 203, 40, dtype, 0).data()
    assert fastgen.mmd(x, x, kernel, "biased", device="cuda").value == 0.0
    assert fastgen.mmd(x, x.copy(), kernel, "biased", device="cuda").value == 0.0


@pytest.mark.parametrize("d", [1, 33, 200])
def test_kid(d):
    x, y = Case("relu", 95, d, "float32", 0).data()
    rng = families.seeded("kid indices")
    given = rng.integers(0, len(x), (4, 17)), rng.integers(0, len(y), (4, 9))
    calls: list[dict[str, Any]] = [
        {},
        {"subsets": 5, "subset_size": 70, "seed": 11},
        {"subsets": 40, "subset_size": 2},
        {"subset_indices": given},
    ]
    for options in calls:
        found = fastgen.kid(real=x, fake=y, device="cuda", **options)
        expected = reference.kid(real=x, fake=y, **options)
        allowed = WIDER * SumErrors(Sample(x, y), Polynomial()).of_value()
        if options:  # some rows count more in subsets than in the whole
            allowed *= 4
            assert abs(found.std - expected.std) <= allowed
        else:
            assert found.std == pytest.approx(expected.std, rel=1e-4)
        assert abs(found.mean - expected.mean) <= allowed


def test_permutations_are_those_of_the_seed():
    x, y = Case("relu", 90, 20, "float32", 0).data()
    found = fastgen.mmd(x, y, permutations=50, seed=3, device="cuda")
    expected = fastgen.mmd(x, y, permutations=50, seed=3)
    assert found.p_value == expected.p_value


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cmmd(dtype):
    x, y = Case("relu", 120, 33, dtype, 0).data()
    found = fastgen.cmmd(real=x, fake=y, device="cuda")
    expected = reference.cmmd(real=x, fake=y)
    u = 2.0 ** (-53 if dtype == "float64" else -24)
    assert abs(found.value - expected.value) <= WIDER * 1000 * 4 * 16 * u * 4 / 200


def test_the_same_bits_from_run_to_run_and_on_several_devices():
    x, y = Case("relu", 300, 48, "float32", 0).data()
    first = fastgen.mmd(x, y, device="cuda")
    assert_same_bits(fastgen.mmd(x, y, device="cuda"), first)
    assert_same_bits(fastgen.mmd(x, y, device="cuda:all"), first)


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let memory= come down to a few rows, and record the sets that stay on the host."""
    monkeypatch.setattr(gpu_plan, "FIXED_BYTES", 0)
    monkeypatch.setattr(gpu_plan, "LEAST_ROWS", 1)
    names: list[str] = []
    source, handle = Gpu.source, Gpu.handle

    def listen(gpu: Gpu, rows: Any, device: int) -> Any:
        if gpu.memory.streams(rows):
            names.append(rows.name)
        return source(gpu, rows, device)

    def check(gpu: Gpu, rows: Any, device: int | None = None) -> Any:
        assert not gpu.memory.streams(rows)
        return handle(gpu, rows, device)

    monkeypatch.setattr(Gpu, "source", listen)
    monkeypatch.setattr(Gpu, "handle", check)
    return names


def _wide_sets(d: int = 700) -> tuple[Array, Array]:
    """Return sets whose rows take more than all that is kept of them."""
    x, y = Case("relu", 200, d, "float32", 0, 110).data()
    x[5::9] = x[0]
    return x, y


@pytest.mark.parametrize(("mapped", "device"), [(False, "cuda"), (True, "cuda:all")])
def test_sets_that_do_not_fit_have_the_bits_of_those_that_do(streams, tmp_path, mapped, device):
    x, y = _wide_sets()
    kernels = [Polynomial(), Gaussian("median"), Laplacian(9.0)]
    where: tuple[Any, Any] = x, y
    if mapped:
        where = tmp_path / "x.npy", tmp_path / "y.npy"
        for path, rows in zip(where, (x, y), strict=True):
            np.save(path, rows)
    chosen: dict[str, Any] = {"subsets": 3, "subset_size": 90}
    calls: list[tuple[Any, dict[str, Any], int]] = [
        (lambda a, b, **how: fastgen.mmd(a, b, kernels, **how), {}, 600_000),
        (lambda a, b, **how: fastgen.kid(real=a, fake=b, **how), {}, 500_000),
        (lambda a, b, **how: fastgen.kid(real=a, fake=b, **how), chosen, 550_000),
        (lambda a, b, **how: fastgen.cmmd(real=a, fake=b, **how), {}, 500_000),
    ]
    for call, options, budget in calls:
        expected = call(x, y, device=device, **options)
        assert not streams
        assert_same_bits(call(*where, device=device, memory=budget, **options), expected)
        assert len(streams) >= 2
        streams.clear()


def test_row_sums_of_sets_that_do_not_fit(streams):
    x, y = _wide_sets()
    for kernel in (Polynomial(), Laplacian(9.0)):
        for other in (None, y):
            expected = pairwise.kernel_sums(x, other, kernel, device="cuda")
            found = pairwise.kernel_sums(x, other, kernel, device="cuda", memory=550_000)
            assert_same_bits(found, expected)
            assert streams
            streams.clear()


def test_bad_numbers_of_sets_that_do_not_fit(streams):
    x, y = _wide_sets()
    y[33, 4] = np.nan
    with pytest.raises(ValueError, match=r"^mmd: expected `y`.*row 33"):
        fastgen.mmd(x, y, device="cuda", memory=500_000)
    y[33] = 0
    with pytest.raises(ValueError, match=r"^cmmd: expected `fake`.*zeros in row 33"):
        fastgen.cmmd(real=x, fake=y, device="cuda", memory=500_000)


@pytest.mark.parametrize("kernel", [Polynomial(), Laplacian(9.0)], ids=["polynomial", "laplacian"])
def test_a_budget_that_is_too_small_says_what_is_enough(streams, monkeypatch, kernel):
    monkeypatch.setattr(gpu_plan, "LEAST_ROWS", 20)
    x, y = _wide_sets(1400)  # 1.8 MB, where 0.8 are enough
    text = r"^mmd: expected `memory` of at least \d+ bytes for this input, got 1000; "
    with pytest.raises(ValueError, match=text) as caught:
        fastgen.mmd(x, y, kernel, device="cuda", memory=1000)
    enough = re.search(r'memory="(.*)" is enough', str(caught.value))
    assert enough is not None
    found = fastgen.mmd(x, y, kernel, device="cuda", memory=enough[1])
    assert len(streams) == 2
    assert_same_bits(found, fastgen.mmd(x, y, kernel, device="cuda"))


@pytest.mark.gpu
@pytest.mark.parametrize("kernel", [Polynomial(), Gaussian(20.0)], ids=["polynomial", "gaussian"])
def test_small_mmd_of_raw_features_keeps_five_digits(kernel):
    x = families.inception_like(families.seeded("raw features", 0), 3000, 512)
    hundredth = fastgen.mmd(x, x * np.float32(0.99), kernel, "biased").value
    for value in (1e-3, 1e-5):
        y: Array = x * np.float32(1 - 0.01 * np.sqrt(value / hundredth))
        expected = biased_in_float64(x, y, kernel)
        found = fastgen.mmd(x, y, kernel, "biased", device="cuda").value
        assert abs(found - expected) <= 1e-5 * expected
