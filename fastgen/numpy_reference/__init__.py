"""Every public function again, in plain float64 NumPy: the definition that the kernels are held to.

The functions here carry the names, arguments and results of the package's public ones, and are
written to be read: no bounds, no tricks, one distance or product for every pair. Tests compare the
compiled engines with it: bit for bit whatever rests on comparing distances, and within a stated
error whatever is a sum. It is also the place to look up what a number means. It imports NumPy and
the standard library only, so that nothing it is compared with can leak into it.

`distances` has the canonical squared distance, `kernels` the kernels of the sums; `discrepancy`
and `density` say how exact the sums and the log-densities are, `frechet` and `inception` what
Frechet distances and Inception Scores are.
"""

from __future__ import annotations

from fastgen.numpy_reference.ball_metrics import membership, prdc, precision_recall
from fastgen.numpy_reference.balls import ball_counts, sq_realism
from fastgen.numpy_reference.density import (
    heldout_log_likelihood,
    log_density,
    select_bandwidth,
)
from fastgen.numpy_reference.discrepancy import cmmd, kid, mmd
from fastgen.numpy_reference.distances import sq_distances
from fastgen.numpy_reference.evaluation import evaluate
from fastgen.numpy_reference.frechet import fid, frechet_distance, matrix_sqrt
from fastgen.numpy_reference.inception import inception_score
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
from fastgen.numpy_reference.moments import Moments
from fastgen.numpy_reference.neighbours import knn_radii, nearest, sq_knn_radii, sq_nearest
from fastgen.numpy_reference.results import (
    KID,
    MMD,
    PRDC,
    BandwidthSelection,
    Frechet,
    InceptionScore,
    LogLikelihood,
    MatrixSqrt,
    Membership,
    Neighbors,
    PrecisionRecall,
)

__all__ = [
    "KID",
    "MMD",
    "PRDC",
    "BandwidthSelection",
    "Energy",
    "Frechet",
    "Gaussian",
    "InceptionScore",
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
    "ball_counts",
    "cmmd",
    "evaluate",
    "fid",
    "frechet_distance",
    "heldout_log_likelihood",
    "inception_score",
    "kernel_matrix",
    "kernel_sums",
    "kid",
    "knn_radii",
    "log_density",
    "matrix_sqrt",
    "median_distance",
    "membership",
    "mmd",
    "nearest",
    "prdc",
    "precision_recall",
    "select_bandwidth",
    "sq_distances",
    "sq_knn_radii",
    "sq_nearest",
    "sq_realism",
]
