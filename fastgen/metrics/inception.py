"""Inception Score: how sure a classifier is of each row, and how varied its answers are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastgen import answers, backend, draws, library_devices
from fastgen._errors import fail
from fastgen.answers import Answers, Totals
from fastgen.plan import as_int
from fastgen.progress import ProgressLike
from fastgen.results import InceptionScore
from fastgen.session import Session

_MOST_ROWS = 2**31  # what the sums hold


def inception_score(
    *,
    logits: object = None,
    probabilities: object = None,
    splits: int = 10,
    seed: int | None = None,
    threads: int | None = None,
    device: object = None,
    progress: ProgressLike = False,
    memory: int | str | None = None,
) -> InceptionScore:
    """Compute the Inception Score of a classifier's answers.

    Parameters
    ----------
    logits : array of shape (n, c)
        The answers before the softmax, which is taken in float64: float16, float32, float64 or
        integers, in CPU memory or on a GPU, or the path of a file. Give either these or
        `probabilities`. For a class that is ruled out, a number such as -1e9 takes the place of
        minus infinity.
    probabilities : array of shape (n, c)
        At least 0, of types as `logits`. Each row adds up to 1 to within 1e-3, and is divided by
        its sum.
    splits : int, default 10
        Number of parts that have a score each, 1 to n.
    seed : int, optional
        Rows are put in the order ``default_rng(seed).permutation(n)`` before they are split.
        Default: the order in which they are given.
    threads : int, optional
        Number of threads. Default: ``FASTGEN_NUM_THREADS``, else the CPUs this process may use.
    device : str or device, optional
        Where to compute: "cpu"; "cuda" (the array's own GPU, else the current one) or "cuda:1", in
        torch or CuPy. Default: on the device of the array, in its library (torch, CuPy or JAX with
        float64).
    progress : bool or callable, default False
        True shows a bar (needs rich); a callable gets the fraction done.
    memory : int or str, optional
        Budget for memory beyond the inputs, in bytes or as "4GB". Default: no limit.

    Returns
    -------
    InceptionScore
        Mean and standard deviation of the scores of the splits; mean entropy of the rows
        (sharpness) and entropy of their mean (diversity), both in nats and over all rows.

    Raises
    ------
    TypeError
        If an argument has the wrong type or dtype.
    ValueError
        If not one of `logits` and `probabilities` is given, it is no matrix of finite numbers, rows
        are no probabilities, or another argument is out of bounds.
    MemoryError
        If there is not enough, on the device too.
    BackendUnavailableError
        If no library at hand computes on the device.

    Notes
    -----
    With class probabilities p_i of the rows of a split and their mean q, its score [1]_ is ::

        exp(mean_i KL(p_i | q)) = exp(H(q) - mean_i H(p_i)),   H(p) = -sum_c p_c log p_c

    It lies between 1 (all answers equal) and c (sure answers, all classes equally often). It says
    nothing about real data, and only means what its authors meant for the classes of ImageNet
    [2]_. It grows with the rows of a split: compare scores of equal n and `splits` only.

    Split s begins with row ``floor(s n / splits)``, and the standard deviation has divisor
    `splits`, as in [1]_ and torch-fidelity. That library first puts the rows in the order of
    ``numpy.random.RandomState(2020).permutation(n)``: index the input with it for the same
    splits. torchmetrics has divisor ``splits - 1``, which makes its deviation
    ``sqrt(splits / (splits - 1))`` times as large, an unseeded shuffle, and splits of
    ``ceil(n / splits)`` rows. The ADM evaluator takes runs of 5000 rows in the order given, which
    is ``splits=n // 5000`` where 5000 divides n.

    The sums over rows are exact on a grid of 2^-63, so the result has the same bits for any number
    of threads, and those of `InceptionScoreState`; sharpness and diversity do not depend on
    `splits` and `seed`. The error of an entropy and of the logarithm of a score is at most
    ``2^-46 (1 + log c)^2 + 2^-58 c`` for any n, and about 1e-15 in practice. Extra memory: 5 to
    25 MB for each thread, up to 40 bytes per row, and up to 64 MB for the splits.

    On a GPU the definition and the error are the same, and batches change no bit either. The last
    digits may differ from those of the CPU, and between GPUs, as exponentials and logarithms do. It
    takes some 0.8 GB there, whatever n is.

    References
    ----------
    .. [1] T. Salimans et al., "Improved techniques for training GANs", NeurIPS 2016.
    .. [2] S. Barratt and R. Sharma, "A note on the Inception Score", arXiv 1801.01973, 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgen.metrics.inception import inception_score
    >>> found = inception_score(probabilities=np.array([[0.5, 0.5], [1.0, 0.0]]), splits=1)
    >>> print(f"{found.mean:.12f} {found.sharpness:.12f} {found.diversity:.12f}")
    1.240806478803 0.346573590280 0.562335144619
    """
    name = "inception_score"
    asked = library_devices.asked_for(name, device)
    with Session(name, threads=threads, progress=progress, memory=memory) as session:
        given = answers.as_answers(name, logits, probabilities, asked)
        n, classes = given.rows.shape
        parts = as_int(name, "splits", splits)
        if not 1 <= parts <= n:
            fail(name, "splits", f"in [1, n] = [1, {n}]", str(parts))
        start = None if seed is None else draws.as_seed(name, seed)
        answers.require_memory(session, given, _together(parts, classes))
        session.progress.expect(n)
        return summarise(given, parts, start, session.threads, session.progress.update)


def summarise(
    given: Answers,
    splits: int,
    seed: int | None,
    threads: int,
    tell: Callable[[float, float], None],
) -> InceptionScore:
    """Reduce answers to the metric.

    Parameters
    ----------
    given : Answers
        Of all rows.
    splits : int
        At most as many as rows.
    seed : int or None
        See `inception_score`.
    threads : int
        Number of threads.
    tell : callable
        Takes the number of rows that were added, and 1.0, some times a second.

    Returns
    -------
    InceptionScore
        See `inception_score`.

    Raises
    ------
    ValueError
        If a number is not finite, or a row holds no probabilities.
    """
    n, classes = given.rows.shape
    labels = answers.splits_of(np.arange(n), n, splits)
    if seed is not None:
        labels[np.random.default_rng(seed).permutation(n)] = labels.copy()
    whole = Totals(0, 1, classes)
    scores: list[float] = []
    together = _together(splits, classes)
    for first in range(0, splits, together):
        totals = Totals(first, min(together, splits - first), classes)
        chosen = None
        if together < splits:
            chosen = np.flatnonzero((labels >= first) & (labels < first + together))
        answers.add_up(given, labels, chosen, totals, threads, tell)
        scores += totals.scores()
        whole.add(totals.joined())
        del totals  # before the next are made
    return whole.summary(scores)


def _together(splits: int, classes: int) -> int:
    """Return how many splits are summed at a time."""
    return min(splits, max(1, answers.TOTALS_BYTES // (16 * (classes + 1))))


class InceptionScoreState:
    """Inception Score of rows that come in batches, in one process or several.

    Parameters
    ----------
    classes : int
        Columns of every batch, at least 1.
    splits : int, default 1
        Number of parts that have a score each.
    rows : int, optional
        Number of rows that there will be in all, at least `splits`; needed to tell where a split
        ends. Default: any number, which one split can do with.
    start : int, default 0
        Place of this state's first row among all `rows`, for a state that sees a later share of
        them and is merged.

    Attributes
    ----------
    classes : int
        As given.
    count : int
        Rows so far, those of merged states included.

    Raises
    ------
    TypeError
        If an argument is no int.
    ValueError
        If one is out of bounds, or `rows` is missing where there is more than one split.

    Notes
    -----
    The rows of one state follow each other. However they are cut into batches and states, and
    whatever order states are merged in, `compute` has the bits of `inception_score` of all rows at
    once. Extra memory: 16 bytes per class and split. At most 2^31 - 1 rows.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgen.metrics.inception import InceptionScoreState
    >>> first = InceptionScoreState(2, splits=2, rows=4)
    >>> first.update(probabilities=np.array([[1.0, 0.0]]))
    >>> first.update(probabilities=np.array([[0.0, 1.0]]))
    >>> rest = InceptionScoreState(2, splits=2, rows=4, start=2)
    >>> rest.update(probabilities=np.array([[1.0, 0.0], [1.0, 0.0]]))
    >>> first.merge(rest)
    >>> first.count, first.compute().mean, first.compute().std
    (4, 1.5, 0.5)
    """

    def __init__(
        self, classes: int, *, splits: int = 1, rows: int | None = None, start: int = 0
    ) -> None:
        name = "InceptionScoreState"
        self._classes = as_int(name, "classes", classes)
        if self._classes < 1:
            fail(name, "classes", "of at least 1", str(self._classes))
        self._splits = as_int(name, "splits", splits)
        if self._splits < 1:
            fail(name, "splits", "of at least 1", str(self._splits))
        self._rows = None if rows is None else as_int(name, "rows", rows, "to be an int or None")
        if self._rows is None:
            if self._splits > 1:
                hint = "without it nobody knows where a split ends"
                fail(name, "rows", "to be an int for more than one split", "None", hint)
        elif not self._splits <= self._rows < _MOST_ROWS:
            fail(name, "rows", "of at least `splits` and below 2^31", str(self._rows))
        self._next = as_int(name, "start", start)
        most = _MOST_ROWS - 1 if self._rows is None else self._rows
        if not 0 <= self._next <= most:
            fail(name, "start", f"in [0, {most}]", str(self._next))
        self._totals = Totals(0, self._splits, self._classes)

    @property
    def classes(self) -> int:
        """Columns of every batch."""
        return self._classes

    @property
    def count(self) -> int:
        """Rows so far, those of merged states included."""
        return int(self._totals.counts.sum())

    def update(self, *, logits: object = None, probabilities: object = None) -> None:
        """Take in the next rows.

        Parameters
        ----------
        logits, probabilities : array of shape (n, classes)
            One of them, as for `inception_score`; batches may differ in which, and in where they
            are: each is summed on its device.

        Raises
        ------
        TypeError
            If it has the wrong type or dtype.
        ValueError
            If it is no such matrix, or has rows beyond `rows`. The state is as before.
        BackendUnavailableError
            If it is on a device that neither its library nor torch or CuPy computes on.
        """
        name = "InceptionScoreState.update"
        given = answers.as_answers(name, logits, probabilities)
        n, classes = given.rows.shape
        if classes != self._classes:
            fail(name, given.argument, f"with {self._classes} columns", f"shape {(n, classes)}")
        most = _MOST_ROWS - 1 - self.count
        if self._rows is not None:
            most = min(most, self._rows - self._next)
        if n > most:
            fail(name, given.argument, f"with at most {most} more rows", f"shape {(n, classes)}")
        labels = np.zeros(n, dtype=np.int64)
        if self._rows is not None:
            places = np.arange(self._next, self._next + n)
            labels = answers.splits_of(places, self._rows, self._splits)
        first = int(labels[0])
        totals = Totals(first, int(labels[-1]) + 1 - first, classes)
        answers.add_up(given, labels, None, totals, backend.thread_count(name, None))
        self._totals.add(totals)
        self._next += n

    def merge(self, other: InceptionScoreState) -> None:
        """Take in the rows that another state has seen.

        Parameters
        ----------
        other : InceptionScoreState
            Of the same `classes`, `splits` and `rows`, for other rows; stays as it is.

        Raises
        ------
        TypeError
            If it is no such state.
        ValueError
            If it was made for something else, or there would be more than `rows` rows. The state is
            as before.
        """
        name = "InceptionScoreState.merge"
        given: object = other
        if not isinstance(given, InceptionScoreState):
            got = type(given).__name__
            fail(name, "other", "to be an InceptionScoreState", got, error=TypeError)
        if other is self:
            fail(name, "other", "to be another state", "the same one")
        for what in ("classes", "splits", "rows"):
            own, their = getattr(self, f"_{what}"), getattr(other, f"_{what}")
            if own != their:
                fail(name, "other", f"with {what} {own}", str(their))
        most = _MOST_ROWS - 1 if self._rows is None else self._rows
        if self.count + other.count > most:
            got = f"{other.count} after {self.count}"
            fail(name, "other", f"with rows up to {most} in all", got)
        self._totals.add(other._totals)

    def compute(self) -> InceptionScore:
        """Return the score of all rows so far.

        Returns
        -------
        InceptionScore
            As `inception_score` of them all, without a seed.

        Raises
        ------
        ValueError
            If there are no rows or, where `rows` was given, not as many in every split.
        """
        name, count = "InceptionScoreState.compute", self.count
        if self._rows is None and count == 0:
            fail(name, "count", "of at least 1", "0")
        if self._rows is not None:
            if count != self._rows:
                fail(name, "count", f"to be `rows` = {self._rows}", str(count))
            edges = [s * self._rows // self._splits for s in range(self._splits + 1)]
            wrong = np.flatnonzero(np.diff(edges) != self._totals.counts)
            if wrong.size:
                s = int(wrong[0])
                hint = "states that are merged need the right `start`"
                condition = f"of {edges[s + 1] - edges[s]} in split {s}"
                fail(name, "count", condition, str(self._totals.counts[s]), hint)
        return self._totals.joined().summary(self._totals.scores())
