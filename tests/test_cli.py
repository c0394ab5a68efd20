"""The command line: tables, JSON, exit statuses, and one line for every mistake."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import D, M, N, numbers, run, write_sets

import fastgen

pytest.importorskip("rich")

from fastgen import cli
from fastgen.report import SCHEMA


@pytest.fixture
def sets(tmp_path, monkeypatch):
    """Features in every kind of file, in the working directory."""
    monkeypatch.chdir(tmp_path)
    return write_sets()


def test_evaluate_prints_every_value(sets, capsys):
    assert cli.main(["evaluate", "real.npy", "fake.npy"]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    found = numbers(output.out)
    report = fastgen.evaluate(real=sets[0], fake=sets[1])
    expected = {
        (metric, name): value
        for metric, result in report.metrics.items()
        for name, value in result.to_dict().items()
    }
    method = expected.pop(("fid", "method"))
    assert ["fid", "method", method] in [line.split() for line in output.out.splitlines()]
    assert list(found) == list(expected)
    assert len(found) == 10
    for name, value in expected.items():
        assert found[name] == [pytest.approx(value, abs=1e-4)]
    assert f"{N} x {D}" in output.out
    assert f"{M} x {D}" in output.out


def test_evaluate_prints_a_column_per_k(sets, capsys):
    assert cli.main(["evaluate", "real.npy", "fake.npy", "--k", "3,5", "--metrics", "prdc"]) == 0
    out = capsys.readouterr().out
    assert "k = 3" in out
    assert "k = 5" in out
    found = numbers(out)
    for place, k in enumerate((3, 5)):
        expected = fastgen.prdc(real=sets[0], fake=sets[1], k=k).to_dict()
        for name, value in expected.items():
            assert found["prdc", name][place] == pytest.approx(value, abs=1e-4)
    assert all(metric == "prdc" for metric, _ in found)


def test_evaluate_prints_kernel_distances_without_a_k(sets, capsys):
    np.save("few.npy", sets[1][:3])  # too few for the default k, and for a standard error
    arguments = ["evaluate", "real.npy", "few.npy", "--metrics", "kid,mmd,cmmd"]
    assert cli.main(arguments) == 0
    expected = capsys.readouterr().out
    assert "k =" not in expected
    assert "ties" not in expected
    rows = {tuple(line.split()[:2]): line.split()[2:] for line in expected.splitlines()}
    kid = fastgen.kid(real=sets[0], fake=sets[1][:3])
    cmmd = fastgen.cmmd(real=sets[0], fake=sets[1][:3])
    assert rows["kid", "mean"] == rows["mmd", "value"] == [f"{kid.mean:.4g}"]
    assert rows["cmmd", "value"] == [f"{cmmd.value:.4g}"]
    assert rows["kid", "std"] == rows["cmmd", "standard_error"] == ["-"]
    assert cli.main([*arguments, "--k", "3,5"]) == 0  # one column still
    assert capsys.readouterr().out.splitlines()[:-1] == expected.splitlines()[:-1]


def test_evaluate_prints_every_metric_in_the_order_asked_for(sets, capsys):
    names = ["cmmd", "prdc", "kid", "precision_recall", "mmd"]
    metrics = ",".join(names)
    assert cli.main(["evaluate", "real.npy", "fake.npy", "--metrics", metrics, "--k", "3,5"]) == 0
    found = numbers(capsys.readouterr().out)
    assert list(dict.fromkeys(metric for metric, _ in found)) == names
    assert all(len(values) == 2 for values in found.values())
    small = fastgen.kid(real=sets[0], fake=sets[1])
    assert found["kid", "mean"] == [pytest.approx(small.mean, rel=1e-3)] * 2
    assert ("mmd", "p_value") not in found


@pytest.mark.parametrize("argument", ["logits", "probabilities"])
def test_evaluate_prints_normal_distributions_and_answers(sets, capsys, argument):
    answers = np.random.default_rng(1).random((30, 4))
    answers /= answers.sum(axis=1, keepdims=True)
    np.save("answers.npy", answers)
    command = ["evaluate", "real.npy", "fake.npy", "--metrics", "fid,is", "--json", "out.json"]
    assert cli.main([*command, f"--{argument}", "answers.npy"]) == 0
    out = capsys.readouterr().out
    fid = fastgen.fid(real=sets[0], fake=sets[1])
    score = fastgen.inception_score(**{argument: answers})
    cells = {tuple(line.split()[:2]): line.split()[2:] for line in out.splitlines()}
    for name in ("value", "mean_term", "covariance_term"):
        assert cells["fid", name] == [f"{getattr(fid, name):.6g}"]
    bound = float(cells["fid", "error_bound"][0])
    assert fid.error_bound <= bound <= 2 * fid.error_bound
    for name in ("mean", "std", "sharpness", "diversity"):
        assert cells["is", name] == [f"{getattr(score, name):.6g}"]
    assert f"fid: at n = {N}, m = {M}: it falls with the number of rows; compare at equal" in out
    assert "is: 10 splits of the classifier's answers; " in out
    document = json.loads(Path("out.json").read_text(encoding="utf-8"))
    paths = {"logits": None, "probabilities": None, argument: "answers.npy"}
    assert {name: document[name] for name in paths} == paths
    (report,) = document["reports"]
    assert report["metrics"] == {"fid": fid.to_dict(), "is": score.to_dict()}


@pytest.mark.filterwarnings("ignore::fastgen.DensityWarning")
@pytest.mark.parametrize("given", [None, "cv", "scott", "silverman", "1.5"])
def test_evaluate_takes_a_bandwidth(sets, capsys, tmp_path, given):
    out = tmp_path / "report.json"
    options = [] if given is None else ["--bandwidth", given]
    command = ["evaluate", "real.npy", "fake.npy", "--metrics", "kde", "--json", str(out), *options]
    assert cli.main(command) == 0
    shown = capsys.readouterr().out
    (report,) = json.loads(out.read_text(encoding="utf-8"))["reports"]
    chosen = fastgen.select_bandwidth(sets[1]).bandwidth
    expected = {"scott": M ** (-1 / (D + 4)), "silverman": (M * (D + 2) / 4) ** (-1 / (D + 4))}
    bandwidth = expected.get(given, 1.5 if given == "1.5" else chosen)
    assert report["bandwidth"] == pytest.approx(bandwidth, rel=1e-12)
    found = fastgen.heldout_log_likelihood(*sets, report["bandwidth"])
    assert report["metrics"] == {"kde": found.to_dict()}
    assert f"bandwidth: {bandwidth:.4g}; " in shown
    rows = {name: cells for (_, name), cells in numbers(shown).items()}
    assert rows == {k: [pytest.approx(v, rel=1e-5)] for k, v in found.to_dict().items()}


def test_warnings_are_one_line(sets):
    command = ["evaluate", "real.npy", "fake.npy", "--metrics", "kde,kid", "--bandwidth", "0.01"]
    done = run(*command)
    assert done.returncode == 0
    assert done.stderr.startswith("fastgen: warning: evaluate: one sample has more than half ")
    assert done.stderr.count("\n") == 1
    assert "kde" in done.stdout


@pytest.mark.parametrize("ties", ["closed", "open"])
def test_evaluate_follows_the_tie_rule(tmp_path, monkeypatch, capsys, ties):
    monkeypatch.chdir(tmp_path)
    np.save("line.npy", np.arange(5.0)[:, None])
    arguments = ["evaluate", "line.npy", "line.npy", "--k", "1", "--ties", ties]
    assert cli.main([*arguments, "--metrics", "prdc"]) == 0
    # Every point but the own one lies exactly on the edge of its neighbours' balls.
    density = 13 / 5 if ties == "closed" else 1.0
    assert numbers(capsys.readouterr().out)["prdc", "density"] == [pytest.approx(density)]


@pytest.mark.parametrize(
    ("real", "fake"),
    [("both.npz:real", "both.npz:fake"), ("real.npy", "one.npz"), ("./both.npz:real", "one.npz")],
)
def test_evaluate_reads_npz(sets, capsys, real, fake):
    assert cli.main(["evaluate", "real.npy", "fake.npy"]) == 0
    expected = numbers(capsys.readouterr().out)
    assert cli.main(["evaluate", real, fake]) == 0
    out = capsys.readouterr().out
    assert numbers(out) == expected
    assert real in out


def test_evaluate_writes_the_documented_json(sets, tmp_path):
    out = tmp_path / "report.json"
    done = run("evaluate", "real.npy", "fake.npy", "--k", "3,5", "--threads", "1", "--json", out)
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(out.read_text(encoding="utf-8"))
    info = fastgen.info()
    reports = document.pop("reports")
    assert document == {
        "schema": SCHEMA,
        "version": info.version,
        "instruction_set": info.instruction_set,
        "threads": 1,
        "device": None,
        "real": "real.npy",
        "fake": "fake.npy",
        "logits": None,
        "probabilities": None,
    }
    assert [report["k"] for report in reports] == [3, 5]
    expected = fastgen.evaluate(real=sets[0], fake=sets[1], k=[3, 5])
    for found, report in zip(reports, expected, strict=True):
        wanted = report.to_dict()
        keys = ["metrics", "n", "m", "d", "k", "ties", "bandwidth", "seconds"]
        assert list(found) == list(wanted) == keys
        assert list(found.pop("seconds")) == list(wanted.pop("seconds"))
        assert found == wanted


def test_json_stays_valid_where_there_is_no_number(sets, tmp_path):
    np.save("few.npy", sets[1][:3])
    out = tmp_path / "report.json"
    command = ["evaluate", "real.npy", "few.npy", "--metrics", "kid,mmd", "--json", str(out)]
    assert cli.main(command) == 0

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    (report,) = json.loads(out.read_text(encoding="utf-8"), parse_constant=refuse)["reports"]
    assert (report["k"], report["ties"], report["bandwidth"]) == (None, None, None)
    assert report["metrics"]["kid"]["std"] is None
    assert report["metrics"]["mmd"]["standard_error"] is None
    assert report["metrics"]["mmd"]["p_value"] is None
    assert report["metrics"]["mmd"]["value"] == report["metrics"]["kid"]["mean"] != 0


def test_evaluate_takes_threads_memory_and_device(sets, capsys):
    assert cli.main(["evaluate", "real.npy", "fake.npy"]) == 0
    expected = numbers(capsys.readouterr().out)
    options = ["--threads", "3", "--memory", "1GB", "--device", "cpu"]
    assert cli.main(["evaluate", "real.npy", "fake.npy", *options]) == 0
    assert numbers(capsys.readouterr().out) == expected


KDE = ["real.npy", "fake.npy", "--metrics", "kde"]
BAD_INPUT = {
    "missing file": (["missing.npy", "fake.npy"], "missing.npy"),
    "directory": ([".", "fake.npy"], "directory"),
    "truncated": (["truncated.npy", "fake.npy"], "truncated.npy"),
    "truncated archive": (["truncated.npz", "fake.npy"], "truncated.npz"),
    "not an array": (["text.npy", "fake.npy"], "text.npy"),
    "empty file": (["empty.npy", "fake.npy"], "empty.npy"),
    "no such key": (["both.npz:other", "fake.npy"], "other"),
    "key needed": (["both.npz", "fake.npy"], "both.npz"),
    "one dimension": (["flat.npy", "fake.npy"], "`real`"),
    "no rows": (["norows.npy", "fake.npy"], "`real`"),
    "bool": (["bool.npy", "fake.npy"], "bool"),
    "complex": (["complex.npy", "fake.npy"], "complex"),
    "features differ": (["real.npy", "narrow.npy"], "`fake`"),
    "non-finite": (["real.npy", "nan.npy"], "row 7"),
    "k too large": (["real.npy", "fake.npy", "--k", str(M)], "`k`"),
    "k of zero": (["real.npy", "fake.npy", "--k", "0"], "`k`"),
    "one k too large": (["real.npy", "fake.npy", "--k", "3,99"], "`k`"),
    "k not a number": (["real.npy", "fake.npy", "--k", "three"], "three"),
    "k empty": (["real.npy", "fake.npy", "--k", ""], "--k"),
    "answers missing": (["real.npy", "fake.npy", "--metrics", "is"], "`logits` or"),
    "answers unasked": (["real.npy", "fake.npy", "--logits", "fake.npy"], "`logits` only with"),
    "no probabilities": (
        ["real.npy", "fake.npy", "--metrics", "is", "--probabilities", "fake.npy"],
        "`probabilities` of at least 0",
    ),
    "statistics for kid": (["statistics.npz", "fake.npy"], "features for kid, prdc"),
    "unknown metric": (["real.npy", "fake.npy", "--metrics", "prdc,fid2"], "fid2"),
    "too few rows": (["real.npy", "one.npy", "--metrics", "kid"], "2 rows"),
    "zero row": (["real.npy", "zero.npy", "--metrics", "cmmd"], "`fake`"),
    "no metric": (["real.npy", "fake.npy", "--metrics", ""], "metric"),
    "unknown ties": (["real.npy", "fake.npy", "--ties", "half"], "half"),
    "unknown bandwidth": ([*KDE, "--bandwidth", "wide"], "wide"),
    "bandwidth of zero": ([*KDE, "--bandwidth", "0"], "above 0"),
    "one fake row": (["real.npy", "one.npy", *KDE[2:]], "2 rows"),
    "no threads": (["real.npy", "fake.npy", "--threads", "0"], "`threads`"),
    "memory": (["real.npy", "fake.npy", "--memory", "lots"], "`memory`"),
    "no such device": (["real.npy", "fake.npy", "--device", "tpu"], "`device`"),
    "unknown option": (["real.npy", "fake.npy", "--speed", "9"], "--speed"),
    "one set only": (["real.npy"], "FAKE"),
    "json nowhere": (["real.npy", "fake.npy", "--json", "nowhere/out.json"], "nowhere/out.json"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_evaluate_bad_input_is_one_line(sets, capsys, case):
    real, fake = sets
    Path("truncated.npy").write_bytes(Path("real.npy").read_bytes()[:-100])
    Path("truncated.npz").write_bytes(Path("both.npz").read_bytes()[:-100])
    Path("text.npy").write_text("precision,recall\n", encoding="utf-8")
    Path("empty.npy").touch()
    np.savez("statistics.npz", mu=np.zeros(D), sigma=np.eye(D))
    np.save("flat.npy", real[0])
    np.save("norows.npy", real[:0])
    np.save("bool.npy", real > 0)
    np.save("complex.npy", real.astype(np.complex64))
    np.save("narrow.npy", fake[:, :-1])
    np.save("one.npy", fake[:1])
    np.save("zero.npy", fake * (np.arange(M) != 4)[:, np.newaxis])
    fake[7, 3] = np.nan
    np.save("nan.npy", fake)
    before = set(Path().iterdir())
    arguments, named = BAD_INPUT[case]
    if case != "json nowhere":
        arguments = [*arguments, "--json", "out.json"]

    try:
        status = cli.main(["evaluate", *arguments])
    except SystemExit as stop:  # argparse leaves by itself
        status = stop.code

    output = capsys.readouterr()
    assert status == 2
    assert output.out == ""
    assert output.err.startswith("fastgen: error: ")
    assert output.err.count("\n") == 1
    assert named in output.err
    assert set(Path().iterdir()) == before


@pytest.mark.parametrize(
    "arguments",
    [[], ["frobnicate"], ["evaluate"], ["stats", "x.npy"], ["info", "x"], ["demo", "--k", "many"]],
)
def test_wrong_command_line_is_one_line(capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    output = capsys.readouterr()
    assert stop.value.code == 2
    assert output.out == ""
    assert output.err.startswith("fastgen: error: ")
    assert output.err.count("\n") == 1


def test_module_reports_failure_to_the_shell(sets):
    done = run("evaluate", "missing.npy", "fake.npy")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1


def test_version():
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"fastgen {fastgen.info().version}\n")


def test_help_names_the_commands(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert all(command in out for command in ("evaluate", "stats", "demo", "info"))


def test_info(capsys):
    assert cli.main(["info"]) == 0
    out = capsys.readouterr().out
    info = fastgen.info()
    assert info.version in out
    assert ", ".join(info.instruction_sets) in out
    assert str(info.threads) in out


def test_info_with_unknown_instruction_set(capsys, monkeypatch):
    monkeypatch.setenv("FASTGEN_ISA", "abacus")
    assert cli.main(["info"]) == 2
    assert "abacus" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["info", "demo", "evaluate"])
def test_without_rich_names_the_pip_command(sets, command):
    code = "import sys; sys.modules['rich'] = None; from fastgen.cli import main; sys.exit(main())"
    paths = ["real.npy", "fake.npy"] if command == "evaluate" else []
    done = run(command, *paths, code=code)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "pip install 'fastgen[cli]'" in done.stderr


def test_demo_without_scikit_learn_names_the_pip_command():
    blocked = "sys.modules.update({'sklearn': None, 'sklearn.datasets': None})"
    code = f"import sys; {blocked}; from fastgen.cli import main; sys.exit(main())"
    done = run("demo", code=code)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "pip install 'fastgen[sklearn]'" in done.stderr


def test_unexpected_errors_keep_their_trace(sets, monkeypatch):
    def broken(**_):
        raise RuntimeError("a bug")

    monkeypatch.setattr(cli, "evaluate", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main(["evaluate", "real.npy", "fake.npy"])
