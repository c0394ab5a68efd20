"""Several metrics at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy.typing as npt

from fastgen.numpy_reference.ball_metrics import prdc, precision_recall
from fastgen.numpy_reference.density import heldout_log_likelihood, select_bandwidth
from fastgen.numpy_reference.discrepancy import cmmd, kid, mmd
from fastgen.numpy_reference.frechet import fid
from fastgen.numpy_reference.inception import inception_score
from fastgen.numpy_reference.results import (
    KID,
    MMD,
    PRDC,
    Frechet,
    InceptionScore,
    LogLikelihood,
    PrecisionRecall,
)

Metric = Frechet | InceptionScore | PRDC | PrecisionRecall | KID | MMD | LogLikelihood

_OF_BALLS: dict[str, Callable[..., Any]] = {"prdc": prdc, "precision_recall": precision_recall}
_OF_SETS: dict[str, Callable[[Any, Any], Any]] = {
    "fid": lambda real, fake: fid(real=real, fake=fake),
    "kid": lambda real, fake: kid(real=real, fake=fake),
    "mmd": mmd,
    "cmmd": lambda real, fake: cmmd(real=real, fake=fake),
}
_DEFAULT = ("fid", "kid", "prdc")


def evaluate(
    *,
    real: npt.ArrayLike,
    fake: npt.ArrayLike,
    metrics: Sequence[str] | None = None,
    k: int | Sequence[int] = 5,
    ties: str = "closed",
    bandwidth: str | float = "cv",
    logits: npt.ArrayLike | None = None,
    probabilities: npt.ArrayLike | None = None,
) -> dict[str, Metric] | list[dict[str, Metric]]:
    """Return several metrics at once, by name.

    Parameters
    ----------
    real : array of shape (n, d)
        Features of the real set.
    fake : array of shape (m, d)
        Features of the generated set.
    metrics : sequence of str, optional
        Of "fid", "kid", "mmd", "cmmd", "prdc" and "precision_recall", each with its defaults;
        "kde", the log-likelihood of `real` under the density of `fake`; and "is", the Inception
        Score of `logits` or `probabilities`. Default: "fid", "kid" and "prdc".
    k : int or sequence of int, default 5
        Neighbours that set a radius, 1 to min(n, m) - 1, for the metrics that count balls.
    ties : {"closed", "open"}, default "closed"
        Whether a point at exactly the radius is inside.
    bandwidth : "cv", "scott", "silverman" or float, default "cv"
        Of that density; "cv" is what :func:`select_bandwidth` chooses for `fake`.
    logits, probabilities : array of shape (r, c), optional
        One of them, for "is" alone: a classifier's answers to generated images. At least 10 rows.

    Returns
    -------
    dict or list of dict
        The result of each metric under its name; a list of such dicts if `k` is a sequence.

    Raises
    ------
    ValueError
        If a metric is not known, there are answers without "is", or as the metrics themselves.

    Examples
    --------
    >>> from fastgen import numpy_reference
    >>> report = numpy_reference.evaluate(real=[[0.0], [1.0]], fake=[[1.5], [9.0]], k=1)
    >>> report["prdc"].coverage
    0.5
    """
    known = [*_OF_SETS, *_OF_BALLS, "kde", "is"]
    chosen = list(_DEFAULT if metrics is None else metrics)
    for metric in chosen:
        if metric not in known:
            raise ValueError(f"evaluate: expected `metrics` among {known}, got {metric!r}")
    if "is" not in chosen and not (logits is None and probabilities is None):
        raise ValueError(f'evaluate: expected answers only with "is" in `metrics`, got {chosen}')
    # These do not depend on k: computed once, they stand in every report.
    fixed: dict[str, Any] = {
        metric: _OF_SETS[metric](real, fake) for metric in chosen if metric in _OF_SETS
    }
    if "kde" in chosen:
        width = select_bandwidth(fake).bandwidth if bandwidth == "cv" else bandwidth
        fixed["kde"] = heldout_log_likelihood(real, fake, width)
    if "is" in chosen:
        fixed["is"] = inception_score(logits=logits, probabilities=probabilities)
    reports: list[dict[str, Metric]] = []
    for count in k if isinstance(k, Sequence) else [k]:
        report: dict[str, Metric] = {}
        for metric in chosen:
            if metric in fixed:
                report[metric] = fixed[metric]
            else:
                report[metric] = _OF_BALLS[metric](real=real, fake=fake, k=count, ties=ties)
        reports.append(report)
    return reports if isinstance(k, Sequence) else reports[0]
