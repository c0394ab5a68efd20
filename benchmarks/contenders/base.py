"""The contracts of contenders: one class for each thing that is measured against them."""

from __future__ import annotations

import importlib
import importlib.util
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    Matrix = NDArray[np.float32]
    Floats = NDArray[np.float64]
    Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Scores:
    """Precision, recall, density and coverage as one contender computes them."""

    precision: float
    recall: float
    density: float
    coverage: float


@dataclass(frozen=True)
class KidScores:
    """KID over subsets: mean and standard deviation, the latter None where it is not computed."""

    mean: float
    std: float | None


class Contender(ABC):
    """One other way to compute something."""

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()  # modules it imports besides NumPy

    @classmethod
    def available(cls) -> bool:
        """Whether the libraries it needs are installed."""
        packages = {module.partition(".")[0] for module in cls.needs}
        return all(importlib.util.find_spec(package) is not None for package in packages)

    @classmethod
    def problem(cls) -> str | None:
        """Import what it needs and return what goes wrong, None if nothing does."""
        try:
            for module in cls.needs:
                importlib.import_module(module)
        except Exception as error:  # libraries of versions that do not fit raise anything
            return f"{type(error).__name__}: {error}"
        return None


class PrdcContender(Contender):
    """Precision, recall, density and coverage.

    Balls are open (d < r), as in the `prdc` package; a row is left out of its own neighbours.
    """

    @abstractmethod
    def prdc(
        self,
        real: Matrix,  # [n, d]
        fake: Matrix,  # [m, d]
        k: int,
        threads: int,
    ) -> Scores:
        """Compare the two sets."""


class MmdContender(Contender):
    """The unbiased MMD^2 of whole sets with KID's kernel, ``(x.y / d + 1)^3``."""

    @abstractmethod
    def mmd(
        self,
        x: Matrix,  # [n, d]
        y: Matrix,  # [m, d]
        threads: int,
    ) -> float:
        """Compare the two sets."""


class DensityContender(Contender):
    """Logarithms of a Gaussian-kernel density under Scott's rule, in nats."""

    #: What `fastgen.log_density` takes as `covariance` for the same density.
    covariance: ClassVar[str | None] = None

    @abstractmethod
    def log_density(
        self,
        points: Matrix,  # [n, d]
        samples: Matrix,  # [m, d]
        threads: int,
    ) -> Floats:  # [n]
        """Return one value for every point."""


class FrechetContender(Contender):
    """The covariance term of the squared Frechet distance."""

    @abstractmethod
    def covariance_term(
        self,
        first: Floats,  # [d, d]
        second: Floats,  # [d, d]
    ) -> float:
        """Compare the two covariances."""


class KidContender(Contender):
    """KID: mean and deviation of the unbiased MMD^2 of random subsets, with the same kernel."""

    @abstractmethod
    def pairs(
        self, n: int, m: int, subsets: int, size: int, seed: int
    ) -> Iterable[tuple[Indices, Indices]]:
        """Draw, for one subset after the other, the real and the fake rows that `kid` draws."""

    @abstractmethod
    def kid(
        self,
        real: Matrix,  # [n, d]
        fake: Matrix,  # [m, d]
        subsets: int,
        size: int,
        seed: int,
        threads: int,
    ) -> KidScores:
        """Compare the two sets."""

    def draws(
        self, n: int, m: int, subsets: int, size: int, seed: int
    ) -> tuple[Indices, Indices]:  # [subsets, size] each
        """Return the real and the fake rows of every subset, for another to use the same."""
        real, fake = zip(*self.pairs(n, m, subsets, size, seed), strict=True)
        return np.stack(real).astype(np.int64), np.stack(fake).astype(np.int64)
