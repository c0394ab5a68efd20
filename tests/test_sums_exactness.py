"""Sums of kernels to the last bit: whatever runs them, however split, laid out or named."""

from __future__ import annotations

import itertools
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import families
import numpy as np
import pytest
from checks import Array, assert_same_bits

import fastgen
from fastgen import (
    Energy,
    Gaussian,
    Kernel,
    Laplacian,
    Polynomial,
    RationalQuadratic,
    draws,
    pairwise,
    sums,
)
from fastgen import numpy_reference as reference
from fastgen.estimators import KernelSums, biased, unbiased
from fastgen.session import Rows, Session

core = pytest.importorskip("fastgen._core", reason="the compiled module has to be built")

DTYPES = ("float16", "float32", "float64")
ISAS = core.instruction_sets()
BLOCKS = (64, 128, 192, 384)
THREADS = (1, 2, 3, 5)
# None is so narrow that it needs float64 where the others do not.
KERNELS: list[Kernel] = [
    Polynomial(3, 0.03, 1.0),
    Polynomial(1, 0.1, 0.0),
    Gaussian(4.0),
    RationalQuadratic(0.5, 3.0),
    Laplacian(3.0),
    Energy(),
    Gaussian(2.5) + Laplacian(5.0) + Polynomial(2, 0.03, 1.0),
]


def sets(n: int, m: int, d: int, dtype: str, *key: str) -> tuple[Array, Array]:
    return families.relu(families.seeded("bits", n, m, d, *key), n, d, dtype, m)


def run(
    x: Array,
    y: Array | None,
    kernels: list[Kernel],
    *,
    isa: str = ISAS[0],
    block: int = 384,
    threads: int = 1,
    step: float = 10.0,
    **how: Any,
) -> list[dict[str, Array]]:
    """Drive the engine itself, whose block size no caller chooses."""
    options = {"subsets": None, "labels": None, "within": True, "normalise": False} | how
    terms = [[part.term() for part in kernel.parts()] for kernel in kernels]
    engine = core.KernelSums(
        x, y, terms, float64=False, block=block, isa=isa, threads=threads, **options
    )
    while engine.advance(step) < 1.0:
        pass
    return engine.finish()


def ways() -> list[dict[str, int]]:
    return [
        {"block": block, "threads": THREADS[(b + t) % 4]}
        for b, block in enumerate(BLOCKS)
        for t in range(2)
    ]


# --- blocks, threads, steps -----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("isa", ISAS)
def test_blocks_and_threads_change_no_bit(isa, dtype):
    n, m = 450, 401
    x, y = sets(n, m, 33, dtype)
    labels = np.ascontiguousarray(draws.relabellings(n, m, 11, seed=0).T)
    rng = families.seeded("bits subsets")
    subsets = rng.integers(0, n, (3, 130)), rng.integers(0, m, (3, 201))
    first: Any = None
    for way in ways():
        found = [
            run(x, y, KERNELS, isa=isa, labels=labels, **way),
            run(x, y, KERNELS[:3], isa=isa, subsets=subsets, **way),
            run(x, None, KERNELS[2:4], isa=isa, **way),
            run(x, y, KERNELS[4:6], isa=isa, within=False, **way),
            run(x + 1, y + 1, KERNELS[2:3], isa=isa, normalise=True, **way),
        ]
        first = first or found
        assert_same_bits(found, first, f"{isa} {way}")


def test_steps_change_no_bit():
    x, y = sets(500, 300, 64, "float32")
    labels = np.ascontiguousarray(draws.relabellings(500, 300, 5, seed=0).T)
    expected = run(x, y, KERNELS, labels=labels)
    for threads in THREADS:
        assert_same_bits(
            run(x, y, KERNELS, labels=labels, step=0.0, threads=threads, block=64), expected
        )


def test_callers_threads_change_no_bit():
    cases = [sets(150 + 40 * i, 90, 33, "float32") for i in range(4)]
    expected = [fastgen.mmd(x, y, KERNELS, permutations=9) for x, y in cases]
    with ThreadPoolExecutor(max_workers=4) as pool:
        for threads in (1, 3):
            found = pool.map(
                lambda case, t=threads: fastgen.mmd(*case, KERNELS, permutations=9, threads=t),
                cases,
            )
            assert_same_bits(list(found), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_public_calls_do_not_depend_on_threads(dtype):
    x, y = sets(900, 520, 40, dtype)

    def everything(threads: int) -> list[Any]:
        return [
            fastgen.mmd(x, y, [Gaussian("median"), *KERNELS], "biased", 19, threads=threads),
            fastgen.kid(real=x, fake=y, threads=threads),
            fastgen.kid(real=x, fake=y, subsets=5, subset_size=100, threads=threads),
            fastgen.cmmd(real=x + 1, fake=y + 1, threads=threads),
            pairwise.kernel_sums(x, y, threads=threads),
            pairwise.kernel_sums(x, kernel=Energy(), threads=threads),
        ]

    expected = everything(1)
    for threads in THREADS[1:]:
        assert_same_bits(everything(threads), expected, f"{threads} threads")


# --- parts and wholes -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_other_kernels_and_permutations_change_no_bit(dtype):
    x, y = sets(211, 140, 33, dtype)
    for estimator in ("unbiased", "biased"):
        together = fastgen.mmd(x, y, KERNELS, estimator, permutations=25, seed=3)
        for kernel, found in zip(KERNELS, together, strict=True):
            assert_same_bits(found, fastgen.mmd(x, y, kernel, estimator, permutations=25, seed=3))
            alone = fastgen.mmd(x, y, kernel, estimator)
            assert (found.value, found.standard_error) == (alone.value, alone.standard_error)
            fewer = fastgen.mmd(x, y, kernel, estimator, permutations=1, seed=9)
            assert (found.value, found.standard_error) == (fewer.value, fewer.standard_error)


def test_a_narrow_kernel_beside_them_makes_all_exact():
    # The narrow one needs products in float64; the pass has one precision, that of float64 rows.
    x, y = sets(211, 140, 33, "float32")
    for kernel in KERNELS:
        found, _ = fastgen.mmd(x, y, [kernel, Gaussian(0.05)])
        exact = fastgen.mmd(x.astype(np.float64), y.astype(np.float64), kernel)
        assert_same_bits(found, exact, str(kernel))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_subsets_do_not_depend_on_each_other(dtype):
    n, m = 300, 210
    x, y = sets(n, m, 33, dtype)
    real, fake = draws.subsets(n, m, 7, 90, seed=1)
    together = run(x, y, KERNELS, subsets=(real, fake), threads=2)
    for s in range(7):
        alone = run(x, y, KERNELS, subsets=(real[s : s + 1], fake[s : s + 1]), block=64)
        for kernel, found in enumerate(together):
            part = {name: values[s : s + 1] for name, values in found.items()}
            assert_same_bits(part, alone[kernel], f"subset {s}")
    whole = np.arange(n)[np.newaxis], np.arange(m)[np.newaxis]
    assert_same_bits(run(x, y, KERNELS, subsets=whole), run(x, y, KERNELS))


def test_runs_with_few_labels_or_subsets_are_put_together(monkeypatch):
    x, y = sets(130, 95, 20, "float32")
    kernels = [Polynomial(), Energy()]

    def everything() -> list[Any]:
        return [
            fastgen.mmd(x, y, kernels, permutations=40, seed=2),
            fastgen.kid(real=x, fake=y, subsets=9, subset_size=30),
        ]

    expected = everything()
    runs = []
    begin = core.KernelSums

    def counted(*arguments, **options):
        runs.append(options)
        return begin(*arguments, **options)

    monkeypatch.setattr(core, "KernelSums", counted)
    for labels, rows, count in (
        (225, 60, 41 + 9),  # one at a time
        (1, 1, 41 + 9),  # less than one
        (7 * 225, 4 * 60, 6 + 3),
        (40 * 225, 8 * 60, 2 + 2),
        (41 * 225, 9 * 60, 2),
    ):
        monkeypatch.setattr(sums, "_LABEL_BYTES", labels)
        monkeypatch.setattr(sums, "_SUBSET_ROWS", rows)
        runs.clear()
        assert_same_bits(everything(), expected, f"{labels} {rows}")
        assert len(runs) == count


# --- the same rows, otherwise given ---------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_layout_changes_no_bit(dtype, tmp_path):
    x, y = sets(120, 83, 48, dtype)
    expected = everything_about(x, y)
    np.save(tmp_path / "y.npy", y)
    np.save(tmp_path / "x.npy", np.asfortranarray(x))
    frozen = np.asfortranarray(x)
    frozen.flags.writeable = False
    wide = np.zeros((240, 100), dtype=dtype)
    wide[::2, 3:99:2] = x
    other = x.dtype.newbyteorder(">" if x.dtype.isnative else "<")
    for a, b in (
        (np.repeat(x, 2, axis=1)[:, ::2], y[::-1][::-1]),
        (frozen, np.load(tmp_path / "y.npy", mmap_mode="r")),
        (x.astype(other), np.repeat(y, 3, axis=0)[::3]),
        (wide[::2, 3:99:2], memoryview(y)),
        (str(tmp_path / "x.npy"), tmp_path / "y.npy"),
    ):
        assert_same_bits(everything_about(a, b), expected)


def test_torch_tensors_change_no_bit():
    torch = pytest.importorskip("torch")
    for dtype in DTYPES:
        x, y = sets(60, 45, 17, dtype)
        a, b = torch.from_numpy(x), torch.from_numpy(np.ascontiguousarray(y.T)).T
        assert_same_bits(everything_about(a, b), everything_about(x, y))
    a, b = torch.from_numpy(sets(60, 45, 17, "float32")[0]).bfloat16(), torch.ones(5, 17)
    expected = fastgen.mmd(a.float().numpy(), b.numpy(), KERNELS)
    assert_same_bits(fastgen.mmd(a, b, KERNELS), expected)


def everything_about(x: Any, y: Any) -> list[Any]:
    return [
        fastgen.mmd(x, y, [*KERNELS, Gaussian("median")], permutations=5),
        fastgen.kid(real=x, fake=y),
        fastgen.kid(real=x, fake=y, subsets=4, subset_size=20),
        fastgen.cmmd(real=x, fake=y),
    ]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("isa", ISAS)
def test_names_of_the_sets_change_no_sum(isa, dtype):
    x, y = sets(230, 147, 33, dtype)
    there, back = run(x, y, KERNELS, isa=isa), run(y, x, KERNELS, isa=isa, block=64, threads=3)
    other = str.maketrans("xy", "yx")
    for kernel, a, b in zip(KERNELS, there, back, strict=True):
        for name, values in a.items():
            if name == "xy_squares":  # each run of squares is added along the rows of x
                np.testing.assert_allclose(b[name], values, rtol=2.0**-50)
            else:
                assert_same_bits(b[name.translate(other)], values, f"{kernel} {name}")
        for estimate in (unbiased, biased):
            # The total across is that of one set's row sums, or of the other's.
            means = abs(a["xy"].mean() / 147) + abs(a["xx"].mean() / 230)
            one, two = estimate(KernelSums(**a))[0], estimate(KernelSums(**b))[0]
            assert abs(one - two) <= 2.0**-50 * 4 * means


@pytest.mark.parametrize("dtype", DTYPES)
def test_powers_of_two_change_no_bit(dtype):
    x, y = sets(190, 120, 33, dtype)
    # Values of distances below 2^-60 are computed in float64, whatever the rows are.
    exponents = {"float16": (2, 4), "float32": (-50, 60), "float64": (-400, 60, 300)}[dtype]
    expected = fastgen.mmd(x, y, KERNELS, permutations=9)
    cosine = fastgen.cmmd(real=x, fake=y)
    for exponent in exponents:
        f = 2.0**exponent
        kernels = [
            Polynomial(3, 0.03 / f / f, 1.0),
            Polynomial(1, 0.1 / f / f, 0.0),
            Gaussian(4.0 * f),
            RationalQuadratic(0.5, 3.0 * f),
            Laplacian(3.0 * f),
            Energy(),
            Gaussian(2.5 * f) + Laplacian(5.0 * f) + Polynomial(2, 0.03 / f / f, 1.0),
        ]
        a, b = (rows * np.asarray(f, dtype=dtype) for rows in (x, y))
        for found, one in zip(fastgen.mmd(a, b, kernels, permutations=9), expected, strict=True):
            scale = f if one is expected[5] else 1.0
            assert found.value == one.value * scale
            assert found.standard_error == one.standard_error * scale
            assert found.p_value == one.p_value
        assert_same_bits(fastgen.cmmd(real=a, fake=b), cosine)


# --- a set and its copy ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("isa", ISAS)
def test_biased_mmd_of_a_set_and_its_copy_is_exactly_zero(isa, dtype, monkeypatch):
    monkeypatch.setenv("FASTGEN_ISA", isa)
    narrow = [Gaussian(0.05), Laplacian(0.01), RationalQuadratic(1.0, 0.02), Polynomial(32, 0.01)]
    for n, d in ((1, 3), (2, 1), (63, 16), (64, 65), (65, 130), (450, 33)):
        x, _ = sets(n, n, d, dtype)
        rows = np.concatenate([x, x[: n // 2], x[:1], x[:1]])
        for turn, one in enumerate((x, rows, np.repeat(x[:1], 70, axis=0))):
            other = (one, one.copy(), np.asfortranarray(one))[turn]
            for kernels in (KERNELS, narrow):
                found = fastgen.mmd(one, other, kernels, "biased")
                assert [result.value for result in found] == [0.0] * len(kernels)
            moved = one + np.asarray(1, dtype=dtype)
            assert fastgen.cmmd(real=moved, fake=moved.copy()).value == 0.0


@pytest.mark.parametrize("family", [*families.DATA_FAMILIES, *families.FLOAT64_FAMILIES])
def test_biased_mmd_is_exactly_zero_whatever_the_rows(family):
    make = (families.DATA_FAMILIES | families.FLOAT64_FAMILIES)[family]
    dtypes = ["float64"] if family in families.FLOAT64_FAMILIES else DTYPES
    for dtype, d in itertools.product(dtypes, (2, 40)):
        x, _ = make(families.seeded("zero", family, dtype, d), 140, d, dtype)
        largest = float(np.abs(x.astype(np.float64)).max()) or 1.0
        kernels: list[Kernel] = [Gaussian(min(max(largest, 1e-150), 1e150)), Laplacian(1.0)]
        if largest < 1e140:
            kernels.append(Energy())
        if 1e-140 < largest < 1e140:
            kernels.append(Polynomial(3, largest**-2 / d, 0.5))
        for isa in ISAS:
            copies = [Rows(x), Rows(x.copy())]
            for found in sums.kernel_sums(Session("mmd", isa=isa), *copies, kernels):
                assert biased(found)[0] == 0.0
                assert_same_bits([found.xx, found.yy], [found.xy, found.yx])


# --- nothing else is touched ----------------------------------------------------------------------


def test_random_state_of_the_caller_is_left_alone():
    x, y = sets(1100, 60, 5, "float32")
    y += 1
    kept = x.copy(), y.copy()
    np.random.seed(5)  # noqa: NPY002 - this is the state in question
    random.seed(5)
    before = np.random.get_state(), random.getstate()  # noqa: NPY002
    everything_about(x + 1, y)
    after = np.random.get_state(), random.getstate()  # noqa: NPY002
    assert_same_bits(before[0][1], after[0][1])
    assert before[0][2:] == after[0][2:]
    assert before[1] == after[1]
    assert_same_bits((x, y), kept)


def test_median_bandwidths_are_those_of_the_reference():
    for n, m, dtype in ((80, 57, "float16"), (1300, 400, "float32"), (501, 500, "float64")):
        x, y = sets(n, m, 7, dtype)
        for seed in (None, 0, 4):
            median = reference.median_distance(x, y, seed)
            kernels = [Gaussian("median"), Laplacian("median"), RationalQuadratic(2.0, "median")]
            plain = [Gaussian(median), Laplacian(median), RationalQuadratic(2.0, median)]
            assert_same_bits(fastgen.mmd(x, y, kernels, seed=seed), fastgen.mmd(x, y, plain))
        of_both = Gaussian(reference.median_distance(x, y, 0))
        found = pairwise.kernel_sums(x, y, Gaussian("median"))
        assert_same_bits(found, pairwise.kernel_sums(x, y, of_both))
