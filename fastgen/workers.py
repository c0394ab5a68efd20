"""Threads around calls of other libraries that neither stop for Ctrl-C nor survive it.

scipy's own workers are daemon threads: an interrupt leaves them running on arrays that the caller
lets go of, and the process crashes. Threads here are waited for, or keep what they work on alive.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_WAIT_SECONDS = 0.2


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
