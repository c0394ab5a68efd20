"""Shared by all benchmarks: options, the unit of the ratios, and the table at the end.

Before NumPy is first imported, the thread count of its BLAS is fixed and the faster of its core
types chosen, so that every contender in this process multiplies at the speed of the unit.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import gemm
import pytest
from harness import Bench, processor, versions

if TYPE_CHECKING:
    from collections.abc import Callable

BENCH = pytest.StashKey[Bench]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fastgen benchmarks")
    group.addoption("--quick", action="store_true", help="small sizes: checks the scripts only")
    group.addoption("--threads", type=int, default=0, help="threads of both sides (default: 2)")
    group.addoption("--isa", default="", help="measure this instruction set only")


def pytest_configure(config: pytest.Config) -> None:
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2
    threads = config.getoption("--threads") or min(2, available)
    quick = config.getoption("--quick") or bool(os.environ.get("FASTGEN_BENCH_QUICK"))
    bench = Bench(quick=quick, threads=threads, only=config.getoption("--isa"))
    if "numpy" not in sys.modules and not config.getoption("--collect-only"):
        size = 512 if quick else 4096
        fastest = gemm.measure(size, size, size, threads=threads, rounds=3)
        core = "" if fastest.requested_core == "as installed" else fastest.requested_core
        os.environ.update(gemm.environment(core, threads))
    config.stash[BENCH] = bench


@pytest.fixture
def bench(request: pytest.FixtureRequest) -> Bench:
    """Return the settings and the table of this run."""
    return request.config.stash[BENCH]


@pytest.fixture
def use_isa(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that makes fastgen use one instruction set until the benchmark ends."""

    def use(isa: str) -> None:
        import fastgen

        monkeypatch.setenv("FASTGEN_ISA", isa)
        assert fastgen.info().instruction_set == isa

    return use


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "isa" in metafunc.fixturenames:
        bench = metafunc.config.stash[BENCH]
        metafunc.parametrize("isa", bench.instruction_sets())


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(
    config: pytest.Config, machine_info: dict[str, Any]
) -> None:
    """Add what a ratio depends on to the machine record in the JSON."""
    bench = config.stash[BENCH]
    machine_info["fastgen"] = {
        "threads": bench.threads,
        "quick": bench.quick,
        "blas": gemm.blas_description(),
        "versions": versions(),
        "core_type_variable": os.environ.get("OPENBLAS_CORETYPE", ""),
    }


@pytest.hookimpl(trylast=True)  # below the tables of pytest-benchmark
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the ratios of this run."""
    bench = config.stash[BENCH]
    if not bench.lines:
        return
    write = terminalreporter.write_line
    terminalreporter.section("ratios" + (" (quick sizes: no figures)" if bench.quick else ""))
    libraries = ", ".join(f"{name} {version}" for name, version in versions().items())
    write(f"{processor()}, {bench.threads} threads; {libraries}")
    write(f"NumPy of the contenders: {gemm.blas_description()}")
    width = max(len(line.case) for line in bench.lines)
    what_width = max(22, *(len(line.what) for line in bench.lines))
    for line in bench.lines:
        seconds = "" if line.seconds is None else f"{line.seconds:.3g} s"
        target = ""
        if line.target is not None and not bench.quick:
            sign = ">=" if line.higher_is_better else "<="
            target = f"{sign} {line.target:g} {line.verdict}"
        write(
            f"{line.case:<{width}}  {seconds:>8}  {line.ratio:8.3g} x {line.what:<{what_width}}  "
            f"{target:<15}  {'; '.join(line.notes)}".rstrip()
        )
