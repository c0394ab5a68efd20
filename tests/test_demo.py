"""What the demonstration must show, and the examples."""

from __future__ import annotations

import itertools
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from fastgen import numpy_reference

pytest.importorskip("sklearn")

from fastgen import demo

EXAMPLES = sorted(Path(__file__).parents[1].joinpath("examples").glob("*.py"))


@pytest.fixture(scope="module")
def rows():
    return {row.name: row for row in demo.demo_rows()}


@pytest.fixture(scope="module")
def sets():
    reference, held_out = demo.digit_halves()
    generated = demo.generated_sets(reference, len(held_out))
    return reference, {"held-out half": held_out, **generated}


def test_demo_splits_all_digits():
    reference, held_out = demo.digit_halves()
    assert (reference.shape, held_out.shape) == ((898, 64), (899, 64))
    again, _ = demo.digit_halves()
    other, _ = demo.digit_halves(seed=1)
    assert np.array_equal(reference, again)
    assert not np.array_equal(reference, other)


def test_demo_rows_are_the_documented_ones(rows):
    assert list(rows) == [
        "held-out half",
        "PCA-Gaussian",
        "Gaussian mixture",
        "mixture, psi = 1.0",
        "mixture, psi = 0.7",
        "mixture, psi = 0.4",
        "collapsed to 4 images",
    ]
    assert all(row.seconds > 0 for row in rows.values())


def test_demo_held_out_half_has_the_highest_f_score(rows):
    best, *others = rows.values()
    assert best.name == "held-out half"
    assert best.f_score > 0.9
    assert all(row.f_score < best.f_score - 0.05 for row in others)


def test_demo_recall_falls_and_precision_does_not_as_psi_falls(rows):
    truncated = [rows[f"mixture, psi = {psi}"] for psi in (1.0, 0.7, 0.4)]
    for wide, narrow in itertools.pairwise(truncated):
        assert narrow.recall < wide.recall - 0.1
        assert narrow.precision >= wide.precision


def test_demo_collapse_has_coverage_near_zero(rows):
    collapsed = rows["collapsed to 4 images"]
    assert collapsed.coverage < 0.05
    assert min(row.coverage for row in rows.values()) == collapsed.coverage
    assert collapsed.recall < 0.01


def test_demo_distances_tell_the_held_out_half_from_all_others(rows):
    best, *others = rows.values()
    assert best.p_value > 0.05
    assert all(row.p_value == 1 / 200 for row in others)
    for name in ("kid", "mmd", "cmmd"):
        assert all(getattr(row, name) > getattr(best, name) for row in others), name
        collapsed = getattr(rows["collapsed to 4 images"], name)
        assert collapsed == max(getattr(row, name) for row in rows.values())


def test_demo_fid_sees_the_spread_and_nothing_else(rows):
    best, *others = rows.values()
    assert all(row.fid > 2 * best.fid for row in others)
    truncated = [rows[f"mixture, psi = {psi}"].fid for psi in (1.0, 0.7, 0.4)]
    assert truncated == sorted(truncated)
    assert rows["collapsed to 4 images"].fid > 5 * max(truncated)
    assert rows["PCA-Gaussian"].fid < truncated[1]
    assert rows["PCA-Gaussian"].precision < 0.6


def test_demo_inception_score_rises_with_truncation_and_tells_a_collapse(rows):
    best, *others = rows.values()
    assert 7 < best.inception_score <= 10
    assert all(row.inception_score < best.inception_score for row in others)
    truncated = [rows[f"mixture, psi = {psi}"].inception_score for psi in (1.0, 0.7, 0.4)]
    assert truncated == sorted(truncated)
    collapsed = rows["collapsed to 4 images"].inception_score
    assert 1 < collapsed <= demo.COLLAPSED_IMAGES
    assert collapsed == min(row.inception_score for row in rows.values())


def test_demo_fids_and_inception_scores_are_those_of_the_reference(rows, sets):
    datasets = pytest.importorskip("sklearn.datasets")
    models = pytest.importorskip("sklearn.linear_model")
    reference, by_name = sets
    digits = datasets.load_digits()
    order = np.random.default_rng(0).permutation(len(digits.data))[: len(reference)]
    assert np.array_equal(digits.data[order], reference)
    model = models.LogisticRegression(C=demo.REGULARISATION, max_iter=1000)
    model.fit(reference / 16, digits.target[order])
    for name, images in by_name.items():
        answers = model.predict_proba(images / 16)
        expected = numpy_reference.inception_score(probabilities=answers).mean
        assert rows[name].inception_score == pytest.approx(expected, rel=1e-9), name
        exact = numpy_reference.fid(real=reference, fake=images).value
        assert rows[name].fid == pytest.approx(exact, abs=1e-6), name


def test_demo_log_likelihood_is_highest_for_what_the_model_should_be(rows):
    best, *others = rows.values()
    assert all(row.log_likelihood < best.log_likelihood - 4 for row in others)
    truncated = [rows[f"mixture, psi = {psi}"].log_likelihood for psi in (1.0, 0.7, 0.4)]
    assert truncated == sorted(truncated, reverse=True)
    collapsed = rows["collapsed to 4 images"].log_likelihood
    assert collapsed == min(row.log_likelihood for row in rows.values()) < -1e6


def test_demo_log_likelihoods_are_those_of_the_reference(rows, sets):
    held_out = sets[1]["held-out half"]
    expected = numpy_reference.select_bandwidth(held_out).scores.max()
    assert rows["held-out half"].log_likelihood == pytest.approx(expected, abs=1e-6)
    for name in ("PCA-Gaussian", "collapsed to 4 images"):
        width = numpy_reference.select_bandwidth(sets[1][name]).bandwidth
        expected = numpy_reference.heldout_log_likelihood(held_out, sets[1][name], width).mean
        assert rows[name].log_likelihood == pytest.approx(expected, abs=1e-6), name


def test_demo_bandwidth_is_the_median_distance_of_digits(sets):
    reference, by_name = sets
    median = numpy_reference.median_distance(reference, by_name["held-out half"])
    assert abs(median - demo.BANDWIDTH) < 0.5


def test_demo_images_are_whole_grey_levels(sets):
    for name, images in sets[1].items():
        assert images.shape == (899, 64), name
        assert np.array_equal(images, np.rint(images)), name
        assert images.min() >= 0, name
        assert images.max() <= 16, name
    assert len(np.unique(sets[1]["collapsed to 4 images"], axis=0)) == 4


def test_demo_numbers_are_those_of_the_reference(rows, sets):
    reference, by_name = sets
    for name, images in by_name.items():
        expected = numpy_reference.prdc(real=reference, fake=images, k=5)
        row = rows[name].to_dict()
        assert {key: row[key] for key in asdict(expected)} == asdict(expected), name


def test_demo_prints_one_table():
    pytest.importorskip("rich")
    done = subprocess.run(
        [sys.executable, "-m", "fastgen", "demo"], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    headings = ["images", "precision", "recall", "F", "density", "coverage"]
    headings += ["FID", "IS", "KID", "MMD", "p", "CMMD", "log", "p"]
    assert headings in [line.split() for line in done.stdout.splitlines()]
    for name in ("held-out half", "PCA-Gaussian", "psi = 0.4", "collapsed to 4 images"):
        assert name in done.stdout
    assert "\N{HORIZONTAL ELLIPSIS}" not in done.stdout  # nothing was cut off
    assert max(map(len, done.stdout.splitlines())) <= 120


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_examples_run(example, tmp_path):
    done = subprocess.run(
        [sys.executable, str(example)], capture_output=True, text=True, timeout=300, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout
