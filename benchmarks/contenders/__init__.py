"""What fastgen is measured against; every contender is a class with a `name` and `prdc`."""

from __future__ import annotations

from contenders.base import Contender, Scores
from contenders.numpy_blocked import NumpyBlocked
from contenders.prdc_formula import PrdcFormula
from contenders.prdc_package import PrdcPackage

__all__ = ["Contender", "NumpyBlocked", "PrdcFormula", "PrdcPackage", "Scores", "contenders"]


def contenders() -> list[type[Contender]]:
    """Return every contender whose libraries are installed here."""
    return [each for each in (NumpyBlocked, PrdcFormula, PrdcPackage) if each.available()]
