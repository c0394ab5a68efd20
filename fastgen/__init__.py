"""Fast, exact metrics that compare two sets of feature vectors.

Precision, recall, density, coverage and their kin between real and generated features, with the
same decisions as direct float64 arithmetic; KID, CMMD and other kernel distances over the full
samples, with standard errors and p-values; Gaussian-kernel density, its bandwidth and the
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

from typing import TYPE_CHECKING, Any

from fastgen._errors import BackendUnavailableError, DensityWarning
from fastgen.backend import info
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
from fastgen.metrics.kid import kid
from fastgen.metrics.likelihood import heldout_log_likelihood
from fastgen.metrics.membership import membership
from fastgen.metrics.mmd import mmd
from fastgen.metrics.neighbours import knn_radii, nearest
from fastgen.metrics.prdc import prdc
from fastgen.metrics.precision_recall import precision_recall
from fastgen.results import (
    KID,
    MMD,
    PRDC,
    BandwidthSelection,
    Info,
    LogLikelihood,
    Membership,
    Neighbors,
    PrecisionRecall,
    Report,
)

if TYPE_CHECKING:
    from types import ModuleType

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
    "Gaussian",
    "Info",
    "Kernel",
    "KernelSum",
    "Laplacian",
    "LogLikelihood",
    "Membership",
    "Neighbors",
    "Polynomial",
    "PrecisionRecall",
    "RationalQuadratic",
    "Report",
    "__version__",
    "cmmd",
    "evaluate",
    "heldout_log_likelihood",
    "info",
    "kid",
    "knn_radii",
    "log_density",
    "membership",
    "mmd",
    "nearest",
    "numpy_reference",
    "prdc",
    "precision_recall",
    "select_bandwidth",
]


def __getattr__(name: str) -> Any:
    # Both cost time that most programs never need to spend.
    if name == "__version__":
        from fastgen.backend import version

        return version()
    if name == "numpy_reference":
        import importlib

        return importlib.import_module("fastgen.numpy_reference")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
