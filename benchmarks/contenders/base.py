"""The contract of a contender."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Scores:
    """Precision, recall, density and coverage as one contender computes them."""

    precision: float
    recall: float
    density: float
    coverage: float


class Contender(ABC):
    """One other way to compute precision, recall, density and coverage.

    Balls are open (d < r), as in the `prdc` package; a row is left out of its own neighbours.
    """

    name: ClassVar[str]

    @classmethod
    def available(cls) -> bool:
        """Whether the libraries it needs are installed."""
        return True

    @abstractmethod
    def prdc(
        self,
        real: NDArray[np.float32],  # [n, d]
        fake: NDArray[np.float32],  # [m, d]
        k: int,
        threads: int,
    ) -> Scores:
        """Compare the two sets."""
