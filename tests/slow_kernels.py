"""Kernels once more, one value at a time in plain Python numbers: what NumPy's are checked by."""

from __future__ import annotations

import math

import families
import numpy as np

from fastgen import numpy_reference as reference
from fastgen.numpy_reference import Energy, Gaussian, Polynomial

KERNELS = [
    Polynomial(),
    Polynomial(degree=1, gamma=2.0, coef0=0.0),
    Polynomial(degree=7, gamma=0.05, coef0=0.5),
    Gaussian(1.5),
    reference.RationalQuadratic(),
    reference.RationalQuadratic(alpha=0.3, length_scale=2.0),
    reference.Laplacian(1.5),
    Energy(),
    Gaussian(0.5) + Gaussian(2.0) + Polynomial(degree=2),
]


def one_value(x, y, kernel) -> float:
    """Return the kernel of two rows, in plain Python numbers."""
    product = math.fsum(float(a) * float(b) for a, b in zip(x, y, strict=True))
    distance = math.dist(x, y)
    value = 0.0
    for part in kernel.parts():
        if isinstance(part, Polynomial):
            gamma = 1 / len(x) if part.gamma is None else part.gamma
            value += (gamma * product + part.coef0) ** part.degree
        elif isinstance(part, Gaussian):
            value += math.exp(-(distance**2) / (2 * part.bandwidth**2))
        elif isinstance(part, reference.RationalQuadratic):
            base = 1 + distance**2 / (2 * part.alpha * part.length_scale**2)
            value += base**-part.alpha
        elif isinstance(part, reference.Laplacian):
            value += math.exp(-distance / part.bandwidth)
        else:
            value -= distance
    return value


def slow_matrix(x, y, kernel):
    return np.array([[one_value(a, b, kernel) for b in y] for a in x])


def two_sets(*key: int | str, n: int, m: int, d: int = 3):
    rng = families.seeded("sums", *key)
    return rng.standard_normal((n, d)), 1.3 * rng.standard_normal((m, d)) + 0.4
