"""Driving engines, and threads that Ctrl-C does not leave behind.

scipy's own workers are daemon threads: an interrupt leaves them running on arrays that the caller
lets go of, and the process crashes. Threads here are waited for, or keep what they work on alive.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")
Tell = Callable[[float], None]

_WAIT_SECONDS = 0.2
_ADVANCE_SECONDS = 0.2  # Ctrl-C and progress are served in between


class Engine(Protocol):
    """A compiled piece of work."""

    def advance(self, seconds: float) -> float:
        """Work for about that long and return the fraction done."""


class StoppedError(Exception):
    """A thread was told to stop, since another one failed or the caller was interrupted."""


def drive(engine: Engine, tell: Tell | None = None) -> None:
    """Run an engine to its end.

    Parameters
    ----------
    engine : Engine
        Begun.
    tell : callable, optional
        Takes the fraction done after every step.
    """
    while (done := engine.advance(_ADVANCE_SECONDS)) < 1.0:
        if tell is not None:
            tell(done)
    if tell is not None:
        tell(1.0)


class Pending(Generic[T]):
    """A call that runs in a thread of its own.

    Parameters
    ----------
    call : callable
        Takes a function that it calls often: that raises `StoppedError` once nobody waits for the
        result any more.
    """

    def __init__(self, call: Callable[[Callable[[], None]], T]) -> None:
        self._results: list[T] = []
        self._errors: list[BaseException] = []
        self._stopped = threading.Event()

        def check() -> None:
            if self._stopped.is_set():
                raise StoppedError

        def task() -> None:
            try:
                self._results.append(call(check))
            except BaseException as error:  # raised again by `result`
                self._errors.append(error)

        self._thread = threading.Thread(target=task)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether the call has not returned."""
        return self._thread.is_alive()

    def wait(self, seconds: float = _WAIT_SECONDS) -> None:
        """Wait for that long at most."""
        self._thread.join(seconds)

    def result(self) -> T:
        """Wait for what the call returns, or raise what it raised."""
        while self.running:
            self.wait()
        if self._errors:
            raise self._errors[0]
        return self._results[0]

    def stop(self) -> None:
        """Make the call end soon, and wait for that."""
        self._stopped.set()
        self._thread.join()


def side_by_side(calls: Sequence[Callable[[Tell], T]], tell: Tell) -> list[T]:
    """Run calls at the same time, each in a thread of its own; a single one in this thread.

    Parameters
    ----------
    calls : sequence of callable
        Each takes a function that it tells its fraction done, several times a second.
    tell : callable
        Takes the mean of the fractions, in this thread; what it raises ends the calls.

    Returns
    -------
    list
        What the calls returned, in their order.

    Raises
    ------
    Exception
        What the first of the calls raised.
    """
    if len(calls) == 1:
        return [calls[0](tell)]
    fractions = [0.0] * len(calls)

    def started(place: int) -> Pending[T]:
        def call(check: Callable[[], None]) -> T:
            def listen(done: float) -> None:
                check()
                fractions[place] = done

            return calls[place](listen)

        return Pending(call)

    threads: list[Pending[T]] = []
    try:
        threads += [started(place) for place in range(len(calls))]
        while running := [thread for thread in threads if thread.running]:
            running[0].wait()
            for thread in threads:
                if not thread.running:
                    thread.result()  # raises what went wrong at once, and the others stop
            tell(sum(fractions) / len(fractions))
        return [thread.result() for thread in threads]
    finally:
        for thread in threads:
            thread.stop()


def by_parts(call: Callable[[slice], T], count: int, threads: int) -> list[T]:
    """Run a call on contiguous parts of `count` rows, one thread each.

    An interrupt takes effect when all parts are done, so they should take a fifth of a second.

    Parameters
    ----------
    call : callable
        Takes the slice of rows of its part.
    count : int
        Number of rows.
    threads : int
        Number of parts at most.

    Returns
    -------
    list
        What the calls returned, in the order of the rows.
    """
    parts = min(threads, count)
    if parts <= 1:
        return [call(slice(0, count))]
    from concurrent.futures import ThreadPoolExecutor  # not needed by most programs

    edges = [count * part // parts for part in range(parts + 1)]
    with ThreadPoolExecutor(max_workers=parts) as pool:
        return list(pool.map(call, map(slice, edges[:-1], edges[1:])))


def interruptible(build: Callable[[], T]) -> T:
    """Run a long call in a thread of its own, so that waiting for it can be interrupted.

    After an interrupt the thread runs on to its end, and the interpreter waits for it when it
    exits; nobody looks at the result.

    Parameters
    ----------
    build : callable
        Takes nothing.

    Returns
    -------
    object
        What it returned.
    """
    result: list[T] = []
    errors: list[BaseException] = []

    def task() -> None:
        try:
            result.append(build())
        except BaseException as error:  # raised again below
            errors.append(error)

    thread = threading.Thread(target=task)
    thread.start()
    while thread.is_alive():
        thread.join(_WAIT_SECONDS)
    if errors:
        raise errors[0]
    return result[0]
