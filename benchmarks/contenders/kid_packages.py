"""The packages that compute KID themselves, at the level of features, where they are installed.

pip install torch-fidelity torchmetrics clean-fid
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from contenders.base import KidContender, KidScores
from contenders.kid_formulas import CleanFidFormula, TorchFidelityFormula

Matrix = NDArray[np.float32]
Pairs = Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]


class TorchFidelityPackage(KidContender):
    """`torch_fidelity.metric_kid.kid_features_to_metric`: NumPy on the CPU, from torch tensors."""

    name: ClassVar[str] = "torch-fidelity-package"
    needs: ClassVar[tuple[str, ...]] = ("torch", "torch_fidelity.metric_kid")

    def pairs(self, n: int, m: int, subsets: int, size: int, seed: int) -> Pairs:
        """Draw as its formula does."""
        return TorchFidelityFormula().pairs(n, m, subsets, size, seed)

    def kid(
        self, real: Matrix, fake: Matrix, subsets: int, size: int, seed: int, threads: int
    ) -> KidScores:
        """Compare the two sets."""
        torch = importlib.import_module("torch")
        package = importlib.import_module("torch_fidelity.metric_kid")
        torch.set_num_threads(threads)
        found = package.kid_features_to_metric(
            torch.from_numpy(real),
            torch.from_numpy(fake),
            kid_subsets=subsets,
            kid_subset_size=size,
            rng_seed=seed,
            verbose=False,
        )
        return KidScores(
            mean=found[package.KEY_METRIC_KID_MEAN], std=found[package.KEY_METRIC_KID_STD]
        )


class CleanFidPackage(KidContender):
    """`cleanfid.fid.kernel_distance`: NumPy on the CPU, mean only."""

    name: ClassVar[str] = "clean-fid-package"
    needs: ClassVar[tuple[str, ...]] = ("cleanfid.fid",)

    def pairs(self, n: int, m: int, subsets: int, size: int, seed: int) -> Pairs:
        """Draw as its formula does."""
        return CleanFidFormula().pairs(n, m, subsets, size, seed)

    def kid(
        self,
        real: Matrix,
        fake: Matrix,
        subsets: int,
        size: int,
        seed: int,
        threads: int,  # noqa: ARG002
    ) -> KidScores:
        """Compare the two sets; the BLAS thread count was fixed when the process started."""
        package = importlib.import_module("cleanfid.fid")
        np.random.seed(seed)  # noqa: NPY002 (the only generator that it uses)
        mean = package.kernel_distance(real, fake, num_subsets=subsets, max_subset_size=size)
        return KidScores(mean=mean, std=None)


class TorchmetricsPackage(KidContender):
    """`KernelInceptionDistance` with an identity for its network: torch on the CPU."""

    name: ClassVar[str] = "torchmetrics-package"
    needs: ClassVar[tuple[str, ...]] = ("torch", "torchmetrics.image.kid")

    def pairs(self, n: int, m: int, subsets: int, size: int, seed: int) -> Pairs:
        """Draw whole permutations of both sets from torch's global generator."""
        torch = importlib.import_module("torch")
        torch.manual_seed(seed)
        for _ in range(subsets):
            first = torch.randperm(n)[:size].numpy()
            yield first, torch.randperm(m)[:size].numpy()

    def kid(
        self, real: Matrix, fake: Matrix, subsets: int, size: int, seed: int, threads: int
    ) -> KidScores:
        """Compare the two sets."""
        torch = importlib.import_module("torch")
        package = importlib.import_module("torchmetrics.image.kid")
        torch.set_num_threads(threads)
        torch.manual_seed(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it keeps all features
            metric = package.KernelInceptionDistance(
                feature=torch.nn.Identity(), subsets=subsets, subset_size=size
            )
        metric.update(torch.from_numpy(real), real=True)
        metric.update(torch.from_numpy(fake), real=False)
        mean, std = metric.compute()
        return KidScores(mean=float(mean), std=float(std))
