"""Sums of Gaussian kernels over blocks of samples, put together on the host.

Samples of more than `gpu_plan.DENSITY_BLOCK_BYTES` are always summed by blocks of that size,
whatever memory there is, so that memory changes no bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastgen import gpu_plan

Floats = npt.NDArray[np.float64]


def cut(n: int, d: int, itemsize: int) -> list[slice]:
    """Divide samples.

    Parameters
    ----------
    n, d : int
        Samples and their features.
    itemsize : int
        Bytes of a number of the passes.

    Returns
    -------
    list of slice
        Rows of the blocks, in order.
    """
    step = gpu_plan.density_block_rows(d, itemsize)
    return [slice(start, min(n, start + step)) for start in range(0, n, step)]


def weights_of(weights: Floats | None, block: slice) -> tuple[Floats | None, float]:
    """Return the weights of a block as the engine takes them.

    Parameters
    ----------
    weights : array of shape (m,), float64, optional
        All above 0.
    block : slice
        Of the samples.

    Returns
    -------
    relative : array of float64, or None
        The largest is 1.
    log_largest : float
        The logarithm of what was divided by.
    """
    if weights is None:
        return None, 0.0
    largest = weights[block].max()
    return weights[block] / largest, float(np.log(largest))


def segments(start: int, stop: int, block: slice, alone: bool) -> list[tuple[int, int, bool]]:
    """Cut points where those begin and end that are samples of a block.

    Parameters
    ----------
    start, stop : int
        The points.
    block : slice
        Of the samples.
    alone : bool
        Whether point i is sample i, and left out of its own sum.

    Returns
    -------
    list of (int, int, bool)
        First and last, and whether they are to be left out.
    """
    if not alone:
        return [(start, stop, False)]
    first, last = max(start, min(stop, block.start)), max(start, min(stop, block.stop))
    parts = [(start, first, False), (first, last, True), (last, stop, False)]
    return [part for part in parts if part[0] < part[1]]


class Merged:
    """Sums over all blocks, of those over each.

    Every block adds a rounding of at most about ``2^-51 (1 + |log sum|)`` to what its own sum is
    off by. That is far below the stated ``2^-44 E`` for as many blocks as memory could hold.

    Parameters
    ----------
    n, bandwidths : int
        Points, and sums of each.
    """

    def __init__(self, n: int, bandwidths: int) -> None:
        self._log_sums = np.full((n, bandwidths), -np.inf)
        self._largest = np.full((n, bandwidths), -np.inf)  # terms of more than half of their block

    def add(self, points: slice, found: dict[str, npt.NDArray[Any]], log_weight: float) -> None:
        """Add the sums over one more block; in the order of the blocks for each point.

        Parameters
        ----------
        points : slice
            Which; other threads may add to others.
        found : dict of str to array
            "log_sums" and "shares" of the engine.
        log_weight : float
            From `weights_of`.
        """
        logs = found["log_sums"] + log_weight
        with np.errstate(divide="ignore"):  # a term of at most half there has no more of the whole
            largest = logs + np.log(found["shares"])
        sums, most = self._log_sums[points], self._largest[points]
        np.logaddexp(sums, logs, out=sums)
        np.maximum(most, largest, out=most)

    def result(self) -> dict[str, npt.NDArray[Any]]:
        """Return what one engine would have returned of all samples.

        Returns
        -------
        dict of str to array
            "log_sums" and "dominated", as `density_passes.run`.
        """
        # Of equal samples in two blocks none has more than half, whatever their sums are off by.
        off = 1e-5 + 2.0**-44 * np.abs(self._log_sums)
        more = self._largest - off > self._log_sums + np.log(0.5)
        dominated = np.count_nonzero(more, axis=0)
        return {"log_sums": self._log_sums, "dominated": dominated.astype(np.int64)}
