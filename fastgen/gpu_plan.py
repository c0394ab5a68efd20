"""Arithmetic before work on GPUs: what engines there call their paths, and need in memory.

Numbers in, numbers out; no arrays. Estimates are from above, and of the GPU's memory alone: of the
host's a few numbers per row are taken.
"""

from __future__ import annotations

from dataclasses import dataclass

from fastgen.plan import LARGEST_LIST_K

#: Paths of joins that a caller may force, by what the engines call them. There is no tree: float32
#: differences ("direct", up to 16 features) are faster.
PATHS = {
    "auto": "auto",
    "int8": "int8",
    "float32": "fine",
    "scan": "exact",
    "direct": "direct",
}

#: Features up to which differences are taken.
DIRECT_D = 16

#: Points of a log-density are dealt to GPUs, and to passes, by multiples of this.
POINTS = 8192

#: Bytes of samples, in the dtype of the passes, that a log-density sums at a time. More are summed
#: by blocks of so many whatever memory there is: memory decides on no bit. Of 2 features in
#: float32, 5 * 10^8 samples, beside whose sums launches and uploads should take little (not
#: measured).
DENSITY_BLOCK_BYTES = 4 << 30

FIXED_BYTES = 192 << 20  # hits of a batch of tiles, scratch that the memory pool keeps
DENSITY_FIXED_BYTES = 400 << 20  # sums by parts of the samples have up to 384 MiB
LEAST_ROWS = 4096  # of a block: with fewer the GPU would wait for its own launches
_SUM_ROWS, _SUM_BLOCKS = 128, 512  # columns are added up by so many rows, or so many blocks
_PLANE = 128  # features to which 8-bit and 16-bit copies of rows are padded
_ROW_BYTES = 512  # terms of the bounds in float64 and float32, groups and their hashes, counts


@dataclass(frozen=True)
class JoinSize:
    """What decides on the memory that joins of some sets take.

    Attributes
    ----------
    sizes : tuple of int
        Rows of the sets.
    absent : int
        Rows of those that are not on the GPU yet.
    d : int
        Features.
    itemsize : int
        Bytes of a number.
    k : int
        Neighbours kept per row; 0 for joins that seek none.
    """

    sizes: tuple[int, ...]
    absent: int
    d: int
    itemsize: int
    k: int

    def row_bytes(self) -> int:
        """Return what a row takes beside itself.

        Returns
        -------
        int
            Bytes: two planes of 8 bits, terms of bounds, lists of candidates and neighbours.
        """
        lists = ((1600 if self.k <= 32 else 3200) + 32 * self.k) if self.k else 0
        return 2 * -(-self.d // _PLANE) * _PLANE + _ROW_BYTES + lists

    def bytes_needed(self) -> int:
        """Return what joins take with all sets on the GPU.

        Returns
        -------
        int
            Bytes.
        """
        rows = self.absent * self.d * self.itemsize
        return FIXED_BYTES + rows + sum(self.sizes) * self.row_bytes()

    def _row_of_blocks(self) -> int:
        """Return the bytes of a row where two blocks are joined and a third is on its way."""
        return 3 * self.d * self.itemsize + 2 * self.row_bytes()

    def block_rows(self, budget: int) -> int:
        """Return how many rows a block may have.

        Parameters
        ----------
        budget : int
            Bytes.

        Returns
        -------
        int
            Rows; 0 if the budget does not hold blocks of `LEAST_ROWS`.
        """
        rows = (budget - FIXED_BYTES) // self._row_of_blocks()
        return rows if rows >= LEAST_ROWS else 0

    def least_bytes(self) -> int:
        """Return the smallest budget with which these sets can be joined.

        Returns
        -------
        int
            Bytes, with blocks of `LEAST_ROWS`.
        """
        return min(self.bytes_needed(), FIXED_BYTES + LEAST_ROWS * self._row_of_blocks())


@dataclass(frozen=True)
class SumSize:
    """What decides on the memory that a pass of the sum engine takes.

    Attributes
    ----------
    sizes : tuple of int
        Rows of the sets.
    chosen : int
        Rows of their subsets, or of both sets.
    absent : int
        Rows that are not on the GPU yet.
    movable : int
        Those of them that are on another one, which are copied as a whole.
    d, itemsize : int
        As of `JoinSize`.
    kernels : int
        Kernels of the pass.
    labels : int
        Vectors of labels.
    """

    sizes: tuple[int, ...]
    chosen: int
    absent: int
    movable: int
    d: int
    itemsize: int
    kernels: int
    labels: int

    def bytes_needed(self, *, streamed: bool = False) -> int:
        """Return what a pass takes beside packed rows, which take what is left, by windows.

        Parameters
        ----------
        streamed : bool, default False
            Whether rows of the host stay there, and windows of them take what is left as well.

        Returns
        -------
        int
            Bytes: rows, their norms and shifts, sums of every kernel.
        """
        absent = self.movable if streamed else self.absent
        row = 160 + 128 * self.kernels + 3 * self.labels
        return FIXED_BYTES + absent * self.d * self.itemsize + self.chosen * row

    def least_bytes(self) -> int:
        """Return the smallest budget with which a pass is possible.

        Returns
        -------
        int
            Bytes, with two windows of `LEAST_ROWS`, or a block of rows whose columns are added up.
        """
        row = self.d * self.itemsize
        packed = -(-self.d // 32) * 128 * (2 if self.itemsize == 8 else 1)
        windows = 2 * min(LEAST_ROWS, self.chosen) * (row + packed)
        block = max(_SUM_ROWS, -(-max(self.sizes) // _SUM_BLOCKS)) * row
        return min(self.bytes_needed(), self.bytes_needed(streamed=True) + max(windows, block))


def density_block_rows(d: int, itemsize: int) -> int:
    """Return how many samples a log-density sums at a time.

    Parameters
    ----------
    d, itemsize : int
        Features of the samples, and bytes of a number of the passes.

    Returns
    -------
    int
        A multiple of `POINTS`, of `DENSITY_BLOCK_BYTES` at most where that is one, and within what
        an engine can number.
    """
    most = min(DENSITY_BLOCK_BYTES // (d * itemsize), 1 << 30)
    return max(1, most // POINTS) * POINTS


def density_bytes_needed(
    points: int, samples: int, absent: int, d: int, itemsize: int, bandwidths: int
) -> int:
    """Estimate what a pass of the density engine takes.

    Parameters
    ----------
    points, samples : int
        Rows of both sets; the samples are summed by blocks of `density_block_rows` at most.
    absent, d, itemsize : int
        As of `JoinSize`.
    bandwidths : int
        Of the pass.

    Returns
    -------
    int
        Bytes: norms, weights, results, float16 copies of the samples where products screen them.
    """
    block = density_block_rows(d, itemsize)
    results = 8 if samples <= block else 16  # by blocks also shares of the largest terms
    samples = min(samples, block)
    screened = bandwidths == 1 and d > DIRECT_D and itemsize < 8
    copies = 2 * -(-d // 64) * 64 * samples if screened else 0
    rows = 32 * (points + samples) + results * points * bandwidths + copies
    return DENSITY_FIXED_BYTES + absent * d * itemsize + rows


def density_points(
    budget: int, samples: int, absent: int, point_bytes: int, d: int, itemsize: int, bandwidths: int
) -> int:
    """Return how many points a pass of the density engine may have.

    Parameters
    ----------
    budget : int
        Bytes.
    samples, absent, d, itemsize, bandwidths : int
        As for `density_bytes_needed`, without any point.
    point_bytes : int
        What a point takes if it has to be uploaded; 0 if it is there.

    Returns
    -------
    int
        A multiple of `POINTS`; 0 if even so many do not fit.
    """
    fixed = density_bytes_needed(0, samples, absent, d, itemsize, bandwidths)
    row = density_bytes_needed(1, samples, absent, d, itemsize, bandwidths) - fixed
    return max(0, budget - fixed) // (row + point_bytes) // POINTS * POINTS


def join_path(path: str | None, k: int) -> str:
    """Name the path of a join as the engines of a GPU do.

    Parameters
    ----------
    path : str or None
        One of `PATHS`; None chooses.
    k : int
        Neighbours sought.

    Returns
    -------
    str
        "auto" lets the engine choose by the rows.
    """
    if path is None and k > 8 * LARGEST_LIST_K:
        return PATHS["scan"]
    return PATHS[path or "auto"]
