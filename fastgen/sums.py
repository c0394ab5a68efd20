"""Passes of the sum engine: kernels over all pairs of rows, and what bandwidths are taken from."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastgen import plan
from fastgen._errors import fail
from fastgen.backend import core
from fastgen.estimators import KernelSums
from fastgen.gpu import Gpu
from fastgen.gpu_memory import GpuMemory
from fastgen.gpu_plan import SumSize
from fastgen.kernels import Kernel
from fastgen.session import Rows, Session
from fastgen.workers import Tell, drive, side_by_side

if TYPE_CHECKING:
    from fastgen import _cuda

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Labels = npt.NDArray[np.int8]

#: Rows that a median distance is taken from: half a million pairs, a tenth of a second at d = 2048.
MEDIAN_ROWS = 1000

# What one run of the engine takes; more is done in several, whose sums have the same bits.
_LABEL_BYTES = 64 << 20
_SUBSET_ROWS = 1 << 19


def kernel_sums(
    session: Session,
    x: Rows,
    y: Rows,
    kernels: Sequence[Kernel],
    *,
    subsets: tuple[Integers, Integers] | None = None,
    labels: Labels | None = None,
    normalise: bool = False,
) -> list[KernelSums]:
    """Sum kernels over all pairs within and across two sets.

    Parameters
    ----------
    session : Session
        How to run.
    x, y : Rows of shape (n, d) and (m, d)
        The sets.
    kernels : sequence of Kernel
        With numbers only (`Kernel.resolved`); all of them in one pass.
    subsets : pair of int64 arrays of shape (S, a) and (S, b), optional
        Rows of `x` and `y` that meet each other. Default: all of them, once.
    labels : int8 array of shape (n + m, L), optional
        Vectors of +1 and -1 over the rows of `x` and then `y`; not with `subsets`.
    normalise : bool, default False
        Whether rows are divided by their Euclidean norm first.

    Returns
    -------
    list of KernelSums
        One per kernel.

    Raises
    ------
    ValueError
        If a kernel's values do not fit into float64, a row to be normalised is zero, or the memory
        budget is too small.
    """
    runs = [
        _run(session, x, y, kernels, subsets=some, labels=few, normalise=normalise)
        for some, few in _parts(x.n + y.n, subsets, labels)
    ]
    return [_joined(list(of_kernel)) for of_kernel in zip(*runs, strict=True)]


def require_memory(
    session: Session, sets: Sequence[Rows], kernels: int, *, chosen: int = 0, labels: int = 0
) -> None:
    """Raise if the memory cannot hold a pass; what a seed draws for it counts.

    Parameters
    ----------
    session : Session
        Has the budget.
    sets : sequence of Rows
        All that take part.
    kernels : int
        Kernels of the pass.
    chosen : int, default 0
        Rows of all subsets; 0 without subsets.
    labels : int, default 0
        Vectors of labels.
    """
    rows = sum(one.n for one in sets)
    if session.gpu is not None:
        size = _gpu_size(session.gpu.memory, sets, kernels, chosen or rows, labels)
        session.gpu.memory.make_room_for_sums(size)
        return
    needed = plan.sum_bytes_needed(
        rows, chosen or rows, sets[0].d, kernels, labels, session.threads
    )
    plan.require_memory(session.function, session.memory, needed)


def choose_places(session: Session, sets: Sequence[Rows]) -> None:
    """Decide, before anything looks at the sets, whether they fit into the memory of the GPUs.

    Parameters
    ----------
    session : Session
        Has the budget; without GPUs there is nothing to decide.
    sets : sequence of Rows
        All that take part.
    """
    if session.gpu is not None:
        size = _gpu_size(session.gpu.memory, sets, 1, sum(one.n for one in sets), 0)
        session.gpu.memory.make_room_for_sums(size, require=False)


def row_sums(session: Session, x: Rows, y: Rows | None, kernel: Kernel) -> Floats:
    """Sum a kernel over the pairs of each row, see `pairwise.kernel_sums`.

    Parameters
    ----------
    session : Session
        How to run.
    x : Rows of shape (n, d)
        One sum for each.
    y : Rows of shape (m, d), optional
        Over these rows; default `x` without the row itself.
    kernel : Kernel
        With numbers only.

    Returns
    -------
    array of shape (n,), float64
        Sums of the kernel itself.
    """
    (found,) = _run(session, x, y, [kernel], within=y is None)
    shift = found["x_shift"][0]
    if y is not None:
        across: Floats = found["xy"][0] + y.n * shift + np.sum(found["y_shift"][0])
        return across
    own = found["xx_diagonal"][0] + 2.0 * shift
    within: Floats = found["xx"][0] + x.n * shift + np.sum(shift) - own
    return within


def median_distance(session: Session, x: Rows, y: Rows | None, seed: int) -> float:
    """Return the median Euclidean distance between pooled rows.

    Parameters
    ----------
    session : Session
        How to run.
    x : Rows of shape (n, d)
        The first set.
    y : Rows of shape (m, d), optional
        The second set, pooled after the first.
    seed : int
        Where there are more than 1000 rows, those of ``default_rng(seed).choice(n + m, 1000,
        replace=False)`` are used.

    Returns
    -------
    float
        Median over all pairs of them.

    Raises
    ------
    ValueError
        If it is 0: at least half of the pairs are of identical rows.
    """
    total = x.n + (0 if y is None else y.n)
    chosen = np.arange(total)
    if total > MEDIAN_ROWS:
        rng = np.random.default_rng(seed)
        chosen = np.sort(rng.choice(total, MEDIAN_ROWS, replace=False))
    sides = [(x, chosen[chosen < x.n])]
    if y is not None:
        sides.append((y, chosen[chosen >= x.n] - x.n))
    squares = []
    for place, (first, rows) in enumerate(sides):
        for second, others in sides[place:]:
            i, j = np.indices((len(rows), len(others))).reshape(2, -1)
            if first is second:
                i, j = i[i < j], j[i < j]
            pairs = _packed(rows[i]), _packed(others[j])
            squares.append(_sq_distances(session, first, second, *pairs))
    median = float(np.median(np.sqrt(np.concatenate(squares))))
    if median == 0.0:
        got, hint = "0, since most rows are identical", "give the bandwidth as a number"
        fail(session.function, "kernel", "with a positive median distance", got, hint)
    return median


def _run(
    session: Session,
    x: Rows,
    y: Rows | None,
    kernels: Sequence[Kernel],
    *,
    subsets: tuple[Integers, Integers] | None = None,
    labels: Labels | None = None,
    normalise: bool = False,
    within: bool = True,
) -> list[dict[str, Floats]]:
    """Run the engine once: the fields of `KernelSums` by name, those of `x` alone without `y`."""
    sets = [x] if y is None else [x, y]
    chosen = [one.n for one in sets] if subsets is None else [one.size for one in subsets]
    count = 0 if labels is None else labels.shape[1]
    require_memory(session, sets, len(kernels), chosen=sum(chosen), labels=count)
    terms = [[part.term() for part in kernel.parts()] for kernel in kernels]
    what: dict[str, Any] = {
        "subsets": None if subsets is None else (_packed(subsets[0]), _packed(subsets[1])),
        "labels": None if labels is None else np.ascontiguousarray(labels.T),
        "within": within,
        "normalise": normalise,
        "float64": False,
    }
    pairs = sum(0.5 * n * n for n in chosen) if within else 0.0
    pairs += float(np.prod(chosen, dtype=np.float64)) if y is not None else 0.0
    work = pairs / (1 if subsets is None else len(subsets[0]))

    def tell(done: float) -> None:
        session.progress.update(work, done)

    engine: core.KernelSums | _cuda.KernelSums
    if session.gpu is not None:
        engine = _on_gpus(session.gpu, x, y, terms, what, sum(chosen), tell)
    else:
        how: dict[str, Any] = {"isa": session.isa, "threads": session.threads}
        others = None if y is None else y.host
        engine = core.KernelSums(x.host, others, terms, **what, block=plan.SUM_BLOCK, **how)
        drive(engine, tell)
    for one, zero in zip(sets, engine.zero_rows, strict=False):
        if zero >= 0:
            hint = "it has no direction"
            fail(session.function, one.name, "without zero rows", f"zeros in row {zero}", hint)
    if engine.overflow:
        got, hint = (
            "one that may exceed 2^480 on these rows",
            "scale them, or lower gamma or degree",
        )
        fail(session.function, "kernel", "with values in the range of float64", got, hint)
    return engine.finish()


def _gpu_size(
    memory: GpuMemory, sets: Sequence[Rows], kernels: int, chosen: int, labels: int
) -> SumSize:
    return SumSize(
        sizes=tuple(one.n for one in sets),
        chosen=chosen,
        absent=memory.absent(sets),
        movable=memory.absent([one for one in sets if one.copies]),
        d=sets[0].d,
        itemsize=max(one.values.itemsize for one in sets),
        kernels=kernels,
        labels=labels,
    )


def _on_gpus(
    gpu: Gpu,
    x: Rows,
    y: Rows | None,
    terms: list[Any],
    what: dict[str, Any],
    chosen: int,
    tell: Tell,
) -> _cuda.KernelSums:
    """Run an engine on every GPU like the first, each with its tiles, and let the first add up."""
    sets = [x] if y is None else [x, y]
    labels = 0 if what["labels"] is None else len(what["labels"])
    memory = gpu.memory
    streamed = any(map(memory.streams, sets))
    if memory.budget is not None or streamed:  # what is left is for windows of rows
        needed = _gpu_size(memory, sets, len(terms), chosen, labels).bytes_needed(streamed=streamed)
        budget = None if streamed else memory.budget
        left = memory.available(needed) if budget is None else budget
        what = what | {"memory": max(1, left - needed)}
    count = len(gpu.alike)

    def share(place: int, tell: Tell) -> _cuda.KernelSums:
        device = gpu.alike[place]
        others = None if y is None else gpu.source(y, device)
        how: dict[str, Any] = {"share": (place, count), "stream": gpu.stream(device)}
        engine: _cuda.KernelSums = gpu.module.KernelSums(
            gpu.source(x, device), others, terms, **what, **how
        )
        drive(engine, tell)
        return engine

    engines = side_by_side([functools.partial(share, place) for place in range(count)], tell)
    if count > 1:  # integers, which may be added in any order
        engines[0].set_limbs(functools.reduce(np.add, [engine.limbs() for engine in engines]))
    return engines[0]


def _sq_distances(session: Session, x: Rows, y: Rows, first: Integers, second: Integers) -> Floats:
    """Return canonical squared distances of listed pairs."""
    gpu = session.gpu
    if gpu is None:
        return core.pair_sq_distances(x.host, y.host, first, second, session.isa, session.threads)
    (left, first), (right, second) = gpu.some(x, first), gpu.some(y, second)
    squares: Floats = gpu.module.pair_sq_distances(left, right, first, second)
    return squares


def _parts(
    rows: int, subsets: tuple[Integers, Integers] | None, labels: Labels | None
) -> Iterator[tuple[tuple[Integers, Integers] | None, Labels | None]]:
    """Split many subsets, or many labels, into what one run of the engine takes."""
    if subsets is not None:
        first, second = subsets
        step = max(1, _SUBSET_ROWS // (first.shape[1] + second.shape[1]))
        for start in range(0, len(first), step):
            yield (first[start : start + step], second[start : start + step]), None
    elif labels is not None:
        step = max(1, _LABEL_BYTES // rows)
        for start in range(0, labels.shape[1], step):
            yield None, labels[:, start : start + step]
    else:
        yield None, None


def _joined(runs: list[dict[str, Floats]]) -> KernelSums:
    """Put together what several runs found: of more subsets, or the same sums with more labels."""
    first = runs[0]
    more = ["forms"] if "forms" in first else list(first)
    return KernelSums(
        **first | {name: np.concatenate([run[name] for run in runs]) for name in more}
    )


def _packed(indices: Integers) -> Integers:
    return np.ascontiguousarray(indices, dtype=np.int64)
