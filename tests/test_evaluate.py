"""Several metrics in one report: what stands in it, and that its parts share their work."""

from __future__ import annotations

import time

import families
import numpy as np
import pytest

import fastgen
from fastgen import sums


@pytest.fixture
def real():
    return families.relu(families.seeded("evaluate"), 120, 20, "float32")[0]


@pytest.fixture
def fake():
    return families.relu(families.seeded("evaluate"), 120, 20, "float32")[1]


def test_report(real, fake):
    report = fastgen.evaluate(real=real, fake=fake, k=4, ties="open")
    assert list(report.metrics) == ["kid", "prdc"]
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
def test_report_with_every_metric(real, fake):
    names = ["cmmd", "precision_recall", "mmd", "kde", "prdc", "kid"]
    chosen = fastgen.select_bandwidth(fake)
    reports = fastgen.evaluate(real=real, fake=fake, metrics=names, k=[2, 7])
    for report, k in zip(reports, [2, 7], strict=True):
        assert list(report.metrics) == list(report.seconds) == names
        assert report.metrics["mmd"] == fastgen.mmd(real, fake)
        assert report.bandwidth == chosen.bandwidth
        found = fastgen.heldout_log_likelihood(real, fake, chosen.bandwidth)
        assert report.metrics["kde"] == found
        for name in ("kid", "cmmd"):
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
