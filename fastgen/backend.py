"""What the work runs on: the compiled modules, instruction set, threads and devices."""

from __future__ import annotations

import importlib
import os
from typing import Any

from fastgen._errors import BackendUnavailableError, fail
from fastgen.plan import as_int
from fastgen.results import Info

try:
    import fastgen._core as core
except ImportError as error:  # a source tree that was never built, or a broken build
    text = "fastgen: cannot load its compiled module; did you build it (pip install -e .)?"
    raise ImportError(f"{text} [{error}]", name="fastgen._core") from error

__all__ = [
    "core",
    "cuda",
    "gpus",
    "info",
    "instruction_set",
    "require_cpu",
    "thread_count",
    "version",
    "why_no_gpu",
]

# By name: the module that computes on GPUs, or why it cannot be loaded.
_cuda_modules: dict[str, Any] = {}
# By module: the process that asked for its GPUs, and what there are. Asking takes about a
# millisecond, and every call has to know.
_gpus_found: dict[Any, tuple[int, dict[int, str]]] = {}


def _load_cuda() -> Any:
    """Return the module, or the ImportError that tells why there is none."""
    name = os.environ.get("FASTGEN_CUDA_MODULE") or "fastgen._cuda"
    if name not in _cuda_modules:
        try:
            _cuda_modules[name] = importlib.import_module(name)
        except ImportError as error:
            _cuda_modules[name] = error
    return _cuda_modules[name]


def why_no_gpu() -> str:
    """Say why this machine computes on no GPU.

    Returns
    -------
    str
        What is missing; empty where nothing is.
    """
    module = _load_cuda()
    if isinstance(module, ModuleNotFoundError):
        return "this build has no GPU backend: it was made without nvcc 12.4 or newer"
    if isinstance(module, ImportError):
        return f"the GPU backend cannot be loaded ({module})"
    if _is_forked(module):
        reason = "CUDA was initialised before this process was forked; use the spawn start method"
    else:
        reason = module.why_no_device()
    return f"no GPU can be used here: {reason}" if reason else ""


def cuda() -> Any:
    """Return the compiled module that computes on GPUs, loaded on first use.

    Returns
    -------
    module
        As ``fastgen/_cuda.pyi`` has it. The environment variable ``FASTGEN_CUDA_MODULE`` names
        another one with the same contents.

    Raises
    ------
    BackendUnavailableError
        If there is none, or it was in use before this process was forked.
    """
    module = _load_cuda()
    if isinstance(module, ImportError):
        raise BackendUnavailableError(why_no_gpu()) from module
    if _is_forked(module):
        raise BackendUnavailableError(why_no_gpu())
    return module


def gpus() -> dict[int, str]:
    """List the GPUs that can be used.

    Returns
    -------
    dict of int to str
        Names by CUDA's index; empty without a driver, without the compiled module, or in a process
        that was forked from one that had looked for them.
    """
    module = _load_cuda()
    if isinstance(module, ImportError) or _is_forked(module):
        return {}
    if module not in _gpus_found:
        found = {int(device["index"]): str(device["name"]) for device in module.devices()}
        if not found:  # a driver may yet come
            return {}
        _gpus_found[module] = os.getpid(), found
    return _gpus_found[module][1]


def _is_forked(module: Any) -> bool:
    """Tell whether CUDA was initialised in another process, of which this one is a copy."""
    return module in _gpus_found and _gpus_found[module][0] != os.getpid()


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
    """Check the `device` argument of a function that computes on the CPU alone.

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
        hint = why_no_gpu() or "this function computes on the CPU"
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

    Looking for GPUs initialises CUDA: processes that are forked afterwards cannot use them, so
    leave that to their own calls, or start them by "spawn".

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
        gpus=tuple(f"cuda:{index} {name}" for index, name in gpus().items()),
    )
