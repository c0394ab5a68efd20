"""The command `stats`: what it writes is taken in the place of features."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from checks import assert_same_bits
from command_line import D, M, N, numbers, write_sets

import fastgen

pytest.importorskip("rich")

from fastgen import cli


@pytest.fixture
def sets(tmp_path, monkeypatch):
    """Features in every kind of file, in the working directory."""
    monkeypatch.chdir(tmp_path)
    return write_sets()


def test_stats_are_what_evaluate_takes_in_the_place_of_features(sets, capsys):
    assert cli.main(["stats", "real.npy", "-o", "real_stats.npz"]) == 0
    assert capsys.readouterr().out == f"real_stats.npz: {N} rows, {D} features\n"
    assert cli.main(["stats", "one.npz", "--output", "fake_stats.npz", "--threads", "1"]) == 0
    capsys.readouterr()
    with np.load("real_stats.npz") as found:
        np.testing.assert_allclose(found["mu"], sets[0].astype(float).mean(axis=0), atol=1e-12)
        np.testing.assert_allclose(found["sigma"], np.cov(sets[0].astype(float).T), rtol=1e-9)
        assert int(found["count"]) == N
    expected = fastgen.fid(real=sets[0], fake=sets[1]).value
    for pair in (("real_stats.npz", "fake.npy"), ("real.npy", "fake_stats.npz")):
        assert cli.main(["evaluate", *pair, "--metrics", "fid"]) == 0
        out = capsys.readouterr().out
        assert numbers(out)["fid", "value"] == [pytest.approx(expected, rel=1e-5)]
        assert f"({N} x {D})" in out
        assert f"({M} x {D})" in out


def test_stats_of_shards_are_those_of_the_whole(sets, capsys):
    np.save("first.npy", sets[0][:1])
    np.savez("rest.npz", rows=sets[0][1:], other=sets[1])
    assert cli.main(["stats", "real.npy", "-o", "whole.npz"]) == 0
    assert cli.main(["stats", "first.npy", "rest.npz:rows", "-o", "shards.npz"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == f"shards.npz: {N} rows, {D} features"
    with np.load("whole.npz") as whole, np.load("shards.npz") as shards:
        assert set(whole.files) == set(shards.files) >= {"mu", "sigma", "count"}
        for name in whole.files:
            assert_same_bits(shards[name], whole[name])


def test_statistics_that_do_not_tell_their_rows(sets, capsys):
    real = sets[0].astype(float)
    np.savez("published.npz", mu=real.mean(axis=0), sigma=np.cov(real.T))
    command = ["evaluate", "published.npz", "fake.npy", "--metrics", "fid", "--json", "out.json"]
    assert cli.main(command) == 0
    out = capsys.readouterr().out
    assert f"real: published.npz (unknown x {D})   fake: fake.npy ({M} x {D})" in out
    assert f"at n = unknown, m = {M}: " in out
    (report,) = json.loads(Path("out.json").read_text(encoding="utf-8"))["reports"]
    assert (report["n"], report["m"]) == (None, M)


BAD_STATS = {
    "missing": (["missing.npy"], "`missing.npy` to be an existing file, got 'missing.npy'"),
    "widths": (
        ["real.npy", "narrow.npy"],
        f"`narrow.npy` with d = {D} columns like `real.npy`, got shape ({M}, {D - 1})",
    ),
    "non-finite": (["real.npy", "nan.npy"], "`nan.npy` to be finite, got nan in row 7, column 3"),
    "one row": (
        ["row.npy"],
        "`FEATURES` with at least 2 rows, got 1; a single row has no covariance",
    ),
    "bool": (
        ["bool.npy"],
        "`bool.npy` of dtype float16, float32, float64 or integer, got bool",
    ),
    "threads": (["real.npy", "--threads", "0"], "`threads`"),
    "nowhere": (
        ["real.npy", "-o", "nowhere/out.npz"],
        "`--output` to be a file in an existing directory, got 'nowhere/out.npz'",
    ),
    "onto features": (
        ["real.npy", "both.npz:real", "-o", "both.npz"],
        "`--output` to be another file than the features, got 'both.npz'",
    ),
}


@pytest.mark.parametrize("case", BAD_STATS)
def test_stats_of_bad_input_are_one_line(sets, capsys, case):
    real, fake = sets
    np.save("narrow.npy", fake[:, :-1])
    np.save("row.npy", real[:1])
    np.save("bool.npy", real > 0)
    fake[7, 3] = np.nan
    np.save("nan.npy", fake)
    before = {path: path.read_bytes() for path in Path().iterdir()}
    arguments, text = BAD_STATS[case]
    if "-o" not in arguments:
        arguments = [*arguments, "-o", "out.npz"]
    assert cli.main(["stats", *arguments]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(f"fastgen: error: stats: expected {text}")
    assert output.err.count("\n") == 1
    assert {path: path.read_bytes() for path in Path().iterdir()} == before
