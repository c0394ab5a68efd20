"""Inception Score: how sure a classifier is of each row, and how varied its answers are.

With class probabilities p_i of row i and their mean q, ::

    log IS = (1 / n) sum_i KL(p_i | q) = H(q) - (1 / n) sum_i H(p_i),   H(p) = - sum_c p_c log p_c

It lies between 1 and the number of classes. Entropies are in nats; the error of one, and of log IS,
is at most ``2^-52 (c + n) log c`` for c classes, and about 1e-15 in practice.

Splits are runs of consecutive rows, from row ``floor(s n / splits)`` on. `std` has divisor
`splits`, as in Salimans et al. and torch-fidelity; torchmetrics has ``splits - 1``, which is
``sqrt(splits / (splits - 1))`` times as much, and other bounds unless splits divides n.

Cost: two logarithms per entry; memory a few copies of the input.
"""

from __future__ import annotations

import math
import operator

import numpy as np
import numpy.typing as npt

from fastgen.numpy_reference.arguments import Floats, as_finite
from fastgen.numpy_reference.results import InceptionScore

_ROW_SUM = 1e-3  # how far from 1 a row may add up to: float16 rounds as much


def inception_score(
    *,
    logits: npt.ArrayLike | None = None,
    probabilities: npt.ArrayLike | None = None,
    splits: int = 10,
    seed: int | None = None,
) -> InceptionScore:
    """Return the Inception Score of a classifier's answers.

    Parameters
    ----------
    logits : array of shape (n, c)
        The answers before the softmax, which is taken in float64. Either these or `probabilities`.
    probabilities : array of shape (n, c)
        At least 0; each row adds up to 1 to within 1e-3, and is divided by its sum.
    splits : int, default 10
        Number of parts that have a score each, 1 to n.
    seed : int, optional
        Rows are put in the order ``default_rng(seed).permutation(n)`` before they are split.
        Default: the order in which they are given.

    Returns
    -------
    InceptionScore
        Mean and standard deviation (divisor `splits`) of the scores; mean entropy of the rows and
        entropy of their mean, over all rows. The score of one split is
        ``exp(diversity - sharpness)``.

    Raises
    ------
    ValueError
        If not one of `logits` and `probabilities` is given, or an argument is out of range.

    References
    ----------
    .. [1] Salimans et al., "Improved techniques for training GANs", NeurIPS 2016.
    .. [2] Barratt and Sharma, "A note on the Inception Score", arXiv 1801.01973, on its limits.

    Examples
    --------
    >>> from fastgen.numpy_reference.inception import inception_score
    >>> found = inception_score(probabilities=[[0.5, 0.5], [1.0, 0.0]], splits=1)
    >>> print(f"{found.mean:.12f} {found.sharpness:.12f} {found.diversity:.12f}")
    1.240806478803 0.346573590280 0.562335144619
    """
    if (logits is None) == (probabilities is None):
        got = "none" if logits is None else "both"
        raise ValueError(f"inception_score: expected `logits` or `probabilities`, got {got}")
    p, entropies = _from_logits(logits) if logits is not None else _from_rows(probabilities)
    n = len(p)
    parts = operator.index(splits)
    if not 1 <= parts <= n:
        raise ValueError(f"inception_score: expected `splits` in [1, {n}], got {parts}")
    order = np.arange(n)
    if seed is not None:
        order = np.random.default_rng(operator.index(seed)).permutation(n)

    scores = np.empty(parts)
    for s in range(parts):
        part = order[s * n // parts : (s + 1) * n // parts]
        scores[s] = math.exp(max(0.0, _marginal_entropy(p[part]) - _mean(entropies[part])))
    return InceptionScore(
        float(scores.mean()), float(scores.std()), _mean(entropies), _marginal_entropy(p)
    )


def _from_logits(logits: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Return the softmax of every row, and its entropy."""
    values = _as_finite_rows("logits", logits)
    z = values - values.max(axis=1, keepdims=True)
    terms = np.exp(z)
    sums = terms.sum(axis=1, keepdims=True)
    p = terms / sums
    return p, np.log(sums[:, 0]) - (p * z).sum(axis=1)


def _from_rows(probabilities: npt.ArrayLike | None) -> tuple[Floats, Floats]:
    values = _as_finite_rows("probabilities", probabilities)
    if values.min() < 0:
        raise ValueError(
            f"inception_score: expected `probabilities` of at least 0, got {values.min()}"
        )
    sums = values.sum(axis=1, keepdims=True)
    row = int(np.argmax(np.abs(sums - 1)))
    if abs(sums[row, 0] - 1) > _ROW_SUM:
        raise ValueError(
            "inception_score: expected `probabilities` with rows that add up to 1, "
            f"got {sums[row, 0]} in row {row}"
        )
    p = values / sums
    return p, _entropies(p)


def _marginal_entropy(p: Floats) -> float:
    return float(_entropies(p.mean(axis=0)))


def _entropies(p: Floats) -> Floats:
    """Return ``-sum p log p`` along the last axis, where ``0 log 0 = 0``."""
    logs = np.log(np.where(p > 0, p, 1.0))
    entropies: Floats = np.maximum(-(p * logs).sum(axis=-1), 0.0)
    return entropies


def _mean(values: Floats) -> float:
    return math.fsum(values.tolist()) / len(values)


def _as_finite_rows(argument: str, values: npt.ArrayLike | None) -> Floats:
    rows = np.asarray(values)
    if rows.ndim != 2 or 0 in rows.shape:
        raise ValueError(
            f"inception_score: expected `{argument}` of shape (n, c), n and c at least 1, "
            f"got {rows.shape}"
        )
    return as_finite("inception_score", argument, rows)
