"""Fast, exact metrics that compare two sets of feature vectors.

Precision, recall, density, coverage and their kin between real and generated features, with the
same decisions as direct float64 arithmetic; FID with a bound of its error, never negative or
complex, from features or statistics; KID, CMMD and other kernel distances over the full samples,
with standard errors and p-values; Inception Score; Gaussian-kernel density, its bandwidth and the
log-likelihood of held-out rows; memory in proportion to the number of rows.

Examples
--------
>>> import numpy as np
>>> import fastgen
>>> rng = np.random.default_rng(0)
>>> real, fake = rng.normal(size=(2, 200, 16))
>>> fastgen.prdc(real=real, fake=fake).recall > 0.5
True
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fastgen._errors import BackendUnavailableError, DensityWarning
from fastgen.backend import info

if TYPE_CHECKING:
    from types import ModuleType

    from fastgen.kernels import (
        Energy,
        Gaussian,
        Kernel,
        KernelSum,
        Laplacian,
        Polynomial,
        RationalQuadratic,
    )
    from fastgen.metrics.cmmd import cmmd
    from fastgen.metrics.cross_validation import select_bandwidth
    from fastgen.metrics.density import log_density
    from fastgen.metrics.evaluate import evaluate
    from fastgen.metrics.frechet import fid, frechet_distance
    from fastgen.metrics.inception import InceptionScoreState, inception_score
    from fastgen.metrics.kid import kid
    from fastgen.metrics.likelihood import heldout_log_likelihood
    from fastgen.metrics.matrix_root import matrix_sqrt
    from fastgen.metrics.membership import membership
    from fastgen.metrics.mmd import mmd
    from fastgen.metrics.neighbours import knn_radii, nearest
    from fastgen.metrics.prdc import prdc
    from fastgen.metrics.precision_recall import precision_recall
    from fastgen.moments import Moments
    from fastgen.results import (
        KID,
        MMD,
        PRDC,
        BandwidthSelection,
        Frechet,
        FrechetFit,
        InceptionScore,
        Info,
        LogLikelihood,
        MatrixSqrt,
        Membership,
        Neighbors,
        PrecisionRecall,
        Report,
    )

    numpy_reference: ModuleType
    __version__: str

__all__ = [
    "KID",
    "MMD",
    "PRDC",
    "BackendUnavailableError",
    "BandwidthSelection",
    "DensityWarning",
    "Energy",
    "Frechet",
    "FrechetFit",
    "Gaussian",
    "InceptionScore",
    "InceptionScoreState",
    "Info",
    "Kernel",
    "KernelSum",
    "Laplacian",
    "LogLikelihood",
    "MatrixSqrt",
    "Membership",
    "Moments",
    "Neighbors",
    "Polynomial",
    "PrecisionRecall",
    "RationalQuadratic",
    "Report",
    "__version__",
    "cmmd",
    "evaluate",
    "fid",
    "frechet_distance",
    "heldout_log_likelihood",
    "inception_score",
    "info",
    "kid",
    "knn_radii",
    "log_density",
    "matrix_sqrt",
    "membership",
    "mmd",
    "nearest",
    "numpy_reference",
    "prdc",
    "precision_recall",
    "select_bandwidth",
]


# Loaded on first use: `import fastgen` takes 13 ms so, and 60 ms with all of it.
_HOMES = {
    name: module
    for module, names in {
        "fastgen.kernels": (
            "Energy",
            "Gaussian",
            "Kernel",
            "KernelSum",
            "Laplacian",
            "Polynomial",
            "RationalQuadratic",
        ),
        "fastgen.metrics.cmmd": ("cmmd",),
        "fastgen.metrics.cross_validation": ("select_bandwidth",),
        "fastgen.metrics.density": ("log_density",),
        "fastgen.metrics.evaluate": ("evaluate",),
        "fastgen.metrics.frechet": (
            "fid",
            "frechet_distance",
        ),
        "fastgen.metrics.inception": (
            "InceptionScoreState",
            "inception_score",
        ),
        "fastgen.metrics.kid": ("kid",),
        "fastgen.metrics.likelihood": ("heldout_log_likelihood",),
        "fastgen.metrics.matrix_root": ("matrix_sqrt",),
        "fastgen.metrics.membership": ("membership",),
        "fastgen.metrics.mmd": ("mmd",),
        "fastgen.metrics.neighbours": (
            "knn_radii",
            "nearest",
        ),
        "fastgen.metrics.prdc": ("prdc",),
        "fastgen.metrics.precision_recall": ("precision_recall",),
        "fastgen.moments": ("Moments",),
        "fastgen.results": (
            "KID",
            "MMD",
            "PRDC",
            "BandwidthSelection",
            "Frechet",
            "FrechetFit",
            "InceptionScore",
            "Info",
            "LogLikelihood",
            "MatrixSqrt",
            "Membership",
            "Neighbors",
            "PrecisionRecall",
            "Report",
        ),
    }.items()
    for name in names
}


def __getattr__(name: str) -> Any:
    value: Any
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    elif name == "__version__":
        from fastgen.backend import version

        value = version()
    elif name == "numpy_reference":
        value = importlib.import_module("fastgen.numpy_reference")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value  # this function is not asked again
    return value


def __dir__() -> list[str]:
    return __all__
