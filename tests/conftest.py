"""What every test run starts with: the header, the Hypothesis profile, the import path."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from pathlib import Path

import hypothesis
import pytest

# Test modules import `families` and `checks` by name, from wherever pytest is started.
sys.path.insert(0, str(Path(__file__).parent))

# The same examples in every run: a red run is red again, and none takes longer than the last.
hypothesis.settings.register_profile(
    "fastgen",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=100,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("fastgen")

# The tests of a CUDA device: on a GPU, or on the host emulator that `make test-emulated` names.
try:
    from fastgen import info

    _HAS_DEVICE = bool(info().gpus)
except ImportError:  # the header says why
    _HAS_DEVICE = False
collect_ignore = [] if _HAS_DEVICE else ["device"]


def _present(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _left_out() -> list[str]:
    """Name what this machine lacks, and what is not tested for it."""
    missing = []
    if not _present("torch"):
        missing.append("torch (DLPack and bfloat16 from torch tensors)")
    if not _present("sklearn"):
        missing.append("scikit-learn (the digits, the demo)")
    if not _present("rich"):
        missing.append("rich (the command line's tables and progress bar)")
    if not _HAS_DEVICE:
        missing.append("a CUDA device (tests/device; make test-emulated runs them without one)")
    tools = ("aarch64-linux-gnu-g++", "qemu-aarch64")
    absent = [tool for tool in tools if shutil.which(tool) is None]
    if absent:
        missing.append(f"{' and '.join(absent)} (the C++ tests on ARM)")
    return missing


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a run under CI that would silently leave the torch tests out."""
    if os.environ.get("CI", "").lower() in {"1", "true"} and not _present("torch"):
        raise pytest.UsageError("CI is set, and torch is not installed: pip install torch")


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say what is tested, on what, and what is left out."""
    packages = ("numpy", "scipy", "hypothesis", "scikit-learn", "torch", "rich")
    versions = []
    for package in packages:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    lines = [f"with: {', '.join(versions)}; {platform.machine()}"]
    try:
        import fastgen
    except ImportError as error:
        lines.append(f"fastgen: cannot be imported ({error})")
    else:
        info = fastgen.info()
        lines.append(
            f"fastgen: {info.version}; instruction sets {', '.join(info.instruction_sets)} "
            f"(uses {info.instruction_set}); {info.threads} threads; "
            f"GPUs: {', '.join(info.gpus) or 'none'}"
        )
    lines.append(f"left out: {'; '.join(_left_out()) or 'nothing'}")
    return lines
