"""What the functions of the reference return."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastgen.numpy_reference.arguments import Floats, Integers


@dataclass(frozen=True)
class Neighbors:
    """The k nearest rows: `distances` (n, k) ascending, and their `indices` (n, k) int64."""

    distances: Floats
    indices: Integers


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision, recall and their harmonic mean, each in [0, 1]."""

    precision: float
    recall: float
    f_score: float


@dataclass(frozen=True)
class PRDC:
    """Precision, recall and coverage in [0, 1]; density is 0 or more, and about 1 for a match."""

    precision: float
    recall: float
    density: float
    coverage: float


@dataclass(frozen=True)
class Membership:
    """What :func:`precision_recall` counts, row by row, and the realism of every fake row."""

    fake_in_real: npt.NDArray[np.bool_]
    real_in_fake: npt.NDArray[np.bool_]
    fake_counts: Integers
    realism: Floats


@dataclass(frozen=True)
class MMD:
    """Squared maximum mean discrepancy of n and m rows.

    `standard_error` is NaN for fewer than 4 rows; `p_value` is None without permutations.
    """

    value: float
    standard_error: float
    p_value: float | None
    n: int
    m: int


@dataclass(frozen=True)
class KID:
    """Kernel distance; `std` is the standard error, or the deviation between subsets."""

    mean: float
    std: float


@dataclass(frozen=True)
class BandwidthSelection:
    """The best of several bandwidths, and the mean log-density of rows left out under each."""

    bandwidth: float
    candidates: Floats
    scores: Floats


@dataclass(frozen=True)
class LogLikelihood:
    """Mean log-density in nats, its standard error (NaN for one row), and bits per dimension."""

    mean: float
    standard_error: float
    bits_per_dim: float


@dataclass(frozen=True)
class Frechet:
    """Squared Frechet distance of two normal distributions: mean term plus covariance term.

    `error_bound` is what rounding may have changed of `value`; NaN where nothing is known of it.
    """

    value: float
    error_bound: float
    mean_term: float
    covariance_term: float
    method: str


@dataclass(frozen=True)
class MatrixSqrt:
    """A principal square root X of A, and its residual ``|X X - A| / |A|`` in Frobenius norms."""

    value: Floats
    residual: float


@dataclass(frozen=True)
class InceptionScore:
    """Inception Score over splits, and the mean and marginal entropies of all rows in nats."""

    mean: float
    std: float
    sharpness: float
    diversity: float
