"""The metrics that `evaluate` knows by name, and the passes that they share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastgen import pairwise
from fastgen._errors import fail
from fastgen.balls import Neighbourhood
from fastgen.estimators import KernelSums
from fastgen.kernels import Kernel
from fastgen.metrics import cmmd, kid, mmd, prdc, precision_recall
from fastgen.results import Result

#: Metrics of balls, which reduce the same counts.
OF_BALLS: dict[str, Callable[[Neighbourhood], Result]] = {
    "prdc": prdc.summarise,
    "precision_recall": precision_recall.summarise,
}

#: Metrics of sums, each as its own function computes it by default.
OF_SUMS: dict[str, Callable[[KernelSums], Result]] = {
    "kid": kid.summarise,
    "mmd": mmd.summarise,
    "cmmd": cmmd.summarise,
}

#: The kernel of each, and whether its rows are normalised. What agrees in both shares a pass.
PASSES: dict[str, tuple[Kernel, bool]] = {
    "kid": (pairwise.DEFAULT_KERNEL, False),
    "mmd": (pairwise.DEFAULT_KERNEL, False),
    "cmmd": (cmmd.KERNEL, True),
}

#: The metric of densities.
KDE = "kde"

#: The two that look at no pairs: of normal distributions, and of a classifier's answers.
FID, IS = "fid", "is"

#: What `evaluate` knows, and what it computes unless told otherwise.
METRICS = (FID, *OF_SUMS, *OF_BALLS, KDE, IS)
DEFAULT = (FID, "kid", "prdc")


def as_names(metrics: object) -> list[str]:
    """Check which metrics are asked for.

    Parameters
    ----------
    metrics : sequence of str, or None
        As `evaluate` gets it.

    Returns
    -------
    list of str
        Each once, or `DEFAULT`.

    Raises
    ------
    TypeError
        If it is no sequence.
    ValueError
        If it is empty, or names what is not in `METRICS`.
    """
    if metrics is None:
        return list(DEFAULT)
    condition = f"to be a sequence of {', '.join(METRICS)}"
    if isinstance(metrics, str) or not isinstance(metrics, Sequence):
        got = f"{type(metrics).__name__} {metrics!r}"
        fail("evaluate", "metrics", condition, got, error=TypeError)
    if not metrics:
        fail("evaluate", "metrics", condition, "an empty sequence")
    for name in metrics:
        if not isinstance(name, str) or name not in METRICS:
            fail("evaluate", "metrics", condition, repr(name))
    return list(dict.fromkeys(metrics))
