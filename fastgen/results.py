"""What the public functions return: frozen dataclasses with ``to_dict()``.

The lowest layer: imports nothing of ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt


def _plain(value: Any) -> Any:
    """Render a field in types that ``json.dumps`` takes."""
    if isinstance(value, Result):
        return value.to_dict()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if hasattr(value, "tolist"):  # an array of another library
        return value.tolist()
    return value


@dataclass(frozen=True)
class Result:
    """Base of all results."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain Python values.

        Returns
        -------
        dict
            Field name to int, float, bool, str, None, list or dict; arrays become (nested) lists.

        Examples
        --------
        >>> from fastgen import PrecisionRecall
        >>> PrecisionRecall(precision=1.0, recall=0.5, f_score=2 / 3).to_dict()["recall"]
        0.5
        """
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}


@dataclass(frozen=True, eq=False)  # arrays have no single truth value to compare by
class Neighbors(Result):
    """Nearest neighbours of every row.

    Attributes
    ----------
    distances : array of shape (n, k), float64
        Euclidean distances in feature space, ascending.
    indices : array of shape (n, k), int64
        Rows they belong to; equal distances are ordered by index.
    """

    distances: npt.NDArray[np.float64]
    indices: npt.NDArray[np.int64]


@dataclass(frozen=True)
class PrecisionRecall(Result):
    """Improved precision and recall.

    Attributes
    ----------
    precision : float
        Share of fake rows inside at least one ball around a real row, in [0, 1].
    recall : float
        Share of real rows inside at least one ball around a fake row, in [0, 1].
    f_score : float
        Harmonic mean of the two, ``2 P R / (P + R)``; 0 when both are 0.
    """

    precision: float
    recall: float
    f_score: float


@dataclass(frozen=True)
class PRDC(Result):
    """Precision, recall, density and coverage.

    Attributes
    ----------
    precision : float
        Share of fake rows inside at least one ball around a real row, in [0, 1].
    recall : float
        Share of real rows inside at least one ball around a fake row, in [0, 1].
    density : float
        Number of (real ball, fake row inside it) pairs over ``k m``: about 1 for equal
        distributions, may exceed 1.
    coverage : float
        Share of balls around real rows that hold at least one fake row, in [0, 1].
    """

    precision: float
    recall: float
    density: float
    coverage: float


@dataclass(frozen=True, eq=False)
class Membership(Result):
    """Which rows lie in the other set's manifold.

    Attributes
    ----------
    fake_in_real : array of shape (m,), bool
        Whether the fake row lies in at least one ball around a real row; its mean is precision.
    real_in_fake : array of shape (n,), bool
        Whether the real row lies in at least one ball around a fake row; its mean is recall.
    fake_counts : array of shape (m,), int64
        Number of real balls that hold the fake row; their sum over ``k m`` is density.
    realism : array of shape (m,), float64
        Largest ratio of a real row's radius to its distance from the fake row, over the real rows
        whose radius does not exceed the median; at least 1 inside one of those balls.
    """

    fake_in_real: npt.NDArray[np.bool_]
    real_in_fake: npt.NDArray[np.bool_]
    fake_counts: npt.NDArray[np.int64]
    realism: npt.NDArray[np.float64]


@dataclass(frozen=True)
class MMD(Result):
    """Squared maximum mean discrepancy.

    Attributes
    ----------
    value : float
        Estimate of MMD^2; the unbiased one may be negative, the biased one is 0 or more.
    standard_error : float
        Of the unbiased estimate; NaN where a set has fewer than 4 rows.
    p_value : float or None
        Share of random relabellings of the pooled rows that differ at least as much, the true
        labelling counted among them; None if none were asked for.
    n : int
        Number of rows of the first (real) set.
    m : int
        Number of rows of the second (fake) set.
    """

    value: float
    standard_error: float
    p_value: float | None
    n: int
    m: int


@dataclass(frozen=True)
class KID(Result):
    """Kernel inception distance.

    Attributes
    ----------
    mean : float
        Unbiased estimate of MMD^2: that of the full sample, or the mean over subsets.
    std : float
        Of the full sample, the standard error (NaN where a set has fewer than 4 rows); of subsets,
        the standard deviation of their estimates, with the number of subsets as divisor.
    """

    mean: float
    std: float


@dataclass(frozen=True, eq=False)
class BandwidthSelection(Result):
    """What cross-validation chose.

    Attributes
    ----------
    bandwidth : float
        The candidate with the highest score, the first of equals.
    candidates : array of shape (c,), float64
        Bandwidths that were tried, in the order given.
    scores : array of shape (c,), float64
        Mean log-density of the rows left out under each, in nats.
    """

    bandwidth: float
    candidates: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64]


@dataclass(frozen=True)
class LogLikelihood(Result):
    """How likely held-out rows are under a density.

    Attributes
    ----------
    mean : float
        Mean log-density of the rows, in nats.
    standard_error : float
        Of that mean, over the rows (divisor n - 1); NaN for one row.
    bits_per_dim : float
        ``-mean / (d log 2)``.
    """

    mean: float
    standard_error: float
    bits_per_dim: float


@dataclass(frozen=True)
class Frechet(Result):
    """Squared Frechet distance of two normal distributions (FID).

    Attributes
    ----------
    value : float
        ``mean_term + covariance_term``, at least 0.
    error_bound : float
        What rounding may have changed of the value, for the numbers given; NaN where nothing is
        known of it.
    mean_term : float
        ``|m_1 - m_2|^2``.
    covariance_term : float
        ``tr S_1 + tr S_2 - 2 tr (S_1^(1/2) S_2 S_1^(1/2))^(1/2)``, at least 0.
    method : str
        How the square root was computed: "eigh", "newton_schulz" or "eigvals".
    """

    value: float
    error_bound: float
    mean_term: float
    covariance_term: float
    method: str


@dataclass(frozen=True)
class FrechetFit(Frechet):
    """A Frechet distance extrapolated to infinitely many fake rows.

    Attributes
    ----------
    value, error_bound, mean_term, covariance_term, method
        As of `Frechet`, of the line at ``1 / m = 0``; the terms are those of their own lines.
    sizes : tuple of int
        Rows of the nested subsets of the fake set, ascending.
    values : tuple of float
        Frechet distance of each.
    """

    sizes: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class MatrixSqrt(Result):
    """Principal square root of a symmetric positive semi-definite matrix.

    Attributes
    ----------
    value : array of shape (d, d), float64
        X, symmetric positive semi-definite, of the library and on the device of the input.
    residual : float
        ``|X X - A| / |A|`` in Frobenius norms.
    """

    value: Any
    residual: float


@dataclass(frozen=True)
class InceptionScore(Result):
    """Inception Score of a classifier's answers.

    Attributes
    ----------
    mean : float
        Mean over splits of ``exp(diversity - sharpness)``; from 1 to the number of classes.
    std : float
        Standard deviation over splits, with their number as divisor.
    sharpness : float
        Mean entropy of the rows' class probabilities in nats; 0 where every answer is sure.
    diversity : float
        Entropy of the mean of all rows' class probabilities in nats; the logarithm of the number of
        classes where all are equally frequent.
    """

    mean: float
    std: float
    sharpness: float
    diversity: float


@dataclass(frozen=True)
class Report(Result):
    """Several metrics of one pair of sets.

    ``to_dict()`` has exactly the keys below, in this order; each entry of "metrics" is the
    ``to_dict()`` of that metric's own result.

    Attributes
    ----------
    metrics : dict of str to Result
        Results by metric name, for example ``{"prdc": PRDC(...)}``.
    n : int or None
        Number of real rows; None for statistics whose file does not tell it.
    m : int or None
        Number of fake rows, likewise.
    d : int
        Number of features.
    k : int or None
        Number of neighbours that the radii were taken from; None if no metric uses radii.
    ties : str or None
        "closed" (a row at exactly the radius is inside) or "open"; None if no metric uses radii.
    bandwidth : float or None
        Of the kernel density that "kde" took, given or chosen; None without it.
    seconds : dict of str to float
        Wall-clock seconds by metric name. Work that several metrics or several reports of one call
        share is counted once, in the first of them.
    """

    metrics: dict[str, Result]
    n: int | None
    m: int | None
    d: int
    k: int | None
    ties: str | None
    bandwidth: float | None
    seconds: dict[str, float]


@dataclass(frozen=True)
class Info(Result):
    """What this installation can use on this machine.

    Attributes
    ----------
    version : str
        Version of the installed package.
    instruction_sets : tuple of str
        Instruction sets that are compiled in and usable here, best first.
    instruction_set : str
        The one that is used (``FASTGEN_ISA`` forces one).
    threads : int
        Threads used when a call does not say (``FASTGEN_NUM_THREADS``, else the CPUs this process
        may run on).
    gpus : tuple of str
        Usable GPUs, for example "cuda:0 NVIDIA H100 80GB HBM3"; empty without a driver, and in a
        build without a GPU backend.
    """

    version: str
    instruction_sets: tuple[str, ...]
    instruction_set: str
    threads: int
    gpus: tuple[str, ...]
