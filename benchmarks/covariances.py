"""Pairs of covariances made from factors, so that their Frechet distance is known beforehand."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from features import relu_features

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Pair:
    """Two covariances ``S = F F'``, and what follows from the factors without forming them.

    Attributes
    ----------
    first, second : float64 arrays of shape (d, d)
        Exactly symmetric.
    traces : float
        Sum of both traces.
    value : float
        ``tr S_1 + tr S_2 - 2 |F_1' F_2|_*``.
    """

    first: Floats
    second: Floats
    traces: float
    value: float


def rotation(d: int, seed: int) -> Floats:
    """Return a random orthogonal matrix."""
    q: Floats = np.linalg.qr(np.random.default_rng((seed, d)).standard_normal((d, d)))[0]
    return q


def _samples(n: float) -> Callable[[int], tuple[Floats, Floats]]:
    """Return factors of the sample covariances of n d normal rows each."""

    def make(d: int) -> tuple[Floats, Floats]:
        rng = np.random.default_rng((3, d))
        rows = max(1, int(n * d))
        first, second = rng.standard_normal((2, d, rows)) / math.sqrt(rows)
        return first, second

    return make


def _graded(condition: float, *, reverse: bool = False) -> Callable[[int], tuple[Floats, Floats]]:
    """Return factors with eigenvalues spaced geometrically, the second rotated or reversed."""

    def make(d: int) -> tuple[Floats, Floats]:
        roots = np.sqrt(np.geomspace(1, 1 / condition, d))
        q = rotation(d, 1)
        return q * roots, (q[:, ::-1] if reverse else rotation(d, 2)) * roots

    return make


def _power(d: int) -> tuple[Floats, Floats]:
    """Return factors with eigenvalues i^-1.5, as those of deep features fall off."""
    roots = np.arange(1, d + 1) ** -0.75
    return rotation(d, 1) * roots, rotation(d, 2) * roots


def _relu(d: int) -> tuple[Floats, Floats]:
    """Return factors of the sample covariances of rectified low-rank features."""
    first, second = (
        relu_features(4 * d, d, seed=seed, spread=spread).astype(np.float64)
        for seed, spread in ((1, 1.0), (2, 0.9))
    )
    first, second = first - first.mean(axis=0), second - second.mean(axis=0)
    return first.T / math.sqrt(len(first) - 1), second.T / math.sqrt(len(second) - 1)


#: What the factors of each kind are, for a given d.
KINDS: dict[str, Callable[[int], tuple[Floats, Floats]]] = {
    "4 d normal rows": _samples(4),
    "4 d relu rows": _relu,
    "eigenvalues i^-1.5": _power,
    "condition 1e8": _graded(1e8),
    "condition 1e12": _graded(1e12),
    "condition 1e16": _graded(1e16),
    "condition 1e16, reversed": _graded(1e16, reverse=True),
    "rank d/2": _samples(0.5),
    "rank d/20": _samples(0.05),
}

#: Those whose condition numbers are below 1e6.
WELL_CONDITIONED = ("4 d normal rows", "4 d relu rows", "eigenvalues i^-1.5")


@cache
def covariance_pair(kind: str, d: int) -> Pair:
    """Return a pair of one of the `KINDS`."""
    roots = KINDS[kind](d)
    first, second = (root @ root.T for root in roots)
    first, second = (np.tril(s) + np.tril(s, -1).T for s in (first, second))
    traces = math.fsum((np.square(roots[0]).sum(), np.square(roots[1]).sum()))
    shared = math.fsum(np.linalg.svd(roots[0].T @ roots[1], compute_uv=False).tolist())
    return Pair(first, second, traces, traces - 2 * shared)
