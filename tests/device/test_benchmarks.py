"""The benchmarks' scripts, on so few rows that the emulator can run them: nothing is measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


def test_every_benchmark_runs(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("pytest_benchmark")
    results = tmp_path / "results.json"
    options = ("--sizes", "tiny", "--results", results, "--commit", "abc", "--benchmark-only", "-q")
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    # -P, as in `make bench-gpu`: the sources must not hide what was built.
    command = [sys.executable, "-P", "-m", "pytest", ROOT / "benchmarks" / "gpu", *options]
    done = subprocess.run(command, capture_output=True, text=True, env=ours, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(results.read_text("utf-8"))
    assert found["commit"] == "abc"
    cases = [line["case"].split()[0] for line in found["lines"]]
    expected = {"prdc", "knn_radii", "torch", "int8", "mmd", "log_density", "frechet_distance"}
    assert set(cases) == expected
    assert all(line["seconds"] > 0 and line["target"] is None for line in found["lines"])
