"""Normal distributions fitted to sets, given as rows or as statistics of them."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastgen import files, library_rows, namespaces, plan
from fastgen._errors import fail
from fastgen.arrays import Rows2D
from fastgen.factors import CentredRows, Covariance, check_variances
from fastgen.library_devices import Device
from fastgen.library_rows import LibraryRows
from fastgen.moments import Moments
from fastgen.polar_factors import DeviceCentredRows, DeviceCovariance
from fastgen.session import Session

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

#: What a distribution is fitted to.
Source = Rows2D | LibraryRows | Moments

#: What there is of one for a distance that is computed on the CPU, or on a device.
OnHost = Covariance | CentredRows
OnDevice = DeviceCovariance | DeviceCentredRows

_BLOCK_BYTES = 16 << 20  # of rows that are gathered: a few milliseconds


class Places(NamedTuple):
    """Where the work is done; None stands for the CPU.

    Attributes
    ----------
    sums : Device or None
        Where moments are summed.
    distance : Device or None
        Where the distance is computed.
    """

    sums: Device | None = None
    distance: Device | None = None


@dataclass(frozen=True, eq=False)
class Fitted:
    """A normal distribution.

    Attributes
    ----------
    origin, shift : array of shape (d,), float64
        Their sum is the mean. Not added up: it may be far from 0, and near another one.
    covariance : OnHost or OnDevice
        With divisor n - 1; rows where there are no more of them than features.
    """

    origin: Floats
    shift: Floats
    covariance: OnHost | OnDevice

    def apart(self, other: Fitted) -> Floats:
        """Return the difference of the means."""
        difference: Floats = (self.origin - other.origin) + (self.shift - other.shift)
        return difference


def as_sources(
    function: str, real: object, fake: object, asked: Device | str | None = None
) -> tuple[tuple[Source, Source], Device | None]:
    """Validate two sets of the same features; the numbers of rows are not looked at yet.

    Parameters
    ----------
    function : str
        Named in messages.
    real, fake : array of shape (n, d) and (m, d), Moments or path
        A path of features, or of statistics as `Moments.load` reads them. On any device.
    asked : None, str or Device
        What `library_devices.asked_for` made of `device`.

    Returns
    -------
    sources : pair of ndarray, LibraryRows or Moments
        Of at least 2 rows.
    device : Device or None
        Where the distance is computed: on the device asked for, or else on that of the first set
        that is on one, as also for "cuda". None: on the CPU.

    Raises
    ------
    TypeError, ValueError, OSError, BackendUnavailableError
        If one of them is nothing of this, or the number of features differs.
    """
    sides = [_as_source(function, name, value) for name, value in (("real", real), ("fake", fake))]
    widths = [features(one) for one in sides]
    if widths[0] != widths[1]:
        got = f"{widths[1]} features"
        fail(function, "fake", f"with d = {widths[0]} features like `real`", got)
    places = (side.place if isinstance(side, Moments) else _device(side) for side in sides)
    found = next((place for place in places if place is not None), None)
    if asked is not None:
        found = asked.unless(found) if isinstance(asked, Device) else None
    return (sides[0], sides[1]), found


def features(source: Source) -> int:
    """Return the number of features."""
    return source.d if isinstance(source, Moments) else int(source.shape[1])


def count(source: Source) -> int | None:
    """Return the number of rows; None for statistics that do not tell it."""
    return source.count if isinstance(source, Moments) else len(source)


def fitted(session: Session, name: str, source: Source, places: Places) -> Fitted:
    """Fit a normal distribution.

    Parameters
    ----------
    session : Session
        Names the function; has the threads and the progress, where `work` was announced.
    name : str
        The argument, for messages.
    source : ndarray, LibraryRows or Moments
        From `as_sources`.
    places : Places
        Where the work is done.

    Returns
    -------
    Fitted
        To all rows.

    Raises
    ------
    ValueError
        If a number is not finite, or a variance leaves float64.
    """
    if isinstance(source, Moments):
        return of_moments(session.function, name, source, places)
    n, d = source.shape
    library_rows.check_values(session.function, name, source, session.threads)
    if n <= d:
        rows = _few(source, places)
        session.progress.update(work(source), 1.0)
        return Fitted(rows.origin, rows.shift, rows)
    moments = Moments.on(d, places.sums, session.threads)
    moments.take(source, lambda done: session.progress.update(work(source), done))
    return of_moments(session.function, name, moments, places)


def of_moments(function: str, name: str, moments: Moments, places: Places) -> Fitted:
    """Take the normal distribution from sums.

    Parameters
    ----------
    function, name : str
        Named in messages.
    moments : Moments
        Of at least 2 rows.
    places : Places
        Where the work is done.

    Returns
    -------
    Fitted
        Of these rows.

    Raises
    ------
    ValueError
        If a variance leaves float64.
    """
    origin_and_shift = moments.origin_and_shift
    if places.distance is None:
        covariance = moments.covariance
        check_variances(function, name, covariance.diagonal())
        return Fitted(*origin_and_shift, Covariance(function, name, covariance))
    matrix = moments.covariance_on(places.distance)
    variances = namespaces.to_host(places.distance.xp.linalg.diagonal(matrix))
    check_variances(function, name, variances)
    trace = math.fsum(variances.tolist())
    return Fitted(*origin_and_shift, DeviceCovariance(function, name, matrix, trace))


def nested(
    session: Session,
    name: str,
    rows: Rows2D | LibraryRows,
    order: Integers,
    sizes: list[int],
    places: Places,
) -> Iterator[Fitted]:
    """Fit normal distributions to the first so many rows of an order, in one pass over them.

    Parameters
    ----------
    session, name
        As for `fitted`.
    rows : array of shape (n, d)
        All rows, their numbers checked.
    order : array of shape (n,), int64
        A permutation.
    sizes : list of int
        Ascending, at least 2.
    places : Places
        Where the work is done.

    Yields
    ------
    Fitted
        For each size.
    """
    d = rows.shape[1]
    moments, taken = Moments.on(d, places.sums, session.threads), 0
    step = max(1, _BLOCK_BYTES // (d * rows.itemsize))
    for size in sizes:
        for start in range(taken, size, step):
            moments.take(_chosen(rows, order[start : min(start + step, size)]))
            session.progress.update(work(rows), size / len(rows))
        taken = size
        if size <= d:
            few = _few(_chosen(rows, order[:size]), places)
            yield Fitted(few.origin, few.shift, few)
        else:
            yield of_moments(session.function, name, moments, places)


def work(source: Source) -> float:
    """Return the work of fitting, in numbers read: what progress counts in."""
    return 0.0 if isinstance(source, Moments) else float(source.size)


def require_memory(session: Session, *sources: Source) -> None:
    """Raise ValueError if the budget does not hold the distributions.

    Parameters
    ----------
    session : Session
        Has the budget.
    *sources : ndarray or Moments
        All that are fitted.
    """
    few = [len(one) for one in sources if not isinstance(one, Moments)]
    needed = plan.frechet_bytes_needed(features(sources[0]), few)
    plan.require_memory(session.function, session.memory, needed)


def _as_source(function: str, name: str, value: object) -> Source:
    if isinstance(value, (str, os.PathLike)) and files.holds_statistics(value):
        value = Moments.load(value)
    if isinstance(value, Moments):
        if value.count is not None and value.count < 2:
            fail(function, name, "with at least 2 rows", str(value.count))
        return value
    rows = library_rows.as_rows(function, name, value)
    if len(rows) < 2:
        hint = "a single row has no covariance"
        fail(function, name, "with at least 2 rows", str(len(rows)), hint)
    return rows


def _device(rows: Rows2D | LibraryRows) -> Device | None:
    return rows.device if isinstance(rows, LibraryRows) else None


def _chosen(rows: Rows2D | LibraryRows, places: Integers) -> Rows2D | LibraryRows:
    return rows.picked(places) if isinstance(rows, LibraryRows) else rows[places]


def _few(rows: Rows2D | LibraryRows, places: Places) -> CentredRows | DeviceCentredRows:
    """Make rows the factor of their own covariance, where the distance is computed."""
    device = places.distance
    if device is None:
        return CentredRows(rows.on_host() if isinstance(rows, LibraryRows) else rows)
    if not isinstance(rows, LibraryRows):
        rows = LibraryRows(device.upload(rows), device)
    return DeviceCentredRows(rows, device)
