"""Passes of the density engine on GPUs: points are dealt out, samples are everywhere."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from fastgen import gpu_plan, plan
from fastgen.device_rows import DeviceRows
from fastgen.gpu import Gpu
from fastgen.sets import Rows
from fastgen.workers import Tell, drive, side_by_side

Floats = npt.NDArray[np.float64]


def make_room(
    gpu: Gpu,
    points: Rows | None,
    samples: Rows,
    itemsize: int,
    bandwidths: int,
    *,
    whitened: bool = False,
) -> None:
    """Decide how many points a pass has.

    Parameters
    ----------
    gpu : Gpu
        Where the call computes.
    points : Rows of shape (n, d), optional
        Default: the samples.
    samples : Rows of shape (m, d)
        What the density is made of; they have to fit as a whole.
    itemsize : int
        Bytes of a number of the passes.
    bandwidths : int
        Of the passes.
    whitened : bool, default False
        Whether the passes are of new rows, made of these on the host.

    Raises
    ------
    ValueError
        If the budget does not hold the samples.
    MemoryError
        If the free memory does not.
    """
    rows = samples if points is None else points
    d, sets = samples.d, [samples] if points is None else [samples, points]
    of_pass = d, itemsize, bandwidths
    absent, others = (_absent(gpu, some, itemsize, whitened) for some in (sets, [samples]))
    needed = gpu_plan.density_bytes_needed(rows.n, samples.n, absent, *of_pass)
    available = gpu.available(needed)
    if needed <= available:
        return
    point_bytes = -(-(absent - others) * d * itemsize // rows.n)
    step = gpu_plan.density_points(available, samples.n, others, point_bytes, *of_pass)
    if step:
        gpu.take_turns(step)
        return
    few = min(rows.n, gpu_plan.POINTS)
    least = gpu_plan.density_bytes_needed(few, samples.n, others, *of_pass)
    gpu.require(least + few * point_bytes)


def _absent(gpu: Gpu, sets: list[Rows], itemsize: int, whitened: bool) -> int:
    """Return how many rows of `itemsize` the passes put on a GPU, where there are fewest so far.

    What is whitened, or widened, is there beside the rows that it is made of.
    """

    def of(rows: Rows, device: int) -> int:
        size = rows.values.itemsize
        new = rows.n if whitened or size != itemsize else 0
        # The first GPU looks at the numbers of what is whitened; the others never see it.
        there = device in rows.copies or (whitened and device != gpu.first)
        return new + (0 if there else -(-rows.n * size // itemsize))

    return max(sum(of(rows, device) for rows in sets) for device in gpu.devices)


def run(
    gpu: Gpu,
    points: Rows | None,
    samples: Rows,
    bandwidths: Floats,
    weights: Floats | None,
    path: str | None,
    tell: Tell,
) -> dict[str, npt.NDArray[Any]] | None:
    """Return logarithms of sums of Gaussian kernels, as `densities.log_sums` describes them.

    Parameters
    ----------
    gpu : Gpu
        Where the call computes.
    points : Rows of shape (n, d), optional
        Default: the samples, each without itself.
    samples : Rows of shape (m, d)
        Rows to sum over.
    bandwidths : array of shape (b,), float64
        All in one pass.
    weights : array of shape (m,), float64, optional
        Of the samples, all above 0.
    path : str or None
        One of `plan.DENSITY_PATHS`; None lets the engine choose.
    tell : callable
        Takes the fraction done.

    Returns
    -------
    dict of str to array, or None
        "log_sums" of shape (n, b), float64, and "dominated" of shape (b,), int64. None if a
        bandwidth is too small for the rows.
    """
    plan.check_density_path(gpu.function, path, samples.d)
    rows = samples if points is None else points
    dtype = np.promote_types(rows.values.dtype, samples.values.dtype)
    parts = _parts(rows.n, len(gpu.devices), gpu.points(rows.n))
    alone = points is None

    def work(place: int, tell: Tell) -> list[dict[str, npt.NDArray[Any]] | None]:
        device = gpu.devices[place]
        others = gpu.handle(samples, device).widened(dtype.name)
        found = []
        for start, stop in parts[place]:
            if alone:
                few = others.part(start, stop)
            else:
                few = gpu.handle(_part(rows, start, stop), device).widened(dtype.name)
            engine = gpu.module.LogSums(
                few,
                others,
                bandwidths.tolist(),
                weights=weights,
                leave_one_out=alone,
                path=path or "auto",
                first=start if alone else 0,
            )

            def listen(fraction: float, begun: int = start, size: int = stop - start) -> None:
                first, last = parts[place][0][0], parts[place][-1][1]
                tell((begun - first + size * fraction) / (last - first))

            drive(engine, listen)
            found.append(None if engine.too_narrow else engine.finish())
        return found

    calls = [partial(work, place) for place in range(len(parts))]
    found = [one for of_device in side_by_side(calls, tell) for one in of_device]
    results = [one for one in found if one is not None]
    if len(results) < len(found):
        return None
    return {
        "log_sums": np.concatenate([one["log_sums"] for one in results]),
        "dominated": np.sum([one["dominated"] for one in results], axis=0),
    }


def _parts(n: int, devices: int, step: int) -> list[list[tuple[int, int]]]:
    """Deal points to devices, contiguous ones to each, and cut them into passes."""
    runs = -(-n // gpu_plan.POINTS)
    devices = min(devices, runs)
    edges = [min(n, runs * part // devices * gpu_plan.POINTS) for part in range(devices + 1)]
    return [
        [(start, min(stop, start + step)) for start in range(first, stop, step)]
        for first, stop in itertools.pairwise(edges)
    ]


def _part(rows: Rows, start: int, stop: int) -> Rows:
    """Return consecutive rows, from a GPU where they are on one."""
    if stop - start == rows.n:
        return rows
    if rows.copies:
        handle = next(iter(dict(rows.copies).values()))
        return Rows(DeviceRows(handle.part(start, stop)), rows.name)
    return Rows(rows.host[start:stop], rows.name)
