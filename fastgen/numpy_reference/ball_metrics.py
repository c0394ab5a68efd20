"""The metrics that count balls: precision, recall, density, coverage, and rows one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from fastgen.numpy_reference.arguments import Integers, as_neighbour_counts, as_rows
from fastgen.numpy_reference.balls import ball_counts, sq_realism
from fastgen.numpy_reference.neighbours import sq_knn_radii
from fastgen.numpy_reference.results import PRDC, Membership, PrecisionRecall


def precision_recall(
    *,
    real: npt.ArrayLike,
    fake: npt.ArrayLike,
    k: int | Sequence[int] = 3,
    ties: str = "closed",
) -> PrecisionRecall | list[PrecisionRecall]:
    """Return improved precision and recall.

    Parameters
    ----------
    real : array of shape (n, d)
        Features of the real set.
    fake : array of shape (m, d)
        Features of the generated set.
    k : int or sequence of int, default 3
        Neighbours that set a radius, 1 to min(n, m) - 1. A sequence gives a list.
    ties : {"closed", "open"}, default "closed"
        Whether a point at exactly the radius is inside.

    Returns
    -------
    PrecisionRecall or list of PrecisionRecall
        Fractions, and ``f_score = 2 P R / (P + R)``, 0 when both are 0.

    Raises
    ------
    ValueError
        If `k` or `ties` is out of range, the inputs are no matrices, or their widths differ.

    References
    ----------
    .. [1] Kynkaanniemi et al., "Improved precision and recall metric for assessing generative
       models", NeurIPS 2019.

    Examples
    --------
    >>> from fastgen import numpy_reference
    >>> numpy_reference.precision_recall(real=[[0.0], [1.0]], fake=[[1.5], [9.0]], k=1)
    PrecisionRecall(precision=0.5, recall=1.0, f_score=0.6666666666666666)
    """
    results = []
    for _, counts in _all_balls("precision_recall", real, fake, k, ties):
        precision = _fraction(counts["x_balls_of_y"] > 0)
        recall = _fraction(counts["y_balls_of_x"] > 0)
        total = precision + recall
        f_score = 2 * precision * recall / total if total > 0 else 0.0
        results.append(PrecisionRecall(precision, recall, f_score))
    return results if isinstance(k, Sequence) else results[0]


def prdc(
    *,
    real: npt.ArrayLike,
    fake: npt.ArrayLike,
    k: int | Sequence[int] = 5,
    ties: str = "closed",
) -> PRDC | list[PRDC]:
    """Return precision, recall, density and coverage.

    Parameters
    ----------
    real : array of shape (n, d)
        Features of the real set.
    fake : array of shape (m, d)
        Features of the generated set.
    k : int or sequence of int, default 5
        Neighbours that set a radius, 1 to min(n, m) - 1. A sequence gives a list.
    ties : {"closed", "open"}, default "closed"
        Whether a point at exactly the radius is inside.

    Returns
    -------
    PRDC or list of PRDC
        Precision: the fake rows in some real ball. Recall: the real rows in some fake ball.
        Density: pairs of a fake row and a real ball that holds it, over k m. Coverage: the real
        balls that hold a fake row.

    Raises
    ------
    ValueError
        If `k` or `ties` is out of range, the inputs are no matrices, or their widths differ.

    References
    ----------
    .. [1] Naeem et al., "Reliable fidelity and diversity metrics for generative models",
       ICML 2020.

    Examples
    --------
    >>> from fastgen import numpy_reference
    >>> numpy_reference.prdc(real=[[0.0], [1.0]], fake=[[1.5], [9.0]], k=1)
    PRDC(precision=0.5, recall=1.0, density=0.5, coverage=0.5)
    """
    results = []
    for count, counts in _all_balls("prdc", real, fake, k, ties):
        holding = counts["x_balls_of_y"]
        results.append(
            PRDC(
                precision=_fraction(holding > 0),
                recall=_fraction(counts["y_balls_of_x"] > 0),
                density=int(holding.sum()) / (count * len(holding)),
                coverage=_fraction(counts["y_in_x"] > 0),
            )
        )
    return results if isinstance(k, Sequence) else results[0]


def membership(
    *,
    real: npt.ArrayLike,
    fake: npt.ArrayLike,
    k: int | Sequence[int] = 5,
    ties: str = "closed",
) -> Membership | list[Membership]:
    """Return, for every row, whether it lies in the other set's balls, and fake rows' realism.

    Parameters
    ----------
    real : array of shape (n, d)
        Features of the real set.
    fake : array of shape (m, d)
        Features of the generated set.
    k : int or sequence of int, default 5
        Neighbours that set a radius, 1 to min(n, m) - 1. A sequence gives a list.
    ties : {"closed", "open"}, default "closed"
        Whether a point at exactly the radius is inside. Realism does not depend on it.

    Returns
    -------
    Membership or list of Membership
        `fake_in_real` (m,) and `real_in_fake` (n,) bool, `fake_counts` (m,) the real balls that
        hold each fake row, and `realism` (m,): ``max_i r_i / d_ij`` over the real rows whose
        squared radius is at most the median of the squared radii.

    Raises
    ------
    ValueError
        If `k` or `ties` is out of range, the inputs are no matrices, or their widths differ.

    References
    ----------
    .. [1] Kynkaanniemi et al., "Improved precision and recall metric for assessing generative
       models", NeurIPS 2019, eq. 3.

    Examples
    --------
    >>> from fastgen import numpy_reference
    >>> found = numpy_reference.membership(real=[[0.0], [1.0]], fake=[[1.5], [9.0]], k=1)
    >>> found.fake_in_real, found.realism
    (array([ True, False]), array([2.   , 0.125]))
    """
    results = []
    for count, counts in _all_balls("membership", real, fake, k, ties):
        radii = np.asarray(sq_knn_radii(real, count))
        kept = np.where(radii <= np.median(radii), radii, np.nan)
        results.append(
            Membership(
                fake_in_real=counts["x_balls_of_y"] > 0,
                real_in_fake=counts["y_balls_of_x"] > 0,
                fake_counts=counts["x_balls_of_y"],
                realism=np.sqrt(sq_realism(real, fake, kept)),
            )
        )
    return results if isinstance(k, Sequence) else results[0]


def _all_balls(
    function: str,
    real: npt.ArrayLike,
    fake: npt.ArrayLike,
    k: int | Sequence[int],
    ties: str,
) -> Iterator[tuple[int, dict[str, Integers]]]:
    """Yield, for each k, that k and what :func:`ball_counts` says of the two sets' own balls."""
    x, y = as_rows(function, "real", real), as_rows(function, "fake", fake)
    ks = as_neighbour_counts(function, k, min(len(x), len(y)) - 1)
    counts = ball_counts(x, y, list(sq_knn_radii(x, ks)), list(sq_knn_radii(y, ks)), ties)
    for place, count in enumerate(ks):
        yield count, {name: values[place] for name, values in counts.items()}


def _fraction(held: npt.NDArray[np.bool_]) -> float:
    return int(np.count_nonzero(held)) / len(held)
