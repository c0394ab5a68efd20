"""The `prdc` package itself, where it is installed (``pip install prdc``)."""

from __future__ import annotations

import contextlib
import importlib
import io
from typing import TYPE_CHECKING, ClassVar

from contenders.base import PrdcContender, Scores

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class PrdcPackage(PrdcContender):
    """`prdc.compute_prdc`, with its eight fixed jobs."""

    name: ClassVar[str] = "prdc-package"
    needs: ClassVar[tuple[str, ...]] = ("prdc",)

    def prdc(
        self,
        real: NDArray[np.float32],
        fake: NDArray[np.float32],
        k: int,
        threads: int,  # noqa: ARG002
    ) -> Scores:
        """Compare the two sets; what the package prints is dropped."""
        package = importlib.import_module("prdc")
        with contextlib.redirect_stdout(io.StringIO()):
            found = package.compute_prdc(real_features=real, fake_features=fake, nearest_k=k)
        return Scores(**{name: float(value) for name, value in found.items()})
