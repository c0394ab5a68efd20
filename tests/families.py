"""The data that the tests run on: small awkward sets, and seven kinds of feature at full width.

`DATA_FAMILIES` are functions ``(rng, n, d, dtype, m=None) -> (real, fake)`` of n and m rows, each
one kind of input that has broken, or could break, a fast distance: exact ties, duplicates, extreme
scales, clusters far narrower than their distance from the origin.

`FEATURE_FAMILIES` are seven kinds of feature vector with the number of candidates per row that the
bounds of the int8 engine should leave for the float64 recheck. `tight_clusters` is the hard case
for those bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
DataFamily = Callable[..., tuple[Array, Array]]

# The magnitudes at which each dtype is asked to work: near its smallest normal number and below,
# and near its largest. Squares of float32's 1e-30 underflow in float32, those of 1e30 overflow.
TINY = {"float16": 2e-6, "float32": 1e-30, "float64": 1e-30}
HUGE = {"float16": 1e4, "float32": 1e30, "float64": 1e30}
LIMIT = {"float16": 65504.0, "float32": float(np.finfo(np.float32).max), "float64": 2.0**500}


def seeded(*key: int | str) -> np.random.Generator:
    """Return a generator whose stream depends on the key alone, not on the order of the tests."""
    return np.random.default_rng(list("/".join(map(str, key)).encode()))


def _cast(values: Array, dtype: npt.DTypeLike) -> Array:
    """Round to `dtype` inside its range, row-contiguous."""
    limit = LIMIT[np.dtype(dtype).name]
    return np.ascontiguousarray(np.clip(values, -limit, limit).astype(dtype))


def _pair(
    draw: Callable[[int], Array], n: int, m: int | None, dtype: npt.DTypeLike
) -> tuple[Array, Array]:
    """Return `draw(n)` and `draw(m)` rounded to `dtype`; m differs from n unless it is given."""
    return _cast(draw(n), dtype), _cast(draw(n - n // 5 if m is None else m), dtype)


def gaussian(
    rng: np.random.Generator, n: int, d: int, dtype: npt.DTypeLike, m: int | None = None
) -> tuple[Array, Array]:
    """Independent normal values: no structure, the fewest pairs that bounds can settle."""
    return _pair(lambda rows: rng.standard_normal((rows, d)), n, m, dtype)


def relu(
    rng: np.random.Generator, n: int, d: int, dtype: npt.DTypeLike, m: int | None = None
) -> tuple[Array, Array]:
    """Few directions, then noise, then a ReLU: about half of the values are 0."""
    weights = rng.standard_normal((max(1, d // 8), d)) / 2

    def draw(rows: int) -> Array:
        signal = rng.standard_normal((rows, len(weights))) @ weights
        return np.maximum(signal + 0.3 * rng.standard_normal((rows, d)), 0)

    return _pair(draw, n, m, dtype)


def heavy_tailed(
    rng: np.random.Generator, n: int, d: int, dtype: npt.DTypeLike, m: int | None = None
) -> tuple[Array, Array]:
    """Student's t with 1.5 degrees of freedom: no variance, so a few values dwarf the rest."""
    return _pair(lambda rows: rng.standard_t(1.5, (rows, d)), n, m, dtype)


def sparse(
    rng: np.random.Generator, n: int, d: int, dtype: npt.DTypeLike, m: int | None = None
) -> tuple[Array, Array]:
    """Nine values in ten are 0; at small d whole rows are."""

    def draw(rows: int) -> Array:
        return rng.exponential(size=(rows, d)) * (rng.random((rows, d)) < 0.1)

    return _pair(draw, n, m, dtype)


def integers(
    rng: np.random.Generator, n: int, d: int, dtype: npt.DTypeLike, m: int | None = None
) -> tuple[Array, Array]:
    """Whole numbers from -2 to 2: every squared distance is a small integer, and most tie."""
    return _pair(lambda rows: rng.integers(-2, 3, (rows, d)), n, m, dtype)


def huge_dimension(
    rng: np.random.Generator, n: int, d: int, dtype: npt.DTypeLike, m: int | None = None
) -> tuple[Array, Array]:
    """One feature is a million times (float16: a thousand times) the others."""
    scale = np.ones(d)
    scale[d // 2] = 1e3 if np.dtype(dtype) == np.float16 else 1e6
    return _pair(lambda rows: rng.standard_normal((rows, d)) * scale, n, m, dtype)


def tiny_values(
    rng: np.random.Generator, n: int, d: int, dtype: npt.DTypeLike, m: int | None = None
) -> tuple[Array, Array]:
    """Values near 1e-30; float16's are subnormal and so coarse that many rows tie."""
    scale = TINY[np.dtype(dtype).name]
    return _pair(lambda rows: rng.standard_normal((rows, d)) * scale, n, m, dtype)


def huge_values(
    rng: np.random.Generator, n: int, d: int, dtype: npt.DTypeLike, m: int | None = None
) -> tuple[Array, Array]:
    """Values near 1e30; near 1e4 in float16."""
    scale = HUGE[np.dtype(dtype).name]
    return _pair(lambda rows: rng.standard_normal((rows, d)) * scale, n, m, dtype)


def all_scales(
    rng: np.random.Generator, n: int, d: int, dtype: npt.DTypeLike, m: int | None = None
) -> tuple[Array, Array]:
    """Each row has its own magnitude, from the tiny to the huge values; some rows are 0."""
    low, high = np.log10(TINY[np.dtype(dtype).name]), np.log10(HUGE[np.dtype(dtype).name])

    def draw(rows: int) -> Array:
        scale = 10 ** rng.uniform(low, high, (rows, 1)) * (rng.random((rows, 1)) < 0.95)
        return rng.standard_normal((rows, d)) * scale

    return _pair(draw, n, m, dtype)


def at_the_limit(
    rng: np.random.Generator, n: int, d: int, dtype: npt.DTypeLike, m: int | None = None
) -> tuple[Array, Array]:
    """The largest magnitudes that are accepted, so that a difference overflows the input dtype."""
    limit = LIMIT[np.dtype(dtype).name]

    def draw(rows: int) -> Array:
        values = rng.uniform(0.25, 1.25, (rows, d)).clip(max=1.0) * limit
        return np.where(rng.random((rows, d)) < 0.5, values, -values)

    return _pair(draw, n, m, dtype)


def underflow(
    rng: np.random.Generator, n: int, d: int, dtype: npt.DTypeLike, m: int | None = None
) -> tuple[Array, Array]:
    """Values so small that their squares are subnormal in float64, or 0. For float64 alone."""

    def draw(rows: int) -> Array:
        return rng.standard_normal((rows, d)) * 10 ** rng.uniform(-165, -152, (rows, 1))

    return _pair(draw, n, m, dtype)


def all_equal(
    rng: np.random.Generator, n: int, d: int, dtype: npt.DTypeLike, m: int | None = None
) -> tuple[Array, Array]:
    """One row, over and over, in both sets."""
    row = rng.standard_normal(d)
    return _pair(lambda rows: np.tile(row, (rows, 1)), n, m, dtype)


def half_equal(
    rng: np.random.Generator, n: int, d: int, dtype: npt.DTypeLike, m: int | None = None
) -> tuple[Array, Array]:
    """Half of the rows are one and the same, in random places; the others are normal."""
    row = rng.standard_normal(d)

    def draw(rows: int) -> Array:
        values = rng.standard_normal((rows, d))
        values[rng.permutation(rows)[: rows // 2]] = row
        return values

    return _pair(draw, n, m, dtype)


def few_distinct(
    rng: np.random.Generator, n: int, d: int, dtype: npt.DTypeLike, m: int | None = None
) -> tuple[Array, Array]:
    """Five different rows make up the real set, four of them and a new one the fake set."""
    rows = rng.standard_normal((6, d))
    m = n - n // 5 if m is None else m
    return _cast(rows[rng.integers(0, 5, n)], dtype), _cast(rows[rng.integers(1, 6, m)], dtype)


def near_duplicates(
    rng: np.random.Generator, n: int, d: int, dtype: npt.DTypeLike, m: int | None = None
) -> tuple[Array, Array]:
    """Few distinct rows, half of them moved in one feature to the next number of the dtype."""
    sets = []
    for part in few_distinct(rng, n, d, dtype, m):
        moved = np.flatnonzero(rng.random(len(part)) < 0.5)
        feature = rng.integers(0, d, len(moved))
        values = part[moved, feature]
        part[moved, feature] = np.nextafter(values, np.asarray(np.inf, dtype=part.dtype))
        sets.append(part)
    return sets[0], sets[1]


def exploded_rows(
    rng: np.random.Generator, n: int, d: int, dtype: npt.DTypeLike, m: int | None = None
) -> tuple[Array, Array]:
    """Normal rows, but a few (copies among them) beyond all scale, as of a diverged model."""
    sets = []
    for part in gaussian(rng, n, d, dtype, m):
        factor = 2.0**12 if np.dtype(dtype) == np.float16 else 2.0**90
        exploded = rng.choice(len(part), min(3, len(part) - 1), replace=False)
        part[exploded] = part[exploded] * np.asarray(factor, dtype=part.dtype)
        part[exploded[-1]] = part[exploded[0]]
        sets.append(part)
    return sets[0], sets[1]


def signed_zeros(
    rng: np.random.Generator, n: int, d: int, dtype: npt.DTypeLike, m: int | None = None
) -> tuple[Array, Array]:
    """Values of 0.0, -0.0 and sometimes 1: rows that differ in bits and not in distance."""

    def draw(rows: int) -> Array:
        return rng.choice(np.array([0.0, -0.0, 1.0]), (rows, d), p=(0.45, 0.45, 0.1))

    return _pair(draw, n, m, dtype)


def clusters(
    spread: float,
    rng: np.random.Generator,
    n: int,
    d: int,
    dtype: npt.DTypeLike,
    m: int | None = None,
) -> tuple[Array, Array]:
    """Three clusters whose spread is a given part of their norm."""
    centres = rng.standard_normal((3, d))
    width = spread * np.sqrt(np.square(centres).mean())

    def draw(rows: int) -> Array:
        return centres[rng.integers(0, 3, rows)] + width * rng.standard_normal((rows, d))

    return _pair(draw, n, m, dtype)


def spheres(
    rng: np.random.Generator, n: int, d: int, dtype: npt.DTypeLike, m: int | None = None
) -> tuple[Array, Array]:
    """Points around shared centres, at distances from them that differ by 2^-5 to 2^-50.

    Neighbours nearly tie, and points of one set lie next to the edges of the other set's balls,
    too close for any bound to settle.
    """
    centres = rng.standard_normal((max(1, n // 16), d)) * 4 / np.sqrt(d)

    def draw(rows: int) -> Array:
        direction = rng.standard_normal((rows, d))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        excess = rng.choice([-1.0, 1.0], (rows, 1)) * 2 ** rng.uniform(-50, -5, (rows, 1))
        excess[: len(centres)] = -1  # the centres themselves
        own = np.arange(rows) % len(centres)
        return centres[own] + (1 + excess) * direction

    return _pair(draw, n, m, dtype)


def far_apart(
    rng: np.random.Generator, n: int, d: int, dtype: npt.DTypeLike, m: int | None = None
) -> tuple[Array, Array]:
    """Two sets a thousand times as far from each other as their rows are."""
    real, fake = _pair(lambda rows: rng.standard_normal((rows, d)), n, m, np.float64)
    return _cast(real, dtype), _cast(fake + 1e3, dtype)


def strokes_twice(
    rng: np.random.Generator, n: int, d: int, dtype: npt.DTypeLike, m: int | None = None
) -> tuple[Array, Array]:
    """Pictures of a pen's stroke and a copy of the same rows; the middle pixels, or tiled to d.

    8 x 8 pixels in 17 greys, a margin that is always 0: few values, and a singular covariance.
    """
    grid = np.stack(np.meshgrid(np.arange(8.0), np.arange(8.0), indexing="ij"), axis=-1)
    start, end = rng.uniform(2, 5, (2, n, 1, 1, 2))
    along = ((grid - start) * (end - start)).sum(-1) / ((end - start) ** 2).sum(-1)
    nearest = start + np.clip(along, 0, 1)[..., None] * (end - start)
    ink = 16 * np.exp(-((grid - nearest) ** 2).sum(-1))
    pixels = np.rint(np.where(ink < 1, 0, ink)).reshape(n, 64)
    if d < pixels.shape[1]:
        left = (pixels.shape[1] - d) // 2
        pixels = pixels[:, left : left + d]
    else:
        pixels = np.tile(pixels, (1, -(-d // pixels.shape[1])))[:, :d]
    return _cast(pixels, dtype), _cast(pixels, dtype)


DATA_FAMILIES: dict[str, DataFamily] = {
    "gaussian": gaussian,
    "relu": relu,
    "heavy_tailed": heavy_tailed,
    "sparse": sparse,
    "integers": integers,
    "huge_dimension": huge_dimension,
    "tiny_values": tiny_values,
    "huge_values": huge_values,
    "all_scales": all_scales,
    "at_the_limit": at_the_limit,
    "all_equal": all_equal,
    "half_equal": half_equal,
    "few_distinct": few_distinct,
    "near_duplicates": near_duplicates,
    "exploded_rows": exploded_rows,
    "signed_zeros": signed_zeros,
    "clusters_1e-2": partial(clusters, 1e-2),
    "clusters_1e-4": partial(clusters, 1e-4),
    "clusters_1e-6": partial(clusters, 1e-6),
    "spheres": spheres,
    "far_apart": far_apart,
    "strokes_twice": strokes_twice,
}
FLOAT64_FAMILIES: dict[str, DataFamily] = {"underflow": underflow}


@dataclass(frozen=True)
class FeatureFamily:
    """One kind of feature, and the candidates per row that the first bound leaves at `k`.

    The figures are for n rows of d features, with the rotation, in float64 arithmetic.
    """

    name: str
    make: Callable[[np.random.Generator, int, int], Array]
    mean_candidates: float
    max_candidates: int
    n: int = 5000
    d: int = 2048
    k: int = 5


def _low_rank(rng: np.random.Generator, n: int, d: int) -> tuple[Array, Array]:
    """Return 200 directions of falling variance, mixed into d features, and normal noise."""
    rank = 200
    weights = rng.standard_normal((rank, d), dtype=np.float32) / np.float32(14)
    spectrum = 3 * np.exp(-np.arange(rank, dtype=np.float32) / 60)
    signal = (rng.standard_normal((n, rank), dtype=np.float32) * spectrum) @ weights
    return signal, rng.standard_normal((n, d), dtype=np.float32)


def inception_like(rng: np.random.Generator, n: int, d: int) -> Array:
    """Low rank plus noise behind a ReLU, as the features of a classifier are."""
    signal, noise = _low_rank(rng, n, d)
    return np.maximum(signal + np.float32(0.3) * noise, 0)


def exponential_like(rng: np.random.Generator, n: int, d: int) -> Array:
    """The same features under an exponential: a few activations outweigh all others."""
    return np.expm1(np.minimum(inception_like(rng, n, d) * np.float32(1.2), 6))


def uneven_scales(rng: np.random.Generator, n: int, d: int) -> Array:
    """The same features, each dimension in units of its own."""
    return inception_like(rng, n, d) * np.exp(rng.standard_normal(d, dtype=np.float32) * 1.2)


def mostly_zero(rng: np.random.Generator, n: int, d: int) -> Array:
    """The same features with nine in ten dropped at random."""
    kept = rng.random((n, d), dtype=np.float32) < 0.1
    return inception_like(rng, n, d) * kept * np.float32(4)


def dino_like(rng: np.random.Generator, n: int, d: int) -> Array:
    """Low rank with a little noise and both signs, as self-supervised features are."""
    signal, noise = _low_rank(rng, n, d)
    return signal + np.float32(0.1) * noise


def unstructured(rng: np.random.Generator, n: int, d: int) -> Array:
    """Independent normal values: all distances are nearly equal, which no bound likes."""
    return rng.standard_normal((n, d), dtype=np.float32)


def digits(rng: np.random.Generator, n: int, d: int) -> Array:
    """Scanned digits themselves."""
    from sklearn.datasets import load_digits

    return load_digits().data[:n, :d].astype(np.float32)


FEATURE_FAMILIES = (
    FeatureFamily("inception_like", inception_like, 14, 38),
    FeatureFamily("exponential_like", exponential_like, 11, 29),
    FeatureFamily("uneven_scales", uneven_scales, 11, 31),
    FeatureFamily("mostly_zero", mostly_zero, 15, 52),
    FeatureFamily("dino_like", dino_like, 12, 31),
    FeatureFamily("unstructured", unstructured, 161, 406),
    FeatureFamily("digits", digits, 8, 21, n=1797, d=64),
)


@dataclass(frozen=True)
class ClusterFigures:
    """Candidates per row of `tight_clusters`, with the first bound alone and with both."""

    spread: float
    nearness: float  # the k-th distance over the centred norm
    first_bound: float
    both_bounds: float
    n: int = 4000
    d: int = 2048
    k: int = 5


def tight_clusters(rng: np.random.Generator, n: int, d: int, spread: float) -> Array:
    """Four clusters of equal size, each spread over the same 8 directions around its centre."""
    centres = rng.standard_normal((4, d), dtype=np.float32)
    offsets = rng.standard_normal((n, 8), dtype=np.float32)
    directions = rng.standard_normal((8, d), dtype=np.float32)
    return centres[np.arange(n) % 4] + np.float32(spread) * (offsets @ directions)


TIGHT_CLUSTERS = (
    ClusterFigures(0.398, 0.49, 11, 8),
    ClusterFigures(0.185, 0.32, 29, 10),
    ClusterFigures(0.110, 0.21, 118, 14),
    ClusterFigures(0.071, 0.14, 419, 22),
    ClusterFigures(0.037, 0.075, 994, 71),
)
