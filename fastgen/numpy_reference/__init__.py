"""Every public function again, in plain float64 NumPy: the definition that the kernels are held to.

The functions here carry the names, arguments and results of the package's public ones, and are
written to be read: no bounds, no tricks, one distance or product for every pair. Tests compare the
compiled engines with it: bit for bit whatever rests on comparing distances, and within a stated
error whatever is a sum. It is also the place to look up what a number means. It imports NumPy and
the standard library only, so that nothing it is compared with can leak into it.

`distances` has the canonical squared distance, `kernels` the kernels of the sums, and
`discrepancy` says how exact the sums are.
"""

from __future__ import annotations

from fastgen.numpy_reference.ball_metrics import membership, prdc, precision_recall
from fastgen.numpy_reference.balls import ball_counts, sq_realism
from fastgen.numpy_reference.discrepancy import cmmd, kid, mmd
from fastgen.numpy_reference.distances import sq_distances
from fastgen.numpy_reference.evaluation import evaluate
from fastgen.numpy_reference.kernels import (
    Energy,
    Gaussian,
    KernelSum,
    Laplacian,
    Polynomial,
    RationalQuadratic,
    kernel_matrix,
    kernel_sums,
    median_distance,
)
from fastgen.numpy_reference.neighbours import knn_radii, nearest, sq_knn_radii, sq_nearest
from fastgen.numpy_reference.results import (
    KID,
    MMD,
    PRDC,
    Membership,
    Neighbors,
    PrecisionRecall,
)

__all__ = [
    "KID",
    "MMD",
    "PRDC",
    "Energy",
    "Gaussian",
    "KernelSum",
    "Laplacian",
    "Membership",
    "Neighbors",
    "Polynomial",
    "PrecisionRecall",
    "RationalQuadratic",
    "ball_counts",
    "cmmd",
    "evaluate",
    "kernel_matrix",
    "kernel_sums",
    "kid",
    "knn_radii",
    "median_distance",
    "membership",
    "mmd",
    "nearest",
    "prdc",
    "precision_recall",
    "sq_distances",
    "sq_knn_radii",
    "sq_nearest",
    "sq_realism",
]
