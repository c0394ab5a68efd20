"""Pairs of covariances whose Frechet distance is known, and the distance in 60 decimal digits.

Covariances are made from factors, ``S = F F'``: the distance then needs the singular values of
``F_1' F_2`` alone, which are known to rounding however ill-conditioned S is. But the covariance
that a function gets is rounded, by 2^-53 of its entries, and that moves the distance by the root of
it where an eigenvalue is that small. `exact_roots` are factors whose covariances are not rounded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
from checks import Array

from fastgen import Frechet, frechet_distance

DIGITS = 60
CONDITIONS = (1.0, 1e4, 1e8, 1e12, 1e16)
KINDS = ("same rotation", "random rotation", "reversed", "identity")


#: The ways to a bounded answer, and the library of the arrays.
WAYS = ("eigh", "newton_schulz", "newton_schulz on torch")


def distance(s_1: Array, s_2: Array, way: str = "auto") -> Frechet:
    """Call `fastgen.frechet_distance` for means of 0."""
    zeros = np.zeros(len(s_1))
    method, _, library = way.partition(" on ")
    if library:
        torch = pytest.importorskip("torch")
        return frechet_distance(zeros, torch.tensor(s_1), zeros, torch.tensor(s_2), method)
    return frechet_distance(zeros, s_1, zeros, s_2, method)


def rotation(rng: np.random.Generator, d: int) -> Array:
    """Draw an orthogonal matrix."""
    return np.linalg.qr(rng.standard_normal((d, d)))[0]


def graded_roots(
    rng: np.random.Generator, d: int, condition: float, kind: str
) -> tuple[Array, Array]:
    """Make factors of two covariances, the first (and mostly the second) of a condition number."""
    graded = np.sqrt(np.geomspace(1, 1 / condition, d))
    q = rotation(rng, d)
    other = {
        "same rotation": lambda: q * (1.5 * graded),
        "random rotation": lambda: rotation(rng, d) * graded,
        "reversed": lambda: q * graded[::-1],
        "identity": lambda: np.eye(d),
    }
    return q * graded, other[kind]()


def singular_roots(rng: np.random.Generator, d: int) -> Iterator[tuple[str, Array, Array]]:
    """Make factors of fewer columns than rows, beside others; at d = 1 there are none."""
    for rank in sorted({1, d // 4, d // 2, d - 1} - {0}):
        root = rng.standard_normal((d, rank))
        yield f"{rank}, full", root, rng.standard_normal((d, d))
        yield f"{rank}, identity", root, np.eye(d)
        yield f"{rank}, itself", root, root
        yield f"{rank}, singular", root, rng.standard_normal((d, max(1, d // 3)))


@cache
def hadamard(d: int) -> Array:
    """Return an orthogonal matrix with entries of one size, a power of two; d a power of 4."""
    found = np.ones((1, 1))
    while len(found) < d:
        found = np.kron(found, [[1, 1], [1, -1]]) / math.sqrt(2)
    return np.sign(found) / math.sqrt(d)


def exact_roots(rng: np.random.Generator, d: int, bits: int) -> tuple[Array, Array]:
    """Make factors whose products with their transposes are exact in float64.

    Entries are powers of two, and the condition numbers up to ``2^bits``: sums of d of them need
    ``bits`` binary digits and a few more.
    """
    roots = []
    for _ in range(2):
        halves = -rng.integers(0, bits // 2 + 1, d)
        halves[:2] = 0, -(bits // 2)
        signs = rng.choice([-1.0, 1.0], (d, 1))
        rows = hadamard(d)[rng.permutation(d)] * signs
        roots.append(rows * 2.0**halves)
    return roots[0], roots[1]


def from_roots(root_1: Array, root_2: Array) -> tuple[float, float]:
    """Return the distance for equal means, and the sum of both traces."""
    joint = np.linalg.svd(root_1.T @ root_2, compute_uv=False)
    traces = math.fsum(np.square(root_1).ravel()) + math.fsum(np.square(root_2).ravel())
    return math.fsum([traces, *(-2 * joint)]), traces


def exactly(s_1: Array, s_2: Array) -> Any:
    """Return the distance for equal means and the very numbers given, to 60 digits.

    None if a matrix is indefinite: rounding makes ill-conditioned ones so.
    """
    import mpmath  # not where the tests run on a GPU

    with mpmath.workdps(DIGITS):
        first, second = (mpmath.matrix(s.tolist()) for s in (s_1, s_2))
        least = mpmath.mpf(10) ** (10 - DIGITS)
        values, vectors = mpmath.eigsy(first)
        if min(values) < -least * max(map(abs, values)):
            return None
        others = mpmath.eigsy(second, eigvals_only=True)
        if min(others) < -least * max(map(abs, others)):
            return None
        root = vectors * mpmath.diag([mpmath.sqrt(max(v, 0)) for v in values])
        inner = root.T * second * root
        inner = (inner + inner.T) / 2
        squares = mpmath.eigsy(inner, eigvals_only=True)
        joint = mpmath.fsum(mpmath.sqrt(max(v, 0)) for v in squares)
        traces = mpmath.fsum([*s_1.diagonal().tolist(), *s_2.diagonal().tolist()])
        return traces - 2 * joint
