"""What fastgen is measured against; every contender is a class with a `name` and one method.

The lists leave out contenders whose libraries are not installed here.
"""

from __future__ import annotations

from contenders.base import (
    DensityContender,
    FrechetContender,
    KidContender,
    MmdContender,
    PrdcContender,
)
from contenders.cmmd_formula import CmmdFormula
from contenders.density_blocked import DensityBlocked
from contenders.density_packages import ScipyDensity, ScipyLogDensity, SklearnDensity
from contenders.fid_formulas import EighFormula, EigvalsFormula, SqrtmFormula
from contenders.kid_formulas import CleanFidFormula, TorchFidelityFormula
from contenders.kid_packages import CleanFidPackage, TorchFidelityPackage, TorchmetricsPackage
from contenders.mmd_blocked import MmdBlocked
from contenders.numpy_blocked import NumpyBlocked
from contenders.prdc_formula import PrdcFormula
from contenders.prdc_package import PrdcPackage

__all__ = [
    "CmmdFormula",
    "DensityContender",
    "FrechetContender",
    "KidContender",
    "MmdContender",
    "PrdcContender",
    "density_contenders",
    "frechet_contenders",
    "kid_contenders",
    "mmd_contenders",
    "mmd_formulas",
    "prdc_contenders",
]


def prdc_contenders() -> list[type[PrdcContender]]:
    """Return those that compute precision, recall, density and coverage."""
    return [each for each in (NumpyBlocked, PrdcFormula, PrdcPackage) if each.available()]


def mmd_contenders() -> list[type[MmdContender]]:
    """Return those that compute MMD^2 of sets too large for a whole kernel matrix."""
    return [MmdBlocked]


def mmd_formulas() -> list[type[MmdContender]]:
    """Return the float32 formulas of MMD^2 that are in use, for the comparison of errors."""
    return [TorchFidelityFormula, CleanFidFormula]


def kid_contenders() -> list[type[KidContender]]:
    """Return those that compute KID over subsets."""
    formulas: list[type[KidContender]] = [TorchFidelityFormula, CleanFidFormula]
    packages: list[type[KidContender]] = [
        TorchFidelityPackage,
        CleanFidPackage,
        TorchmetricsPackage,
    ]
    return formulas + [each for each in packages if each.available()]


def density_contenders() -> list[type[DensityContender]]:
    """Return those that compute the logarithms of a density."""
    packages: list[type[DensityContender]] = [SklearnDensity, ScipyDensity, ScipyLogDensity]
    return [DensityBlocked, *(each for each in packages if each.available())]


def frechet_contenders() -> list[type[FrechetContender]]:
    """Return those that compute the Frechet distance from covariances."""
    return [each for each in (SqrtmFormula, EigvalsFormula, EighFormula) if each.available()]
