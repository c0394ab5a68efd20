"""Telling the caller how far a long call is: a bar, a callback, or nothing."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from fastgen._errors import BackendUnavailableError, fail

ProgressLike = bool | Callable[[float], object]

#: A bar that flashes up and is gone helps nobody.
BAR_AFTER_SECONDS = 1.0


class Progress:
    """Fraction of a call's work done, over any number of steps.

    Parameters
    ----------
    function : str
        The public function: title of the bar and name in messages.
    progress : bool or callable
        False: nothing. True: a bar on standard error once a second has passed (needs rich). A
        callable gets the fraction, from 0 to 1 and never falling; an exception it raises ends the
        call.

    Raises
    ------
    TypeError
        If `progress` is none of these.
    BackendUnavailableError
        If a bar is asked for and rich is not installed.
    """

    def __init__(self, function: str, progress: ProgressLike = False) -> None:
        given: object = progress
        if not isinstance(given, bool) and not callable(given):
            got = f"{type(given).__name__} {given!r}"
            fail(function, "progress", "to be a bool or a callable", got, error=TypeError)
        if progress is True and importlib.util.find_spec("rich") is None:
            hint = "the bar needs rich: pip install 'fastgen[cli]'"
            error = BackendUnavailableError
            fail(function, "progress", "to be False or a callable", "True", hint, error=error)
        self._function = function
        self._tell = progress if callable(progress) else None
        self._wanted = progress is True
        self._bar: Any = None
        self._task: Any = None
        self._start = time.monotonic()
        self._total = 0.0
        self._done = 0.0
        self._shown = 0.0

    def expect(self, work: float) -> None:
        """Announce work that later steps will do, in any unit.

        Parameters
        ----------
        work : float
            Added to what was announced before.
        """
        self._total += work

    def update(self, work: float, fraction: float) -> None:
        """Tell how far the running step is.

        Parameters
        ----------
        work : float
            The step's whole work.
        fraction : float
            Share of it that is done; at 1 the step is over.
        """
        now = (self._done + work * fraction) / max(self._total, self._done + work, 1.0)
        if fraction >= 1.0:
            self._done += work
        self._show(min(now, 1.0))

    def _show(self, fraction: float) -> None:
        self._shown = max(self._shown, fraction)
        if self._tell is not None:
            self._tell(self._shown)
        elif self._wanted and time.monotonic() - self._start > BAR_AFTER_SECONDS:
            if self._bar is None:
                self._open_bar()
            self._bar.update(self._task, completed=self._shown, refresh=True)

    def _open_bar(self) -> None:
        import rich.console
        import rich.progress

        # No refresh thread: a fork by the caller must not meet a lock that it holds.
        console = rich.console.Console(stderr=True)
        self._bar = rich.progress.Progress(console=console, transient=True, auto_refresh=False)
        self._task = self._bar.add_task(self._function, total=1.0)
        self._bar.start()

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Report the end of a call that succeeded, and take the bar away in any case."""
        try:
            if kind is None and self._tell is not None and self._shown < 1.0:
                self._show(1.0)
        finally:
            if self._bar is not None:
                self._bar.stop()
                self._bar = None
