"""Arithmetic before the work: which path serves a join, and what it needs in memory.

Numbers in, numbers out; no arrays.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Collection, Sequence

from fastgen._errors import fail

#: Paths a caller may force. "auto" lets the engine choose between its int8 and float32 tiles.
PATHS = ("auto", "int8", "float32", "scan", "tree")

#: Below this many features int8 cannot tell close neighbours apart in large sets, and a tree wins.
TREE_BELOW_D = 8


def tree_from_pairs(d: int) -> int:
    """Return the number of pairs from which a tree beats the engine.

    Measured on normal and clustered rows, 2 cores: about 2,000 rows against themselves in up to 4
    dimensions; in 5 to 7, where a search visits more of the tree, between 5,000 and 100,000.

    Parameters
    ----------
    d : int
        Features, below `TREE_BELOW_D`.

    Returns
    -------
    int
        Pairs.
    """
    rows = 2_000 if d <= 4 else 20_000
    return rows * rows


#: The largest k that the engine's sorted lists serve. Their upkeep grows with k: at n = 4,000,
#: d = 256 they take 0.4 of a float64 scan's time for k = 100, and twice as long for k = 400.
LARGEST_LIST_K = 256

_FIXED_BYTES = 32 << 20  # the module, interpreter objects, thread stacks; does not grow with n
_THREAD_BYTES = 2 << 20  # packed columns, products and hits of one thread
_FEATURE_BYTES = 800  # of one thread per feature: float32 strips and panels, one row as float64
_ROW_BYTES = 560  # norms and bounds, groups, candidate lists, counts
_UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def choose_path(n: int, m: int, d: int, k: int = 0) -> str:
    """Name the path for a join of n by m rows with d features.

    Parameters
    ----------
    n, m : int
        Rows on both sides (equal for a set against itself).
    d : int
        Features.
    k : int, default 0
        Neighbours sought; 0 for joins that seek none.

    Returns
    -------
    str
        "tree", "scan" or "auto".
    """
    if d < TREE_BELOW_D and n * m >= tree_from_pairs(d):
        return "tree"
    return "scan" if k > LARGEST_LIST_K else "auto"


def check_path(function: str, path: str | None, known: Collection[str] = PATHS) -> str | None:
    """Check a path that a caller forces.

    Parameters
    ----------
    function : str
        Named in the message.
    path : str or None
        One of the known ones, or None to let the planner choose.
    known : collection of str, default PATHS
        The paths that serve this function.

    Returns
    -------
    str or None
        The same.

    Raises
    ------
    ValueError
        If there is no such path.
    """
    if path is not None and path not in known:
        fail(function, "path", f"to be one of {', '.join(known)}", repr(path))
    return path


def bytes_needed(
    shapes: Sequence[tuple[int, int]], k: int = 0, path: str = "auto", threads: int = 1
) -> int:
    """Estimate the memory a call takes beyond its inputs, from above.

    Parameters
    ----------
    shapes : sequence of (n, d)
        The sets that take part.
    k : int, default 0
        Neighbours kept per row.
    path : str, default "auto"
        Path of the joins.
    threads : int, default 1
        Threads of the call.

    Returns
    -------
    int
        Bytes: a fixed part; for each thread its scratch, which grows with d; for each row its int8
        copy (padded to 64), 560 bytes of terms and lists, and 64 bytes per neighbour. For "tree"
        two float64 copies, indices and the results; for "scan" the results.
    """
    total = _FIXED_BYTES + threads * (_THREAD_BYTES + _FEATURE_BYTES * max(d for _, d in shapes))
    for n, d in shapes:
        if path == "tree":
            row = 32 * d + 96 + 32 * k
        elif path == "scan":
            row = 128 + 16 * k
        else:
            row = -(-d // 64) * 64 + 64 + _ROW_BYTES + 64 * max(k, 1)
        total += n * row + 24 * d * min(128, -(-n // 256))  # sums and extremes of blocks of rows
    return total


#: Rows and columns of a tile of the sum engine; results do not depend on it.
SUM_BLOCK = 384

_WINDOW_BYTES = 48 << 20  # csrc/cpu/kernel_sums.cpp


def sum_bytes_needed(
    rows: int, chosen: int, d: int, kernels: int, labels: int, threads: int
) -> int:
    """Estimate the memory that a pass of the sum engine takes beyond its inputs, from above.

    Parameters
    ----------
    rows : int
        Rows of all sets.
    chosen : int
        Rows of all subsets; the same without subsets.
    d : int
        Features.
    kernels : int
        Kernels of the pass.
    labels : int
        Vectors of labels.
    threads : int
        Threads of the call.

    Returns
    -------
    int
        Bytes: a fixed part, 3 MB of tiles per thread, two windows of packed rows, sums and extremes
        of blocks of rows; per row its scale and norms, and per chosen row its place, sums and
        results for every kernel.
    """
    packed = 8 * (chosen + 2 * SUM_BLOCK) * -(-d // 128) * 128
    total = _FIXED_BYTES + threads * ((3 << 20) + 16 * labels + 8 * d)
    total += min(packed, 2 * max(_WINDOW_BYTES, 8 * 64 * d))
    total += 24 * d * min(258, -(-rows // 256) + 2) + 64 * d
    return total + rows * (24 + 3 * labels) + (chosen + 128) * (48 + 120 * kernels)


#: Paths of the density engine, and the most features that each serves. Beyond 16, differences cost
#: more than products; beyond 8, blocks of neighbouring rows are so wide that none can be skipped.
DENSITY_PATHS: dict[str, float] = {"auto": math.inf, "direct": 16, "tiles": math.inf, "ordered": 8}

_DENSITY_BLOCK = 512  # samples, to which their copies are padded
_DENSITY_POINTS = 256  # of one task
_DENSITY_PARTS = 64  # tasks that there are at least


def check_density_path(function: str, path: str | None, d: int) -> None:
    """Check that a path of the density engine serves so many features.

    Parameters
    ----------
    function : str
        Named in the message.
    path : str or None
        One of `DENSITY_PATHS`, or None to let the engine choose.
    d : int
        Features.

    Raises
    ------
    ValueError
        If there is no such path for this d.
    """
    known = [name for name, most in DENSITY_PATHS.items() if d <= most]
    if path is not None and path not in known:
        fail(function, "path", f"to be one of {', '.join(known)} for d = {d}", repr(path))


def density_bytes_needed(
    n: int, m: int, d: int, bandwidths: int, threads: int, path: str | None = None, copied: int = 0
) -> int:
    """Estimate the memory that a pass of the density engine takes beyond its inputs, from above.

    Parameters
    ----------
    n, m : int
        Points and samples.
    d : int
        Features.
    bandwidths : int
        Bandwidths of the pass.
    threads : int
        Threads of the call.
    path : str, optional
        One of `DENSITY_PATHS`; None lets the engine choose.
    copied : int, default 0
        Bytes of rows that are cast, whitened or picked before the pass.

    Returns
    -------
    int
        Bytes: a fixed part; 3 MB of scratch per thread, and 72 bytes for every bandwidth of up to
        256 points; packed rows, at 8 bytes per number, all of them where differences are taken and
        two windows where products are; 64 bytes per row for its norm and its place in the order;
        24 bytes per point and bandwidth for sums and results, and 16 more for each of up to 64
        parts that the sums of few points are made in.
    """
    if path != "tiles" and d <= DENSITY_PATHS["direct"]:
        packed = 8 * d * (n + m + 2 * _DENSITY_BLOCK)
        packed += 16 * d * max(n, m)  # what an order is made of, one set after the other
    else:
        packed = 8 * (n + m + 2 * _DENSITY_BLOCK) * -(-d // 128) * 128
        packed = min(packed, 2 * max(_WINDOW_BYTES, 8 * 64 * d))
    total = _FIXED_BYTES + packed + 64 * (n + m) + copied
    total += threads * ((3 << 20) + 16 * d + 72 * min(n, _DENSITY_POINTS) * bandwidths)
    in_parts = min(_DENSITY_PARTS * n, n + _DENSITY_PARTS * _DENSITY_POINTS)
    return total + 24 * n * bandwidths + (16 * bandwidths + 24) * in_parts


def frechet_bytes_needed(d: int, sizes: Sequence[int]) -> int:
    """Estimate the memory that a Frechet distance takes beyond its inputs, from above.

    Parameters
    ----------
    d : int
        Features.
    sizes : sequence of int
        Rows of the sets that are no statistics yet.

    Returns
    -------
    int
        Bytes: a fixed part with two chunks of rows; 12 matrices of min(n, d) features of float64,
        of which LAPACK takes 4, and 3 more copies of rows that are their own factor.
    """
    rows = sum(3 * 8 * n * d for n in sizes if n <= d)
    return _FIXED_BYTES + (64 << 20) + 12 * 8 * d * d + rows


def require_memory(function: str, budget: int | None, needed: int) -> None:
    """Raise if a budget was given and is smaller than the estimate.

    Parameters
    ----------
    function : str
        Named in the message.
    budget, needed : int
        Bytes; a budget of None always suffices.

    Raises
    ------
    ValueError
        If `budget` is smaller than `needed`.
    """
    if budget is not None and budget < needed:
        mib = -(-needed // (1 << 20))
        hint = f'memory="{mib}MiB" is enough'
        fail(function, "memory", f"of at least {needed} bytes for this input", str(budget), hint)


def parse_memory(function: str, memory: int | str | None) -> int | None:
    """Turn a memory budget into bytes.

    Parameters
    ----------
    function : str
        Named in the message.
    memory : int, str or None
        Bytes, or a number with a unit: "4GB" (10^9), "512MiB" (2^20); None sets no limit.

    Returns
    -------
    int or None
        Bytes.

    Raises
    ------
    TypeError
        If `memory` is neither.
    ValueError
        If it cannot be read or is not positive.

    Examples
    --------
    >>> parse_memory("prdc", "1.5GB"), parse_memory("prdc", "2 KiB")
    (1500000000, 2048)
    """
    if memory is None:
        return None
    condition = 'to be a positive number of bytes or a text such as "4GB"'
    if isinstance(memory, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", memory, re.IGNORECASE)
        if match is None or (match[3] and not match[2]):
            fail(function, "memory", condition, repr(memory))
        size = int(float(match[1]) * (1024 if match[3] else 1000) ** _UNITS[match[2].lower()])
    else:
        size = as_int(function, "memory", memory, condition)
    if size < 1:
        fail(function, "memory", condition, repr(memory))
    return size


def as_int(function: str, argument: str, value: object, condition: str = "to be an int") -> int:
    """Take an int or NumPy integer, and nothing else.

    Parameters
    ----------
    function, argument, condition : str
        For the message.
    value : object
        What the caller passed; a bool is not a number here.

    Returns
    -------
    int
        The value.

    Raises
    ------
    TypeError
        If `value` is not an integer.
    """
    if not isinstance(value, bool) and type(value).__name__ not in ("bool", "bool_"):
        try:
            return operator.index(value)  # type: ignore[arg-type]
        except TypeError:
            pass
    fail(function, argument, condition, f"{type(value).__name__} {value!r}", error=TypeError)
