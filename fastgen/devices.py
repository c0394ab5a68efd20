"""The `device` argument: where the caller wants the work done."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from fastgen import backend
from fastgen._errors import BackendUnavailableError, fail

_CONDITION = 'to be "cpu", "cuda", "cuda:0", "cuda:all" or None'


@dataclass(frozen=True)
class Target:
    """Where a call is to be computed.

    Attributes
    ----------
    kind : {"arrays", "cpu", "gpu", "gpus"}
        Where the arrays are, on the CPU, on one GPU, or on all of them.
    index : int or None
        Of the one GPU; None: that of the arrays, or else the current one.
    """

    kind: Literal["arrays", "cpu", "gpu", "gpus"]
    index: int | None = None

    def __str__(self) -> str:
        """Name it as the argument does."""
        if self.kind == "gpu":
            return "cuda" if self.index is None else f"cuda:{self.index}"
        return {"arrays": "None", "cpu": "cpu", "gpus": "cuda:all"}[self.kind]


def as_target(function: str, device: object) -> Target:
    """Validate `device`.

    Parameters
    ----------
    function : str
        Named in messages.
    device : None, str or device object
        None: where the arrays are. "cpu", "cuda" (the arrays' own GPU, else the current one of
        torch, CuPy or CUDA), "cuda:1", "cuda:all"; or a device of torch, CuPy or JAX.

    Returns
    -------
    Target
        What it asks for.

    Raises
    ------
    ValueError
        If there is no such kind of device.
    BackendUnavailableError
        If a GPU is asked for that this installation cannot use.
    """
    if device is None:
        return Target("arrays")
    name = _name(device)
    if name == "cpu":
        return Target("cpu")
    match = re.fullmatch(r"cuda(?::(\d+|all))?", name)
    if match is None:
        if name.split(":")[0] in ("hip", "rocm"):
            hint, error = "this build has no backend for AMD GPUs", BackendUnavailableError
            fail(function, "device", _CONDITION, repr(device), hint, error=error)
        fail(function, "device", _CONDITION, repr(device))
    gpus = backend.gpus()
    if not gpus:
        hint, error = backend.why_no_gpu(), BackendUnavailableError
        fail(function, "device", '"cpu" or None', repr(device), hint, error=error)
    if match[1] == "all":
        return Target("gpus")
    if match[1] is None:
        return Target("gpu")
    index = int(match[1])
    if index not in gpus:
        known = " or ".join(f'"cuda:{one}"' for one in gpus)
        error = BackendUnavailableError
        fail(function, "device", f"to be {known}, as the GPUs here are", repr(device), error=error)
    return Target("gpu", index)


def _name(device: Any) -> str:
    """Return the argument as text; objects of other libraries by what they are called there."""
    if isinstance(device, str):
        return device.lower()
    library = type(device).__module__.partition(".")[0]
    if library == "cupy":
        return f"cuda:{device.id}"
    if hasattr(device, "platform") and hasattr(device, "id"):  # JAX
        kind = "cuda" if device.platform == "gpu" else str(device.platform)
        return (
            kind if kind == "cpu" else f"{kind}:{getattr(device, 'local_hardware_id', device.id)}"
        )
    return str(device).lower()  # torch.device
