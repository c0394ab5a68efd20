"""What sums of kernels may be off by, pair by pair.

The engine centres rows, z = x - c with c the pooled mean, and multiplies them with a rounding of
u = 2^-24; u is 2^-53 if a set is of float64 or integers, or if a kernel is narrower than an eighth
of the root mean square of |z|. A product or a squared norm is then off by a few u |z_x| |z_y|, and
the value of

* a polynomial by a few u times the degree times its own terms, every sign made +;
* a kernel of the squared distance by its slope times a few u (|z_x| + |z_y|)^2, and by a few u of
  how far it is from 1;
* a kernel of the distance likewise, but a squared distance that has cancelled to less than 2^-10
  of |z_x|^2 + |z_y|^2 comes from the rows themselves and is off by a few u of itself.

`FEW` is 8. A chain of 128 additions may be off by 128 u, but roundings differ in sign, and 6 u is
the most that has been seen (one feature far larger than all others). Sums add nothing that counts.
What the reference may be off by, as its docstrings have it, comes on top: it does not centre.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from checks import Array

from fastgen import Energy, Gaussian, Kernel, Laplacian, Polynomial, RationalQuadratic
from fastgen.numpy_reference import distances

FEW = 8
_SUBNORMAL = 2.0**-1074


@dataclass(frozen=True)
class Errors:
    """Of the engine and of the reference, for every row of one set with every row of another."""

    engine: Array
    reference: Array

    def both(self) -> Array:
        return self.engine + self.reference


class Sample:
    """Two sets, and their float64 copies for the reference, which remembers arrays by place."""

    def __init__(self, x: Array, y: Array) -> None:
        self.x, self.y = x, y
        self.wide_x, self.wide_y = x.astype(np.float64), y.astype(np.float64)

    def alone(self) -> Sample:
        """Pair the first set with itself."""
        alone = Sample.__new__(Sample)
        alone.x = alone.y = self.x
        alone.wide_x = alone.wide_y = self.wide_x
        return alone


class SumErrors:
    """Errors of all pairs of two sets for one kernel with numbers only."""

    def __init__(self, sample: Sample, kernel: Kernel) -> None:
        self.sets = [sample.wide_x, sample.wide_y]
        self.unit = (
            float(max(np.abs(rows).max() for rows in self.sets)) or 1.0
        )  # squares are finite
        self.rows = [rows / self.unit for rows in self.sets]
        self.centre = np.concatenate(self.rows).mean(axis=0)
        self.z = [rows - self.centre for rows in self.rows]
        self.norm = [np.linalg.norm(rows, axis=1) for rows in self.z]
        self.parts = kernel.parts()
        edge = np.square(np.concatenate(self.norm)).mean() / 64
        narrow = any(_width(part) ** 2 < edge * self.unit**2 for part in self.parts)
        given = (sample.x.dtype.name, sample.y.dtype.name)
        single = not narrow and all(name in ("float16", "float32") for name in given)
        self.few = FEW * 2.0 ** (-24 if single else -53)
        self.xx, self.xy, self.yy = self._pairs(0, 0), self._pairs(0, 1), self._pairs(1, 1)

    def of_value(self) -> float:
        """Of MMD^2, biased or not: of its three means."""
        xx, xy, yy = (float(pairs.both().mean()) for pairs in (self.xx, self.xy, self.yy))
        return xx + yy + 2 * xy

    def of_variance(self, deviation: float) -> float:
        """Of the squared standard error; `deviation` is that of the kernel, not centred.

        It is a weighted sum of means of products of two values. 100 is for the number of them and
        for n - 3 in place of n; 2^-50 for what is rounded where the squares of the means go.
        """
        n, m = self.xy.engine.shape
        means = (np.square(pairs.both()).mean() for pairs in (self.xx, self.xy, self.yy))
        off = max(np.sqrt(mean) for mean in means)
        products = off * (deviation + off) + 2.0**-50 * deviation**2
        return float(100 * (1 / n + 1 / m) * products)

    def _pairs(self, first: int, second: int) -> Errors:
        total = Errors(*np.zeros((2, len(self.rows[first]), len(self.rows[second]))))
        for part in self.parts:
            of_part = self._polynomial if isinstance(part, Polynomial) else self._distance
            moved, off = of_part(part, first, second)
            total = Errors(total.engine + self.few * moved, total.reference + off)
        return total

    def _polynomial(self, part: Polynomial, first: int, second: int) -> tuple[Array, Array]:
        d, p = self.rows[0].shape[1], part.degree
        gamma = (1 / d if part.gamma is None else part.gamma) * self.unit * self.unit
        w = gamma * (self.centre @ self.centre) + part.coef0
        a, t = (gamma * (np.abs(self.z[side]) @ np.abs(self.centre)) for side in (first, second))
        a, t = a[:, np.newaxis], t[np.newaxis]
        s = gamma * np.outer(self.norm[first], self.norm[second])
        # (w + a + t + s)^p - (w + a)^p - (w + t)^p + w^p, without its cancellation.
        value = less_b = less_q = np.zeros_like(s)
        power = np.ones_like(s)
        for _ in range(p):
            value = s * power + a * less_b + t * less_q + w * value
            less_b, less_q = (t + s) * power + (w + a) * less_b, (a + s) * power + (w + t) * less_q
            power = power * (w + a + t + s)
        norms = (np.linalg.norm(self.rows[side], axis=1) for side in (first, second))
        base = gamma * np.outer(*norms) + part.coef0
        vanished = d * _SUBNORMAL * (gamma / self.unit / self.unit)
        off = p * base ** (p - 1) * ((d + 4) * 2.0**-53 * base + vanished)
        return p * value, off

    def _distance(self, part: Kernel, first: int, second: int) -> tuple[Array, Array]:
        d = self.rows[0].shape[1]
        # Looked up in its module, where it may remember.
        sq = distances.sq_distances(self.sets[first], self.sets[second]) / self.unit / self.unit
        reach = np.square(self.norm[first][:, np.newaxis] + self.norm[second])
        distance = np.sqrt(sq)
        slope = reach / (np.maximum(distance, 2.0**-6 * np.sqrt(reach)) + 2.0**-500)
        ulp = (d / 32 + 10) * 2.0**-52
        vanished = np.sqrt(d * _SUBNORMAL)  # roots of squares that are subnormal in the reference
        if isinstance(part, Energy):
            return self.unit * (slope + distance), self.unit * distance * ulp + vanished
        width = _width(part) / self.unit
        nearest = np.maximum(sq - self.few * reach, 0.0)  # where the kernel may be steeper
        if isinstance(part, Laplacian):
            exponent, moved = distance / width, slope / width * np.exp(-np.sqrt(nearest) / width)
        elif isinstance(part, Gaussian):
            exponent = sq / width**2
            moved = reach / width**2 * np.exp(-nearest / width**2)
        else:
            assert isinstance(part, RationalQuadratic)
            exponent = part.alpha * np.log1p(sq / width**2)
            moved = part.alpha * reach / width**2
            moved = moved * np.exp(-(part.alpha + 1) * np.log1p(nearest / width**2))
        value = np.exp(-exponent)
        own = (1 - value) + value * exponent
        return np.minimum(moved, 1 / self.few) + own, own * ulp + vanished / self.unit / width


def _width(part: Kernel) -> float:
    """The distance at which the kernel has fallen to a half or so; infinite where it has none."""
    if isinstance(part, RationalQuadratic):
        return float(np.sqrt(2 * part.alpha) * part.length_scale)
    if isinstance(part, Gaussian):
        return float(np.sqrt(2) * part.bandwidth)
    return float(part.bandwidth) if isinstance(part, Laplacian) else float("inf")
