"""What the work runs on: the compiled module, its instruction set, threads and devices."""

from __future__ import annotations

import os

from fastgen._errors import BackendUnavailableError, fail
from fastgen.plan import as_int
from fastgen.results import Info

try:
    import fastgen._core as core
except ImportError as error:  # a source tree that was never built, or a broken build
    text = "fastgen: cannot load its compiled module; did you build it (pip install -e .)?"
    raise ImportError(f"{text} [{error}]", name="fastgen._core") from error

__all__ = ["core", "info", "instruction_set", "require_cpu", "thread_count", "version"]


def instruction_set(function: str, isa: str | None = None) -> str:
    """Name the instruction set to use.

    Parameters
    ----------
    function : str
        Named in the message.
    isa : str, optional
        One of `info().instruction_sets`; None takes ``FASTGEN_ISA``, and without that the best.

    Returns
    -------
    str
        Its name.

    Raises
    ------
    ValueError
        If it is unknown, not compiled in, or not usable on this CPU.
    """
    argument = "isa" if isa is not None else "FASTGEN_ISA"
    wanted = isa if isa is not None else os.environ.get("FASTGEN_ISA", "")
    available = core.instruction_sets()
    if not wanted:
        return available[0]
    if wanted not in available:
        fail(function, argument, f"to be one of {', '.join(available)}", repr(wanted))
    return wanted


def thread_count(function: str, threads: int | None = None) -> int:
    """Resolve the number of threads.

    Parameters
    ----------
    function : str
        Named in the message.
    threads : int, optional
        At least 1; None takes ``FASTGEN_NUM_THREADS``, and without that the number of CPUs this
        process may run on.

    Returns
    -------
    int
        Number of threads.

    Raises
    ------
    TypeError
        If `threads` is not an int.
    ValueError
        If it is below 1, or the variable does not hold such a number.
    """
    if threads is not None:
        count = as_int(function, "threads", threads)
        if count < 1:
            fail(function, "threads", "of at least 1", str(count))
        return count
    variable = os.environ.get("FASTGEN_NUM_THREADS", "").strip()
    if variable:
        if not variable.isascii() or not variable.isdigit() or int(variable) < 1:
            fail(function, "FASTGEN_NUM_THREADS", "to be a positive integer", repr(variable))
        return int(variable)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def require_cpu(function: str, device: object) -> None:
    """Check the `device` argument: this build computes on the CPU.

    Parameters
    ----------
    function : str
        Named in the message.
    device : None, str or device object
        None or "cpu".

    Raises
    ------
    BackendUnavailableError
        If a GPU is asked for.
    ValueError
        If no such kind of device exists.
    """
    if device is None:
        return
    kind = str(device).split(":")[0].lower()
    if kind == "cpu":
        return
    if kind in ("cuda", "gpu", "hip", "rocm"):
        hint = "this build has no GPU backend"
        fail(function, "device", '"cpu" or None', repr(device), hint, error=BackendUnavailableError)
    fail(function, "device", '"cpu" or None', repr(device))


def version() -> str:
    """Return the version of the installed package.

    Returns
    -------
    str
        As its metadata have it.
    """
    import importlib.metadata  # costs more than the rest of `import fastgen`

    return importlib.metadata.version("fastgen")


def info() -> Info:
    """Tell what this installation can use on this machine.

    Returns
    -------
    Info
        Version, instruction sets, threads and GPUs.

    Raises
    ------
    ValueError
        If ``FASTGEN_ISA`` or ``FASTGEN_NUM_THREADS`` hold nothing usable.

    Examples
    --------
    >>> import fastgen
    >>> "portable" in fastgen.info().instruction_sets
    True
    """
    return Info(
        version=version(),
        instruction_sets=tuple(core.instruction_sets()),
        instruction_set=instruction_set("info"),
        threads=thread_count("info"),
        gpus=(),
    )
