"""Densities in decimal arithmetic of 50 digits, and what float64 may be off by beside them."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import families
import numpy as np

WORKED = np.array([[-2.1], [-1.3], [-0.4], [1.9], [5.1], [6.2]])
TWO_PI = 2 * Decimal("3.14159265358979323846264338327950288419716939937510582")


def two_sets(*key: int | str, n: int, m: int, d: int):
    """Return normal points and samples that are not quite of the same distribution."""
    rng = families.seeded("density", *key)
    return 1.2 * rng.standard_normal((n, d)) - 0.3, rng.standard_normal((m, d))


def some_covariance(d: int):
    """Return a positive definite matrix."""
    rng = families.seeded("covariance", d)
    root = np.tril(0.3 * rng.standard_normal((d, d)), -1) + np.diag(rng.uniform(0.5, 2.0, d))
    return root @ root.T


def exact_quadratic(t, covariance):
    """Return t' S^-1 t and det S by elimination on the bordered matrix, in Decimal."""
    a = [[Decimal(float(v)) for v in row] for row in covariance]
    t, det, quadratic = list(t), Decimal(1), Decimal(0)
    for i, pivot in enumerate(a):
        det *= pivot[i]
        quadratic += t[i] * t[i] / pivot[i]
        for j in range(i + 1, len(a)):
            factor = a[j][i] / pivot[i]
            a[j] = [u - factor * v for u, v in zip(a[j], pivot, strict=True)]
            t[j] -= factor * t[i]
    return quadratic, det


def exact(point, samples, h, covariance=None, weights=None):
    """Return (log-density, exponent of the nearest sample) from numbers of 50 digits."""
    with localcontext() as context:
        context.prec = 50
        h, d = Decimal(float(h)), len(point)
        weights = [Decimal(1)] * len(samples) if weights is None else [*map(Decimal, weights)]
        at = [Decimal(v) for v in np.asarray(point, dtype=np.float64).tolist()]
        log_det, exponents = Decimal(0), []
        for sample in np.asarray(samples, dtype=np.float64).tolist():
            t = [a - Decimal(b) for a, b in zip(at, sample, strict=True)]
            if covariance is None:
                quadratic = sum(v * v for v in t)
            else:
                quadratic, det = exact_quadratic(t, covariance)
                log_det = det.ln()
            exponents.append(quadratic / (2 * h * h))
        nearest = min(e for w, e in zip(weights, exponents, strict=True) if w)
        terms = [w * (nearest - e).exp() for w, e in zip(weights, exponents, strict=True)]
        log_p = (sum(terms) / sum(weights)).ln() - nearest
        return log_p - d * h.ln() - (d * TWO_PI.ln() + log_det) / 2, nearest


def error_bound(nearest, n: int, d: int, h: float) -> float:
    """Return what the first lines of `numpy_reference.density` say of its error."""
    scale = (d / 32 + 8) * (float(nearest) + math.log(n))
    return 2.0**-52 * (scale + 2 * d * (abs(math.log(h)) + 1) + 20)


def assert_exact(point, samples, h, found):
    """Compare a value of the reference with the exact one."""
    true, nearest = exact(point, samples, h)
    error = abs(Decimal(float(found)) - true)
    assert error <= error_bound(nearest, len(samples), len(point), h)
