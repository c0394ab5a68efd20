"""What a log-density may be off by: the contract's bound, and what the reference adds to it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from checks import Array

from fastgen import numpy_reference as reference
from fastgen import pairwise
from fastgen.numpy_reference import distances

PATHS = {"direct": 16, "ordered": 8, "tiles": 10**6}


def paths_for(d: int) -> list[str]:
    """Paths that serve d features."""
    return [path for path, most in PATHS.items() if d <= most]


class Sums:
    """Log sums of two sets by the reference, and what an engine's may differ by.

    The reference gets the rows in units of a power of two in which the squares of their differences
    are float64 numbers; so `widths`, which are exact in them too.
    """

    def __init__(
        self,
        points: Array | None,
        samples: Array,
        widths: Any,
        weights: Any = None,
    ) -> None:
        self.points, self.samples, self.weights = points, samples, weights
        self.widths = np.array(widths, dtype=np.float64)
        sets = [samples] if points is None else [points, samples]
        wide = [rows.astype(np.float64) for rows in sets]
        peak = max(float(np.abs(rows).max()) for rows in wide)
        scale = min(-math.frexp(peak)[1], 1000) if 0 < peak < 1e-100 or peak > 1e100 else 0
        self.unit = math.ldexp(1.0, scale)
        wide = [rows * self.unit for rows in wide]
        alone, d = points is None, samples.shape[1]
        widths = self.widths * self.unit
        self.values = reference.log_density(
            None if alone else wide[0], wide[-1], widths, weights=weights, leave_one_out=alone
        )
        used = np.ones(len(samples)) if weights is None else np.asarray(weights, dtype=np.float64)
        others = [used.sum()] * len(wide[0])
        if alone:  # the sum of the others itself, as a difference might cancel
            others = [math.fsum(np.delete(used, row)) for row in range(len(used))]
        self.values += np.log(others)[:, np.newaxis]
        self.values += d * np.log(widths) + 0.5 * d * math.log(2 * math.pi)

        sq = distances.sq_distances(wide[0], wide[-1])
        sq[:, used == 0] = np.inf
        if alone:
            np.fill_diagonal(sq, np.inf)
        self.exponents = 0.5 * sq.min(axis=1)[:, np.newaxis] / widths / widths
        dtypes = [rows.dtype for rows in sets]
        single = all(dtype in (np.float16, np.float32) for dtype in dtypes)
        self.allowed = (1e-5 if single else 1e-10) + 2.0**-44 * self.exponents
        scale = (d / 32 + 8) * (self.exponents + math.log(len(samples)))
        self.allowed += 2.0**-52 * (scale + 2 * d * (np.abs(np.log(widths)) + 1) + 20)

    def check(self, columns: Any = None, **how: Any) -> None:
        """Compare the engine's sums; `columns` are numbers of the bandwidths, one for a scalar."""
        columns = range(len(self.widths)) if columns is None else columns
        x, y = (self.samples, None) if self.points is None else (self.points, self.samples)
        widths = self.widths[columns]
        found = pairwise.log_kernel_sums(x, y, widths, weights=self.weights, **how)
        assert found.dtype == np.float64
        assert found.shape == self.values[:, columns].shape
        self.compare(found, columns, str((how, widths)))

    def compare(self, found: Array, columns: Any, what: str) -> None:
        """Say where a value is off by more than it may be."""
        expected, allowed = self.values[:, columns], self.allowed[:, columns]
        with np.errstate(invalid="ignore"):  # -inf twice
            bad = ~((np.abs(found - expected) <= allowed) | (found == expected))
        if bad.any():
            place = tuple(int(axis[0]) for axis in np.nonzero(bad))
            raise AssertionError(
                f"{what}: {np.count_nonzero(bad)} of {bad.size} are off, the first at {place}: "
                f"{found[place]!r} != {expected[place]!r} within {allowed[place]!r}"
            )


def typical_distance(points: Array, samples: Array) -> float:
    """Return the median distance, or another number of its size where most rows are equal."""
    unit = float(max(np.abs(rows.astype(np.float64)).max() for rows in (points, samples))) or 1.0
    wide = [rows.astype(np.float64) / unit for rows in (points, samples)]
    sq = distances.sq_distances(*wide)
    positive = sq[sq > 0]
    return unit * (math.sqrt(np.median(positive)) if len(positive) else 1.0)
