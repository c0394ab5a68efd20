"""Passes of the density engine on GPUs: points are dealt out, samples come to every GPU.

They come as a whole where there is room for that, or by the blocks in which they are summed.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastgen import density_blocks, gpu_plan, plan
from fastgen.device_rows import DeviceRows
from fastgen.gpu import Gpu
from fastgen.sets import Rows
from fastgen.workers import Tell, drive, side_by_side

if TYPE_CHECKING:
    from fastgen import _cuda

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
    """Decide how many points a pass has, and whether samples come as a whole.

    Parameters
    ----------
    gpu : Gpu
        Where the call computes.
    points : Rows of shape (n, d), optional
        Default: the samples.
    samples : Rows of shape (m, d)
        What the density is made of; a block of them has to fit.
    itemsize : int
        Bytes of a number of the passes.
    bandwidths : int
        Of the passes.
    whitened : bool, default False
        Whether the passes are of new rows, made of these on the host.

    Raises
    ------
    ValueError
        If the budget does not hold a block of samples.
    MemoryError
        If the free memory does not.
    """
    rows = samples if points is None else points
    d, sets = samples.d, [samples] if points is None else [samples, points]
    of_pass = d, itemsize, bandwidths
    absent, others = (_absent(gpu, some, itemsize, whitened) for some in (sets, [samples]))
    needed = gpu_plan.density_bytes_needed(rows.n, samples.n, absent, *of_pass)
    available = gpu.memory.available(needed)
    if needed <= available:
        return
    point_bytes = -(-(absent - others) * d * itemsize // rows.n)
    step = gpu_plan.density_points(available, samples.n, others, point_bytes, *of_pass)
    if step:
        gpu.memory.take_turns(step)
        return
    block = gpu_plan.density_block_rows(d, itemsize)
    if samples.n > block:
        gpu.memory.keep_on_host(block)
        others = _absent(gpu, [samples], itemsize, whitened, block)
        point_bytes = -(-_absent(gpu, [rows], itemsize, whitened) * d * itemsize // rows.n)
        step = gpu_plan.density_points(available, samples.n, others, point_bytes, *of_pass)
        if step:
            gpu.memory.take_turns(step)
            return
    few = min(rows.n, gpu_plan.POINTS)
    least = gpu_plan.density_bytes_needed(few, samples.n, others, *of_pass)
    gpu.memory.require(least + few * point_bytes)


def _absent(
    gpu: Gpu, sets: list[Rows], itemsize: int, whitened: bool, block: int | None = None
) -> int:
    """Return how many rows of `itemsize` the passes put on a GPU, where there are fewest so far.

    What is whitened, or widened, is there beside the rows that it is made of. With `block`, only so
    many rows of a set are there at a time, and what is whitened has not been.
    """

    def of(rows: Rows, device: int) -> int:
        size = rows.values.itemsize
        n = rows.n if block is None else block
        new = n if whitened or size != itemsize else 0
        # The first GPU looks at the numbers of what is whitened; the others never see it.
        seen = device == gpu.first and block is None
        there = device in rows.copies or (whitened and not seen)
        return new + (0 if there else -(-n * size // itemsize))

    return max(sum(of(rows, device) for rows in sets) for device in gpu.alike)


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
    parts = _parts(rows.n, len(gpu.alike), gpu.memory.points(rows.n))
    alone = points is None
    blocks = density_blocks.cut(samples.n, samples.d, dtype.itemsize)
    merged = density_blocks.Merged(rows.n, len(bandwidths)) if len(blocks) > 1 else None

    def work(place: int, tell: Tell) -> list[dict[str, npt.NDArray[Any]]] | None:
        device = gpu.alike[place]
        all_pairs = float(parts[place][-1][1] - parts[place][0][0]) * samples.n
        pairs, found = 0, []
        for block in blocks:
            others = _handle(gpu, samples, block.start, block.stop, device).widened(dtype.name)
            relative, log_weight = density_blocks.weights_of(weights, block)
            for start, stop in parts[place]:
                if not alone:
                    few = gpu.handle(_part(rows, start, stop, device), device)
                elif merged is None:
                    few = others.part(start, stop)
                else:
                    few = _handle(gpu, samples, start, stop, device)
                few = few.widened(dtype.name)
                for first, last, inside in density_blocks.segments(start, stop, block, alone):
                    engine = gpu.module.LogSums(
                        few.part(first - start, last - start),
                        others,
                        bandwidths.tolist(),
                        weights=relative,
                        leave_one_out=inside,
                        path=path or "auto",
                        first=first - block.start if inside else 0,
                        shares=merged is not None,
                    )
                    size = (last - first) * (block.stop - block.start)

                    def listen(fraction: float, begun: int = pairs, size: int = size) -> None:
                        tell((begun + size * fraction) / all_pairs)

                    drive(engine, listen)
                    if engine.too_narrow:
                        return None
                    pairs += size
                    if merged is None:
                        found.append(engine.finish())
                    else:
                        merged.add(slice(first, last), engine.finish(), log_weight)
                    del engine  # with what it has on the GPU, before the next rows come there
                del few
            del others
        return found

    calls = [partial(work, place) for place in range(len(parts))]
    results = side_by_side(calls, tell)
    if any(found is None for found in results):
        return None
    if merged is not None:
        return merged.result()
    whole = [one for found in results if found is not None for one in found]
    return {
        "log_sums": np.concatenate([one["log_sums"] for one in whole]),
        "dominated": np.sum([one["dominated"] for one in whole], axis=0),
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


def _handle(gpu: Gpu, rows: Rows, start: int, stop: int, device: int) -> _cuda.Rows:
    """Return consecutive rows on a GPU; no others come there where there is no room for all."""
    if gpu.memory.stays(rows, device):
        return gpu.handle(_part(rows, start, stop, device), device)
    handle = gpu.handle(rows, device)
    return handle if stop - start == rows.n else handle.part(start, stop)


def _part(rows: Rows, start: int, stop: int, device: int) -> Rows:
    """Return consecutive rows, from a GPU where they are on one, from that one if they may be."""
    if stop - start == rows.n:
        return rows
    if rows.copies:
        copies = dict(rows.copies)
        handle = copies.get(device) or next(iter(copies.values()))
        return Rows(DeviceRows(handle.part(start, stop)), rows.name)
    return Rows(rows.host[start:stop], rows.name)
