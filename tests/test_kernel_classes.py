"""The kernels as a caller sees them: values, sums, numbers from the data, and what they refuse."""

from __future__ import annotations

import dataclasses
import functools
import math
import operator

import numpy as np
import pytest

import fastgen
from fastgen import Energy, Gaussian, KernelSum, Laplacian, Polynomial, RationalQuadratic
from fastgen.kernels import as_kernels

RESOLVED = {
    "polynomial": (Polynomial(2, 0.5, 3.0), ("polynomial", 2.0, 0.5, 3.0)),
    "gaussian": (Gaussian(2), ("gaussian", 2.0)),
    "rational quadratic": (RationalQuadratic(0.5, 4), ("rational_quadratic", 0.5, 4.0)),
    "laplacian": (Laplacian(1.5), ("laplacian", 1.5)),
    "energy": (Energy(), ("energy",)),
}


def never():
    raise AssertionError("nobody needs the median")


@pytest.mark.parametrize("case", RESOLVED)
def test_terms_are_the_name_and_floats(case):
    kernel, term = RESOLVED[case]
    assert kernel.resolved(7, never) == kernel
    assert kernel.term() == term
    assert all(type(number) is float for number in kernel.term()[1:])
    assert kernel.parts() == (kernel,)


def test_defaults():
    assert Polynomial() == Polynomial(degree=3, gamma=None, coef0=1.0)
    assert RationalQuadratic() == RationalQuadratic(alpha=1.0, length_scale=1.0)
    assert repr(Polynomial()) == "Polynomial(degree=3, gamma=None, coef0=1.0)"
    for kernel in (Gaussian, Laplacian):
        with pytest.raises(TypeError, match="bandwidth"):
            kernel()


def test_what_depends_on_the_data_is_filled_in():
    asked = []

    def median():
        asked.append(None)
        return 2.5

    assert Polynomial().resolved(8, never).term() == ("polynomial", 3.0, 0.125, 1.0)
    assert Gaussian("median").resolved(8, median) == Gaussian(2.5)
    assert Laplacian("median").resolved(8, median) == Laplacian(2.5)
    quadratic = RationalQuadratic(0.5, "median").resolved(8, median)
    assert quadratic == RationalQuadratic(0.5, 2.5)
    assert len(asked) == 3
    both = (Gaussian("median") + Polynomial()).resolved(4, median)
    assert both == Gaussian(2.5) + Polynomial(3, 0.25)
    assert Gaussian("median") == Gaussian("median")  # left as it was


def test_kernels_are_values():
    for kernel, _ in RESOLVED.values():
        (twin,) = {kernel, dataclasses.replace(kernel)}
        assert twin == kernel
        assert isinstance(kernel, fastgen.Kernel)
    assert Gaussian(1) == Gaussian(1.0) == Gaussian(np.float32(1))
    assert Gaussian(1) != Laplacian(1)
    assert Gaussian(1) + Gaussian(2) == KernelSum((Gaussian(1), Gaussian(2)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        Gaussian(1).bandwidth = 2


def test_numbers_are_plain_whatever_was_passed():
    kernel = Polynomial(np.int8(3), np.float16(0.5), 1)
    assert (kernel.degree, kernel.gamma, kernel.coef0) == (3, 0.5, 1.0)
    assert [type(value) for value in dataclasses.astuple(kernel)] == [int, float, float]
    assert type(Gaussian(np.int64(3)).bandwidth) is float


def test_sums_are_flat():
    kernels = [Gaussian(1.0), Energy(), Polynomial(), Gaussian(1.0)]
    one_by_one = functools.reduce(operator.add, kernels)
    assert one_by_one.parts() == tuple(kernels)
    assert (kernels[0] + kernels[1]) + (kernels[2] + kernels[3]) == one_by_one
    assert sum(kernels) == one_by_one
    assert sum(kernels[:1]) == kernels[0]


@pytest.mark.parametrize("other", [1, 1.5, "median", None])
def test_kernels_add_to_kernels_only(other):
    with pytest.raises(TypeError, match="unsupported operand"):
        Gaussian(1.0) + other
    with pytest.raises(TypeError, match=r"unsupported operand|can only concatenate"):
        other + Gaussian(1.0)


WIDTH = 'to be a positive, finite number or "median", got'
BAD_VALUES = {
    "degree 0": (lambda: Polynomial(0), "Polynomial: expected `degree` in [1, 32], got 0"),
    "degree 33": (lambda: Polynomial(33), "Polynomial: expected `degree` in [1, 32], got 33"),
    "gamma 0": (
        lambda: Polynomial(gamma=0),
        "Polynomial: expected `gamma` to be a positive, finite number or None, got 0",
    ),
    "gamma nan": (lambda: Polynomial(gamma=math.nan), "`gamma`"),
    "gamma inf": (lambda: Polynomial(gamma=math.inf), "`gamma`"),
    "coef0": (
        lambda: Polynomial(coef0=-0.1),
        "Polynomial: expected `coef0` to be a finite number of at least 0, got -0.1",
    ),
    "coef0 nan": (lambda: Polynomial(coef0=math.nan), "`coef0`"),
    "coef0 inf": (lambda: Polynomial(coef0=math.inf), "`coef0`"),
    "width 0": (lambda: Gaussian(0), f"Gaussian: expected `bandwidth` {WIDTH} 0"),
    "width -1": (lambda: Laplacian(-1.0), f"Laplacian: expected `bandwidth` {WIDTH} -1.0"),
    "width nan": (lambda: Gaussian(math.nan), "`bandwidth`"),
    "width inf": (lambda: Laplacian(math.inf), "`bandwidth`"),
    "width huge": (lambda: Gaussian(10**400), "`bandwidth`"),
    "width word": (lambda: Gaussian("mean"), f"Gaussian: expected `bandwidth` {WIDTH} 'mean'"),
    "width tiny": (lambda: Gaussian(1e-200), "Gaussian: expected `bandwidth` within 2^-500"),
    "length": (
        lambda: RationalQuadratic(1.0, 0.0),
        f"RationalQuadratic: expected `length_scale` {WIDTH} 0.0",
    ),
    "alpha": (
        lambda: RationalQuadratic(0.0),
        "RationalQuadratic: expected `alpha` to be a positive, finite number, got 0.0",
    ),
    "no terms": (lambda: KernelSum(()), "KernelSum: expected `terms` to be a tuple of kernels"),
    "no kernels": (
        lambda: as_kernels("mmd", []),
        "mmd: expected `kernel` to be a kernel or a sequence of kernels, got an empty sequence",
    ),
}
BAD_TYPES = {
    "degree": (
        lambda: Polynomial(2.0),
        "Polynomial: expected `degree` to be an int, got float 2.0",
    ),
    "degree bool": (lambda: Polynomial(True), "`degree`"),
    "gamma": (lambda: Polynomial(gamma="scale"), "`gamma`"),
    "gamma bool": (lambda: Polynomial(gamma=True), "`gamma`"),
    "coef0": (lambda: Polynomial(coef0=None), "`coef0`"),
    "width": (
        lambda: Gaussian([1.0]),
        f"Gaussian: expected `bandwidth` {WIDTH} list [1.0]",
    ),
    "width complex": (lambda: Laplacian(1j), "`bandwidth`"),
    "alpha": (lambda: RationalQuadratic("median"), "`alpha`"),
    "terms": (lambda: KernelSum([Gaussian(1.0)]), "KernelSum: expected `terms`"),
    "nested": (lambda: KernelSum((Gaussian(1.0) + Energy(),)), "KernelSum: expected `terms`"),
    "kernel": (
        lambda: as_kernels("mmd", "rbf"),
        "got str 'rbf'; for example fastgen.Gaussian(10.0)",
    ),
    "class": (lambda: as_kernels("mmd", [Energy(), Gaussian]), "got ABCMeta"),
}


@pytest.mark.parametrize("case", BAD_VALUES)
def test_bad_values(case):
    make, text = BAD_VALUES[case]
    with pytest.raises(ValueError, match=r"^\w+: expected `\w+` ") as caught:
        make()
    assert text in str(caught.value)


@pytest.mark.parametrize("case", BAD_TYPES)
def test_bad_types(case):
    make, text = BAD_TYPES[case]
    with pytest.raises(TypeError, match=r"^\w+: expected `\w+` ") as caught:
        make()
    assert text in str(caught.value)


def test_one_kernel_or_several():
    assert as_kernels("mmd", Energy()) == ([Energy()], False)
    assert as_kernels("mmd", [Energy()]) == ([Energy()], True)
    assert as_kernels("mmd", (Energy(), Gaussian(1) + Gaussian(2)))[1]
