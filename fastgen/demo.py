"""A demonstration on real data: what each metric says about a generator.

The 1,797 handwritten digits that scikit-learn ships (8 x 8 pixels, values 0 to 16) are split at
random into a reference half and a held-out half. The held-out half is what a perfect generator
would produce; the others are fitted to the reference half alone and fail in known ways:

* one Gaussian over the leading principal components: its samples fall between the digits (low
  precision) and miss many of them (low recall);
* a Gaussian mixture over the same components: nearly as good as held-out data;
* that mixture with its latent spread multiplied by psi (the truncation trick): as psi falls the
  samples gather around the component means, so recall falls while precision does not;
* a collapsed generator that only ever repeats a few images: precision says nothing is wrong,
  coverage says that nearly everything is missing.

FID compares means and covariances and nothing else. Truncation and collapse take spread away, so it
finds them, the collapse by far the worst. But the Gaussian, made to have the right ones, comes out
ahead of the mixture at psi = 0.7, though every second of its images is no digit. The held-out half
is not at 0: FID falls with the number of rows, and is to be compared at equal sizes only.

The Inception Score never sees the reference. It is the exponential of how much a classifier learns
from an image, here a logistic regression fitted to the reference half: from 1 to 10, high where
each answer is sure and all digits are equally frequent. Blurred digits lower it; a collapse to four
images leaves 4 at most. Truncation raises it: the samples that are left are the clear ones, and
what was lost within each digit does not show.

The kernel distances (KID, MMD, CMMD) put one number on the difference, about 0 for the held-out
half, and the p-value says how likely so large an MMD would be if there were none.

The log-likelihood says how probable the held-out digits are under a kernel density of each
generator's images, whose bandwidth comes from cross-validation among them. Repeated images, as of a
collapse, drive it to the smallest candidate, under which everything else is all but impossible. In
64 dimensions one image decides nearly every value (the library warns of that, and is silenced
here): only large differences mean something.

Every image is rounded and clipped to whole grey levels, as the real ones are.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastgen._errors import BackendUnavailableError, DensityWarning
from fastgen.kernels import Gaussian
from fastgen.metrics.cmmd import cmmd
from fastgen.metrics.cross_validation import select_bandwidth
from fastgen.metrics.frechet import fid
from fastgen.metrics.inception import inception_score
from fastgen.metrics.kid import kid
from fastgen.metrics.likelihood import heldout_log_likelihood
from fastgen.metrics.mmd import mmd
from fastgen.metrics.prdc import prdc
from fastgen.report import Table
from fastgen.results import Result

GREY_LEVELS = 16
# 30 of the 64 principal components hold 96 % of the variance of the digits.
LATENT_DIMENSIONS = 30
# One per digit: few enough that 898 images determine ten full 30 x 30 covariances once a tenth of
# a squared grey level is added to their diagonals.
MIXTURE_COMPONENTS = 10
COVARIANCE_FLOOR = 0.1
TRUNCATIONS = (1.0, 0.7, 0.4)
COLLAPSED_IMAGES = 4
# The median distance between two digits. A number, so that every row of the table has the same
# kernel; "median" would look at the generated images too.
BANDWIDTH = 49.0
PERMUTATIONS = 199

# Inverse strength of the classifier's regularisation. At 10 it names 97 % of the held-out digits,
# as at scikit-learn's 1, and is surer: an Inception Score of 8.2 in the place of 6.4.
REGULARISATION = 10.0
FIT_STEPS = 1000  # it takes about 100

Images = NDArray[np.float64]
Probabilities = NDArray[np.float64]


@dataclass(frozen=True)
class DemoRow(Result):
    """How one set of images compares with the reference half.

    Attributes
    ----------
    name : str
        What made the images.
    samples : int
        Number of images.
    precision, recall, density, coverage : float
        The result of `fastgen.prdc` with the reference half as `real`.
    f_score : float
        Harmonic mean of precision and recall; 0.0 when both are 0.
    fid : float
        Value of `fastgen.fid`, on grey levels from 0 to 16.
    inception_score : float
        Mean of `fastgen.inception_score`, of the answers to the images of a logistic
        regression of the pixels over 16, fitted to the reference half.
    kid : float
        Mean of `fastgen.kid` over the full samples, on grey levels from 0 to 16.
    mmd, p_value : float
        The unbiased MMD^2 of `fastgen.mmd` with a Gaussian kernel, and its p-value.
    cmmd : float
        Value of `fastgen.cmmd`, of pixels in the place of embeddings.
    log_likelihood : float
        Mean of `fastgen.heldout_log_likelihood`, in nats, of the held-out half under the images,
        with the bandwidth of `fastgen.select_bandwidth`. Under the held-out half itself each image
        is left out in its turn.
    seconds : float
        Wall time of these calls; making the images is not counted.
    """

    name: str
    samples: int
    precision: float
    recall: float
    density: float
    coverage: float
    f_score: float
    fid: float
    inception_score: float
    kid: float
    mmd: float
    p_value: float
    cmmd: float
    log_likelihood: float
    seconds: float


def digit_halves(seed: int = 0) -> tuple[Images, Images]:
    """Split the digits that scikit-learn ships into two random halves.

    Parameters
    ----------
    seed : int, default 0
        Seed of the split.

    Returns
    -------
    reference : float64 array of shape (898, 64)
        The half that the generators may see.
    held_out : float64 array of shape (899, 64)
        The half that they may not see.

    Raises
    ------
    BackendUnavailableError
        If scikit-learn is not installed.
    """
    digits, _, order = _digits(seed)
    half = len(digits) // 2
    return digits[order[:half]], digits[order[half:]]


def generated_sets(reference: Images, count: int, seed: int = 0) -> dict[str, Images]:
    """Fit every generator to `reference` and draw images from each.

    Parameters
    ----------
    reference : float64 array of shape (n, 64)
        The images to fit.
    count : int
        How many images to draw from each generator.
    seed : int, default 0
        Seed of the fits and of the draws.

    Returns
    -------
    dict of str to float64 array of shape (count, 64)
        Images by the name of their generator, in the order of the table.

    Raises
    ------
    BackendUnavailableError
        If scikit-learn is not installed.

    Notes
    -----
    With component means ``mu_c``, Cholesky factors ``L_c`` of the covariances and standard normal
    ``e``, the mixture draws the latent vector ``mu_c + psi L_c e``; psi = 1 is the fitted mixture.
    The three truncated sets share their components and their ``e``, so that only psi differs
    between them; the plain mixture is an independent draw, and what lies between it and psi = 1.0
    is sampling noise.
    """
    try:
        from sklearn.mixture import GaussianMixture
    except ImportError:
        raise _no_scikit_learn() from None

    rng = np.random.default_rng(seed)
    centre = reference.mean(axis=0)
    _, _, directions = np.linalg.svd(reference - centre, full_matrices=False)
    basis = directions[:LATENT_DIMENSIONS]
    latent = (reference - centre) @ basis.T

    def render(z: Images) -> Images:
        images: Images = np.clip(np.rint(centre + z @ basis), 0.0, GREY_LEVELS)
        return images

    mixture = GaussianMixture(
        MIXTURE_COMPONENTS, reg_covar=COVARIANCE_FLOOR, random_state=seed
    ).fit(latent)
    factors = np.linalg.cholesky(mixture.covariances_)

    def draw() -> tuple[Images, Images]:
        component = rng.choice(MIXTURE_COMPONENTS, size=count, p=mixture.weights_)
        noise = rng.standard_normal((count, LATENT_DIMENSIONS))
        spread = np.einsum("nij,nj->ni", factors[component], noise)
        return mixture.means_[component], spread

    gaussian = rng.standard_normal((count, LATENT_DIMENSIONS)) * latent.std(axis=0)
    mean, spread = draw()
    plain = render(mean + spread)
    sets = {"PCA-Gaussian": render(gaussian), "Gaussian mixture": plain}

    mean, spread = draw()
    for psi in TRUNCATIONS:
        sets[f"mixture, psi = {psi}"] = render(mean + psi * spread)

    repeats = rng.integers(COLLAPSED_IMAGES, size=count)
    sets[f"collapsed to {COLLAPSED_IMAGES} images"] = plain[:COLLAPSED_IMAGES][repeats]
    return sets


def demo_rows(*, k: int = 5, seed: int = 0, threads: int | None = None) -> list[DemoRow]:
    """Score the held-out half and every generator against the reference half.

    Parameters
    ----------
    k : int, default 5
        Which nearest neighbour sets the radius of a ball.
    seed : int, default 0
        Seed of the split, the fits and the draws.
    threads : int or None, default None
        Threads to score with; None means every CPU this process may run on.

    Returns
    -------
    list of DemoRow
        The held-out half first, then the generators.

    Raises
    ------
    BackendUnavailableError
        If scikit-learn is not installed.
    """
    reference, held_out = digit_halves(seed)
    sets = {"held-out half": held_out, **generated_sets(reference, len(held_out), seed)}
    classify = _classifier(seed)
    return [
        _score(name, reference, held_out, fake, classify(fake), k, threads)
        for name, fake in sets.items()
    ]


def demo_table(rows: Sequence[DemoRow], *, k: int = 5) -> Table:
    """Lay out what ``fastgen demo`` prints.

    Parameters
    ----------
    rows : sequence of DemoRow
        The result of `demo_rows`.
    k : int, default 5
        The k that they were computed with.

    Returns
    -------
    Table
        One row per set of images.
    """
    columns = {
        "images": "name",
        "precision": "precision",
        "recall": "recall",
        "F": "f_score",
        "density": "density",
        "coverage": "coverage",
        "FID": "fid",
        "IS": "inception_score",
        "KID": "kid",
        "MMD": "mmd",
        "p": "p_value",
        "CMMD": "cmmd",
        "log p": "log_likelihood",
    }
    digits = {"FID": 1, "IS": 2, "KID": 0, "MMD": 4, "log p": 0}
    return Table(
        title=f"Handwritten digits compared with a reference half of 898, k = {k}",
        columns=list(columns),
        rows=[
            [
                row.name if field == "name" else f"{getattr(row, field):.{digits.get(heading, 3)}f}"
                for heading, field in columns.items()
            ]
            for row in rows
        ],
        notes=[
            "precision: images near a reference image; recall: reference images near one of these;",
            "coverage: reference images with one of these among what surrounds them. The held-out",
            "half is what a perfect generator would make. Truncation (psi) buys precision with",
            "recall. A collapsed generator can reach full precision: recall and coverage tell.",
            "F is the harmonic mean of precision and recall. FID compares means and covariances of",
            "grey levels, and falls with the number of images. IS, from 1 to 10: how sure and how",
            "varied a classifier's answers are. It never sees the reference: truncation raises it.",
            "KID, MMD and CMMD are about 0 for equal distributions. KID: cubic kernel, grey levels",
            f"0 to 16. MMD: Gaussian kernel, bandwidth {BANDWIDTH:.0f} (the median distance of two",
            f"digits); p: {PERMUTATIONS} random relabellings. CMMD: here of pixels, not of CLIP.",
            "log p: mean log-likelihood in nats of the held-out half under a kernel density of the",
            "images, bandwidth by cross-validation. Among repeated images it shrinks to nothing.",
            f"All of it took {sum(row.seconds for row in rows):.2f} s.",
        ],
    )


def _score(
    name: str,
    real: Images,
    held_out: Images,
    fake: Images,
    answers: Probabilities,
    k: int,
    threads: int | None,
) -> DemoRow:
    started = time.perf_counter()
    result = prdc(real=real, fake=fake, k=k, threads=threads)
    frechet = fid(real=real, fake=fake, threads=threads)
    score = inception_score(probabilities=answers, threads=threads)
    distance = kid(real=real, fake=fake, threads=threads)
    kernel = Gaussian(BANDWIDTH)
    tested = mmd(real, fake, kernel, permutations=PERMUTATIONS, threads=threads)
    normalised = cmmd(real=real, fake=fake, threads=threads)
    log_likelihood = _log_likelihood(held_out, fake, threads)
    seconds = time.perf_counter() - started
    assert tested.p_value is not None
    total = result.precision + result.recall
    return DemoRow(
        name=name,
        samples=len(fake),
        precision=result.precision,
        recall=result.recall,
        density=result.density,
        coverage=result.coverage,
        f_score=2.0 * result.precision * result.recall / total if total > 0.0 else 0.0,
        fid=frechet.value,
        inception_score=score.mean,
        kid=distance.mean,
        mmd=tested.value,
        p_value=tested.p_value,
        cmmd=normalised.value,
        log_likelihood=log_likelihood,
        seconds=seconds,
    )


def _log_likelihood(held_out: Images, fake: Images, threads: int | None) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DensityWarning)
        chosen = select_bandwidth(fake, threads=threads)
        if fake is held_out:
            return float(chosen.scores.max())
        return heldout_log_likelihood(held_out, fake, chosen.bandwidth, threads=threads).mean


def _digits(seed: int) -> tuple[Images, NDArray[np.int64], NDArray[np.int64]]:
    """Return all images, which digit each is, and the order in which they are split."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise _no_scikit_learn() from None

    bunch = load_digits()
    digits: Images = np.asarray(bunch.data, dtype=np.float64)
    labels = np.asarray(bunch.target, dtype=np.int64)
    return digits, labels, np.random.default_rng(seed).permutation(len(digits))


def _classifier(seed: int) -> Callable[[Images], Probabilities]:
    """Fit a classifier to the reference half; it turns images into shares of the ten digits."""
    digits, labels, order = _digits(seed)
    from sklearn.linear_model import LogisticRegression

    half = order[: len(digits) // 2]
    model = LogisticRegression(C=REGULARISATION, max_iter=FIT_STEPS)
    model.fit(digits[half] / GREY_LEVELS, labels[half])
    return lambda images: np.asarray(model.predict_proba(images / GREY_LEVELS))


def _no_scikit_learn() -> BackendUnavailableError:
    return BackendUnavailableError(
        "demo: expected scikit-learn to be installed, for its digits and its models; "
        "run: pip install 'fastgen[sklearn]'"
    )
