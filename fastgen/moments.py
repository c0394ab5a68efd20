"""Mean and covariance of rows that come in batches, kept in float64 in a fixed amount of memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from fastgen import library_devices, library_rows, moment_files
from fastgen._errors import fail
from fastgen.arrays import Rows2D
from fastgen.backend import thread_count
from fastgen.library_devices import Device
from fastgen.library_rows import LibraryRows
from fastgen.moment_sums import MomentSums
from fastgen.plan import as_int
from fastgen.progress import Progress, ProgressLike

Floats = npt.NDArray[np.float64]


class Moments:
    """Mean and covariance of rows that come in batches.

    Parameters
    ----------
    d : int
        Number of features, from 1 to 2^20.
    threads : int, optional
        Number of threads. Default: ``FASTGEN_NUM_THREADS``, else the CPUs this process may use.
    device : str or device, optional
        Where the sums are made and kept: "cpu", "cuda" or "cuda:1", the latter two in torch or
        CuPy. Default: where the first rows are, which may be the GPU of a torch, CuPy or (with
        float64) JAX array. Rows from elsewhere are brought there.

    Attributes
    ----------
    d : int
        Number of features.
    device : str
        "cpu" or, for example, "cuda:0".
    count : int or None
        Rows so far. None if a file had a mean and a covariance only (see `load`).
    mean : ndarray of shape (d,), float64
        Means of the features; a new array each time. ValueError before the first row.
    covariance : ndarray of shape (d, d), float64
        With divisor ``count - 1``, symmetric to the bit; a new array each time. ValueError before
        the second row, and if a variance is beyond float64.

    Raises
    ------
    TypeError
        If `d` or `threads` is not an int.
    ValueError
        If one of them is out of bounds, or there is no such kind of device.
    BackendUnavailableError
        If no library at hand sees the device.

    Notes
    -----
    All is kept in float64, whatever the dtype of the rows, as a difference from the first row. Rows
    are taken in chunks of 1919 (fewer from d = 2185 on); each is centred on its own mean and joined
    to the rest by the formula of Chan et al. [1]_. So a mean of 1e9 standard deviations costs no
    digits: the error of a covariance stays within about ``2^-52 (128 + n / 128) s_i s_j``, s the
    standard deviations (about ``2^-50 s_i s_j`` for a million random rows).

    The result depends on the rows and their order alone: how they are cut into batches and how many
    threads work does not change a bit. Between instruction sets the last bits may differ.

    On a GPU the chunks are the same, and each is one product in float64 of the array's library. As
    far as that computes equal products alike, which cuBLAS does on one model of GPU, batches change
    no bit there either. Its sums have an order of their own: the error of a covariance stays within
    ``2^-53 (1920 + n / 1919) s_i s_j``, and is mostly some ``2^-52``. Memory there: up to
    ``24 d^2`` bytes, and 96 MB for the chunks.

    Rows that do not fill a chunk wait, so that a batch of one row costs no more than its copy.
    Memory: about ``8 d^2`` bytes, and at most 64 MB for the chunks up to d = 2184. A square above
    the largest float64 is an error; differences below 1e-154 have squares that are lost.

    A call that fails or is interrupted changes nothing. Threads may share an object: one call
    waits for the other.

    References
    ----------
    .. [1] Chan, Golub and LeVeque, "Algorithms for computing the sample variance: analysis and
       recommendations", The American Statistician 37, 1983.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgen.moments import Moments
    >>> moments = Moments(2)
    >>> moments.update(np.array([[0.0, 1.0]]))
    >>> moments.update(np.array([[2.0, 1.0], [4.0, 4.0]]))
    >>> moments.count, moments.mean.tolist()
    (3, [2.0, 2.0])
    >>> moments.covariance
    array([[4., 3.],
           [3., 3.]])
    """

    def __init__(self, d: int, *, threads: int | None = None, device: object = None) -> None:
        self._d = as_int("Moments", "d", d)
        if not 1 <= self._d <= moment_files.LARGEST_D:
            fail("Moments", "d", "in [1, 2^20]", str(self._d))
        self._begin(threads, library_devices.asked_for("Moments", device))

    @classmethod
    def on(cls, d: int, device: Device | None, threads: int) -> Self:
        """Begin where the sums are known to be needed; None stands for the CPU."""
        moments = cls.__new__(cls)
        moments._d = d
        moments._begin(threads, device or library_devices.HOST)
        return moments

    @property
    def d(self) -> int:
        """Number of features."""
        return self._d

    @property
    def device(self) -> str:
        """Where the sums are: "cpu" or, for example, "cuda:0"."""
        place = self.place
        return library_devices.HOST if place is None else place.name

    @property
    def place(self) -> Device | None:
        """The device, as its library knows it; None for the CPU."""
        return self._sums.device

    @property
    def count(self) -> int | None:
        """Rows so far, None where a file did not tell."""
        return self._sums.count if self._given is None else None

    @property
    def mean(self) -> Floats:
        """Means of the features, shape (d,), float64."""
        origin, shift = self.origin_and_shift
        mean: Floats = origin + shift
        return mean

    @property
    def origin_and_shift(self) -> tuple[Floats, Floats]:
        """The first row and the mean less that row, both of shape (d,), float64.

        Their sum is the mean before it is rounded, which counts where means are far from 0.
        """
        if self._given is not None:
            return self._given[0].copy(), np.zeros(self._d)
        return self._sums.origin_and_shift("Moments.mean")

    @property
    def covariance(self) -> Floats:
        """Covariance of the features with divisor ``count - 1``, shape (d, d), float64."""
        if self._given is not None:
            return self._given[1].copy()
        covariance: Floats = self._sums.statistics("Moments.covariance")["sigma"]
        return covariance

    def covariance_on(self, device: Device) -> Any:
        """Return the covariance on a device, directly if the sums are there; see `MomentSums`."""
        if self._given is not None:
            return device.floats(device.upload(self._given[1]))
        return self._sums.covariance_on(device)

    def update(self, batch: object, *, progress: ProgressLike = False) -> None:
        """Take in rows.

        Parameters
        ----------
        batch : array of shape (n, d)
            One row is enough: float16, float32, float64 or integers, in CPU memory or on a GPU, or
            the path of a file.
        progress : bool or callable, default False
            True shows a bar (needs rich); a callable gets the fraction done. An exception it raises
            ends the call and leaves the moments as they were.

        Raises
        ------
        TypeError
            If an argument has the wrong type or dtype.
        ValueError
            If `batch` is no matrix of d columns, a number is not finite or beyond 2^500 in
            magnitude, or the moments come from a file that does not tell their number of rows.
        BackendUnavailableError
            If `batch` is on a device that neither its library nor torch or CuPy computes on.
        MemoryError
            If there is not enough, on the device too.
        RuntimeError
            If the call comes from within the `progress` of another one on the same object.

        Examples
        --------
        >>> import numpy as np
        >>> from fastgen.moments import Moments
        >>> moments = Moments(1)
        >>> for start in range(0, 100, 10):
        ...     moments.update(np.arange(start, start + 10).reshape(-1, 1))
        >>> moments.mean.item(), round(moments.covariance.item(), 6)
        (49.5, 841.666667)
        """
        name = "Moments.update"
        self._require_count(name, "self", self)
        with Progress(name, progress) as display:
            rows = library_rows.as_rows(name, "batch", batch)
            if rows.shape[1] != self._d:
                fail(name, "batch", f"with d = {self._d} columns", f"shape {rows.shape}")
            library_rows.check_values(name, "batch", rows, self._threads)
            self.take(rows, lambda done: display.update(1.0, done))

    def take(self, rows: LibraryRows | Rows2D, tell: Callable[[float], None] | None = None) -> None:
        """Take in rows that somebody has checked: `update` reads the numbers once more.

        Parameters
        ----------
        rows : array of shape (n, d) or LibraryRows
            As `library_rows.as_rows` returns them, their numbers checked.
        tell : callable, optional
            Takes the fraction done after every step, as of `update`.

        Raises
        ------
        RuntimeError
            As `update`.
        """
        self._sums.take(rows, tell)

    def merge(self, other: Moments) -> None:
        """Take in the rows that other moments have seen.

        Parameters
        ----------
        other : Moments
            Of as many features; stays as it is.

        Raises
        ------
        TypeError
            If `other` is no Moments.
        ValueError
            If it has another number of features, or one of the two comes from a file that does not
            tell its number of rows.
        RuntimeError
            If the call comes from within the `progress` of an update of one of the two.

        Notes
        -----
        The result is that of one object that has seen all rows, within the same error; its bits
        depend on what was merged in which order.

        Examples
        --------
        >>> import numpy as np
        >>> from fastgen.moments import Moments
        >>> first, second = Moments(1), Moments(1)
        >>> first.update(np.array([[1.0], [2.0]]))
        >>> second.update(np.array([[6.0]]))
        >>> first.merge(second)
        >>> first.count, first.mean.item(), first.covariance.item()
        (3, 3.0, 7.0)
        """
        name = "Moments.merge"
        if not isinstance(other, Moments):
            fail(name, "other", "to be a Moments", type(other).__name__, error=TypeError)
        if other._d != self._d:
            fail(name, "other", f"with d = {self._d} features", str(other._d))
        self._require_count(name, "self", self)
        self._require_count(name, "other", other)
        self._sums.merge(other._sums)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the moments to a .npz file.

        Parameters
        ----------
        path : str or os.PathLike
            Of the file, taken as it is. One that exists is replaced once the new one is complete.

        Raises
        ------
        TypeError
            If `path` is no path.
        ValueError
            If there are fewer than two rows, or a variance is beyond float64.
        OSError
            If the file cannot be written.

        Notes
        -----
        Its arrays are `mu` and `sigma`, the mean and the covariance as pytorch-fid writes them;
        `count`, the number of rows; and what `update` needs to go on after `load`: `origin` and
        `shift`, whose sum is the mean. A covariance that goes on from there has two roundings more,
        2^-52 of itself. `pickle` keeps every bit instead.

        Examples
        --------
        >>> import numpy as np, tempfile
        >>> from fastgen.moments import Moments
        >>> moments = Moments(1)
        >>> moments.update(np.array([[1.0], [3.0]]))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     moments.save(f"{folder}/moments.npz")
        ...     Moments.load(f"{folder}/moments.npz").covariance.item()
        2.0
        """
        name = "Moments.save"
        target = moment_files.as_path(name, path)
        if self._given is None:
            content = self._sums.statistics(name)
        else:
            content = {"mu": self._given[0], "sigma": self._given[1]}
        moment_files.write(name, target, content)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        threads: int | None = None,
        device: object = None,
    ) -> Self:
        """Read moments from a .npz file.

        Parameters
        ----------
        path : str or os.PathLike
            Of a file that `save` wrote, or another one with `mu` of shape (d,) and `sigma` of shape
            (d, d), such as the reference statistics that pytorch-fid publishes. Those do not tell
            the number of rows: `count` is None then, and neither `update` nor `merge` is possible.
        threads, device : int, str, optional
            As of `Moments`.

        Returns
        -------
        Moments
            A new object.

        Raises
        ------
        FileNotFoundError, OSError
            If there is no such file, or it cannot be read.
        TypeError
            If `path` is no path, or the arrays do not hold numbers.
        ValueError
            If it is no .npz file, an array is missing, of the wrong shape, not finite or out of
            bounds, a variance is negative, or `sigma` is not symmetric to within 1e-6 of the
            standard deviations (the mean with the transpose is taken).

        Examples
        --------
        >>> import numpy as np, tempfile
        >>> from fastgen.moments import Moments
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/fid_stats.npz", mu=np.zeros(2), sigma=np.eye(2))
        ...     Moments.load(f"{folder}/fid_stats.npz")
        Moments(d=2, count=None)
        """
        name = "Moments.load"
        arrays = moment_files.read(name, moment_files.as_path(name, path))
        mean, covariance = arrays["mu"], arrays["sigma"]
        d = len(mean)
        moments = cls(d, threads=threads, device=device)
        if "count" not in arrays:
            moments._given = mean, covariance
            return moments
        count = int(arrays["count"])
        scatter = covariance * float(count - 1)
        state = {"folded": count, "scatter": scatter, "waiting": np.empty((0, d))}
        moments._sums.restore(state | {key: arrays[key] for key in ("origin", "shift")})
        return moments

    def __repr__(self) -> str:
        """Name the number of features and of rows."""
        return f"Moments(d={self._d}, count={self.count})"

    def __getstate__(self) -> dict[str, Any]:
        """Return everything, to the bit."""
        asked = {"d": self._d, "threads": self._asked, "given": self._given}
        return asked | self._sums.state()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Begin where another object was; on the CPU if this process does not see its device."""
        self._d = state["d"]
        self._begin(state["threads"], None, state["given"])
        self._sums.restore(state)

    def _begin(
        self,
        threads: int | None,
        device: Device | str | None,
        given: tuple[Floats, Floats] | None = None,
    ) -> None:
        self._asked = threads
        self._threads = thread_count("Moments", threads)
        self._sums = MomentSums(self._d, self._threads, device)
        self._given = given  # mean and covariance from a file without a count

    @staticmethod
    def _require_count(function: str, argument: str, moments: Moments) -> None:
        if moments._given is not None:
            got = "None: the file they come from does not tell how many rows they stand for"
            name = "count" if argument == "self" else f"{argument}.count"
            fail(function, name, "to be known", got)
