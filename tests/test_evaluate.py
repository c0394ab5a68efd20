"""Several metrics in one report: what stands in it, and that its parts share their work."""

from __future__ import annotations

import re
import time
from itertools import pairwise

import families
import numpy as np
import pytest

import fastgen
from fastgen import numpy_reference, sums


@pytest.fixture
def real():
    return families.relu(families.seeded("evaluate"), 120, 20, "float32")[0]


@pytest.fixture
def fake():
    return families.relu(families.seeded("evaluate"), 120, 20, "float32")[1]


@pytest.fixture
def logits():
    return 3 * families.seeded("evaluate", "logits").standard_normal((57, 8))


def fails(text, error=ValueError):
    return pytest.raises(error, match=f"^{re.escape(text)}$")


def test_report(real, fake):
    report = fastgen.evaluate(real=real, fake=fake, k=4, ties="open")
    assert list(report.metrics) == ["fid", "kid", "prdc"]
    assert report.metrics["fid"] == fastgen.fid(real=real, fake=fake)
    assert report.metrics["prdc"] == fastgen.prdc(real=real, fake=fake, k=4, ties="open")
    assert report.metrics["kid"] == fastgen.kid(real=real, fake=fake)
    assert (report.n, report.m, report.d, report.k, report.ties) == (120, 96, 20, 4, "open")
    assert list(report.seconds) == list(report.metrics)
    assert all(seconds >= 0 for seconds in report.seconds.values())
    plain = report.to_dict()
    assert list(plain) == ["metrics", "n", "m", "d", "k", "ties", "bandwidth", "seconds"]
    assert plain["bandwidth"] is None
    assert plain["metrics"]["prdc"] == report.metrics["prdc"].to_dict()


@pytest.mark.filterwarnings("ignore::fastgen.DensityWarning")
def test_report_with_every_metric(real, fake, logits):
    names = ["cmmd", "precision_recall", "mmd", "kde", "is", "fid", "prdc", "kid"]
    chosen = fastgen.select_bandwidth(fake)
    reports = fastgen.evaluate(real=real, fake=fake, metrics=names, k=[2, 7], logits=logits)
    for report, k in zip(reports, [2, 7], strict=True):
        assert list(report.metrics) == list(report.seconds) == names
        assert report.metrics["mmd"] == fastgen.mmd(real, fake)
        assert report.bandwidth == chosen.bandwidth
        found = fastgen.heldout_log_likelihood(real, fake, chosen.bandwidth)
        assert report.metrics["kde"] == found
        assert report.metrics["is"] == fastgen.inception_score(logits=logits)
        for name in ("fid", "kid", "cmmd"):
            assert report.metrics[name] == getattr(fastgen, name)(real=real, fake=fake)
        for name in ("prdc", "precision_recall"):
            assert report.metrics[name] == getattr(fastgen, name)(real=real, fake=fake, k=k)


def test_report_with_chosen_metrics(real, fake):
    report = fastgen.evaluate(
        real=real, fake=fake, metrics=["precision_recall", "precision_recall"]
    )
    assert list(report.metrics) == list(report.seconds) == ["precision_recall"]
    report = fastgen.evaluate(real=real, fake=fake, metrics=("precision_recall", "prdc"))
    assert list(report.metrics) == ["precision_recall", "prdc"]


def test_report_without_balls_knows_no_k(real, fake):
    few = {"real": real[:4], "fake": fake[:2]}
    report = fastgen.evaluate(**few, metrics=["mmd", "kid"])  # the default k is too large for them
    assert (report.n, report.m, report.k, report.ties) == (4, 2, None, None)
    assert report.metrics["mmd"].value == report.metrics["kid"].mean
    for k in ([3, 5], np.array([3, 5])):
        reports = fastgen.evaluate(**few, metrics=["kid"], k=k)
        assert [one.metrics["kid"].mean for one in reports] == [report.metrics["kid"].mean] * 2
    one = fastgen.evaluate(real=real[:1], fake=fake[:1], metrics=["cmmd"], k=3)
    assert one.metrics["cmmd"].value > 0
    for name in ("mmd", "kid"):
        with pytest.raises(ValueError, match=r"^evaluate: expected `real` .*2 rows"):
            fastgen.evaluate(real=real[:1], fake=fake[:1], metrics=[name, "cmmd"])


@pytest.mark.filterwarnings("ignore::fastgen.DensityWarning")
@pytest.mark.parametrize("given", ["scott", "silverman", 0.7, np.float32(2.0), np.array(3)])
def test_report_with_a_given_bandwidth(real, fake, given):
    report = fastgen.evaluate(real=real, fake=fake[:1], metrics=["kde"], bandwidth=given)
    found = fastgen.heldout_log_likelihood(real, fake[:1], given)
    assert report.metrics["kde"] == found
    assert report.metrics["kde"] == fastgen.heldout_log_likelihood(real, fake[:1], report.bandwidth)
    assert (report.k, report.ties, type(report.bandwidth)) == (None, None, float)


def test_reports_of_several_k_count_shared_seconds_once(real, fake):
    began = time.perf_counter()
    reports = fastgen.evaluate(real=real, fake=fake, k=[2, 5, 2])
    took = time.perf_counter() - began
    assert [report.k for report in reports] == [2, 5, 2]
    assert sum(sum(report.seconds.values()) for report in reports) <= took
    assert reports[0].metrics == reports[2].metrics


def test_metrics_of_sums_share_their_passes(real, fake, monkeypatch):
    passes = []
    compute = sums.kernel_sums

    def counted(*arguments, **options):
        passes.append(options)
        return compute(*arguments, **options)

    monkeypatch.setattr(sums, "kernel_sums", counted)
    fastgen.evaluate(real=real, fake=fake, k=[2, 5], metrics=["mmd", "prdc", "cmmd", "kid"])
    assert [options["normalise"] for options in passes] == [False, True]


def test_report_from_answers(real, fake, logits, tmp_path):
    terms = np.exp(logits)
    probabilities = terms / terms.sum(axis=1, keepdims=True)
    path = tmp_path / "answers.npy"
    np.save(path, probabilities)
    for given in (probabilities, str(path), path):
        report = fastgen.evaluate(real=real, fake=fake, metrics=["is"], probabilities=given)
        assert list(report.metrics) == list(report.seconds) == ["is"]
        assert report.metrics["is"] == fastgen.inception_score(probabilities=probabilities)
        assert (report.n, report.m, report.d, report.k) == (120, 96, 20, None)
    with_others = fastgen.evaluate(
        real=real[:1], fake=fake[:1], metrics=["cmmd", "is"], logits=logits
    )
    assert with_others.metrics["is"] == fastgen.inception_score(logits=logits)


def test_report_agrees_with_the_reference(real, fake, logits):
    options = {"metrics": ["fid", "is", "kid"], "logits": logits, "k": 3}
    found = fastgen.evaluate(real=real, fake=fake, **options).metrics
    expected = numpy_reference.evaluate(real=real, fake=fake, **options)
    assert list(found) == list(expected)
    fid, exact = found["fid"], expected["fid"]
    assert abs(fid.value - exact.value) <= fid.error_bound + exact.error_bound
    assert found["is"].to_dict() == pytest.approx(vars(expected["is"]), rel=1e-12)
    with pytest.raises(ValueError, match='only with "is"'):
        numpy_reference.evaluate(real=real, fake=fake, k=3, logits=logits)


@pytest.mark.parametrize("counted", [True, False])
def test_report_from_statistics(real, fake, logits, tmp_path, counted):
    moments = fastgen.Moments(20)
    moments.update(real)
    path = tmp_path / "statistics.npz"
    if counted:
        moments.save(path)
    else:  # as pytorch-fid writes them
        np.savez(path, mu=moments.mean, sigma=moments.covariance)
    expected = fastgen.fid(real=path, fake=fake)
    for given in (path, str(path), fastgen.Moments.load(path)):
        report = fastgen.evaluate(real=given, fake=fake, metrics=["fid"])
        assert (report.n, report.m, report.d) == (120 if counted else None, 96, 20)
        assert report.metrics["fid"] == expected
        both = fastgen.evaluate(
            real=fake, fake=given, metrics=["is", "fid"], logits=logits, k=[1, 2]
        )
        assert len(both) == 2
        assert (both[0].n, both[0].m) == (96, 120 if counted else None)
        assert both[1].metrics["fid"] == fastgen.fid(real=fake, fake=path)


def test_statistics_where_features_are_needed(real, fake, tmp_path):
    moments = fastgen.Moments(20)
    moments.update(fake)
    moments.save(tmp_path / "statistics.npz")
    hint = 'metrics=["fid"] takes statistics'
    text = f"evaluate: expected `fake` to be features for kid, prdc, got statistics; {hint}"
    for given in (moments, tmp_path / "statistics.npz"):
        with fails(text):
            fastgen.evaluate(real=real, fake=given)
        with fails(text.replace("fake", "real").replace("kid, prdc", "kde")):
            fastgen.evaluate(real=given, fake=fake, metrics=["fid", "kde"])


def test_unusable_sets_of_normal_distributions(real, fake):
    moments = fastgen.Moments(20)
    moments.update(real[:1])
    few = "evaluate: expected `real` with at least 2 rows, got 1"
    with fails(few):
        fastgen.evaluate(real=moments, fake=fake, metrics=["fid"])
    with fails(f"{few}; a single row has no covariance"):
        fastgen.evaluate(real=real[:1], fake=fake, metrics=["fid"])
    with fails("evaluate: expected `fake` with d = 20 features like `real`, got 19 features"):
        fastgen.evaluate(real=real, fake=fake[:, 1:], metrics=["fid"])
    bad = fake.copy()
    bad[7, 3] = np.nan
    options = {"logits": np.zeros((10, 2))}
    for names in (["fid"], ["is"], ["fid", "is"], ["fid", "kid"]):
        with fails("evaluate: expected `fake` to be finite, got nan in row 7, column 3"):
            answers_too = options if "is" in names else {}
            fastgen.evaluate(real=real, fake=bad, metrics=names, **answers_too)


def test_unusable_answers(real, fake, logits):
    def evaluate(*names, **given):
        return fastgen.evaluate(real=real, fake=fake, metrics=list(names), **given)

    needed = 'evaluate: expected `logits` or `probabilities` with "is", got'
    with fails(f"{needed} none"):
        evaluate("is")
    with fails(f"{needed} both"):
        evaluate("fid", "is", logits=logits, probabilities=logits)
    text = 'evaluate: expected `logits` only with "is" in `metrics`, got kid, fid'
    with fails(text):
        evaluate("kid", "fid", logits=logits)
    with fails(text.replace("logits", "probabilities").replace("kid, fid", "fid, kid, prdc")):
        fastgen.evaluate(real=real, fake=fake, probabilities=logits)
    hint = "fastgen.inception_score takes another number of splits"
    with fails(
        f"evaluate: expected `logits` with at least 10 rows, one for each split, got 9; {hint}"
    ):
        evaluate("is", logits=logits[:9])
    with pytest.raises(ValueError, match=r"^evaluate: expected `logits` of shape \(n, d\), got "):
        evaluate("is", logits=logits[0])
    assert evaluate("is", logits=logits[:10]).metrics["is"].mean >= 1


def test_unusable_answers_are_told_before_the_long_work(real, fake, logits, monkeypatch):
    def never(*_, **__):
        raise AssertionError("work has begun")

    monkeypatch.setattr(sums, "kernel_sums", never)
    logits[31, 5] = np.inf
    with pytest.raises(ValueError, match=r"^evaluate: expected `logits` to be finite, got inf in "):
        fastgen.evaluate(real=real, fake=fake, metrics=["kid", "is"], logits=logits)


@pytest.mark.parametrize("names", [["fid"], ["is"], ["fid", "is"], ["kid", "fid", "prdc", "is"]])
def test_progress_rises_to_one_with_the_work(real, fake, logits, names):
    told = []
    options = {"logits": logits} if "is" in names else {}
    fastgen.evaluate(real=real, fake=fake, metrics=names, progress=told.append, **options)
    assert told[-1] == 1.0
    assert all(earlier <= later for earlier, later in pairwise(told))
    if len(names) > 1:
        assert told[0] < 0.9  # one of them is not the whole


def test_memory_of_normal_distributions_and_answers_is_within_the_budget(real, fake, logits):
    statistics = fastgen.Moments(20)
    statistics.update(real)
    text = r"^evaluate: expected `memory` of at least \d+ bytes for this input, got 1000; "
    for options in ({"metrics": ["fid"]}, {"metrics": ["is"], "logits": logits}):
        with pytest.raises(ValueError, match=text):
            fastgen.evaluate(real=statistics, fake=fake, memory=1000, **options)
        fastgen.evaluate(real=statistics, fake=fake, memory="1GB", **options)
