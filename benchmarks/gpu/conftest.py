"""Shared by the GPU benchmarks: the record of the device, and the table at the end.

`make bench-gpu` runs them; without a GPU that is one line and no failure. Options:
``--results FILE`` writes the table as JSON, ``--commit NAME`` names what was measured, and
``--sizes small`` or ``--sizes tiny`` check the scripts, the latter on the host emulator too.
"""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import device
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
SIZES = ("full", "small", "tiny")


@dataclass
class Line:
    """One figure: seconds, the target for them, and the floor that the hardware sets."""

    case: str
    seconds: float
    spread: float
    rounds: int
    target: float | None = None
    floor: float | None = None
    notes: list[str] = field(default_factory=list)


class Table:
    """Times calls on the GPU and keeps the lines of this run."""

    def __init__(self, commit: str) -> None:
        self.commit = commit
        self.lines: list[Line] = []
        self.before = device.describe()
        self.peaks = device.peaks(self.before.get("name", ""))

    def measure(
        self,
        benchmark: Any,
        case: str,
        call: Callable[[], Any],
        *,
        rounds: int = 5,
        target: float | None = None,
        floor: dict[str, float] | None = None,
    ) -> Line:
        """Time a call as the benchmark, with everything on the device finished at both ends.

        `floor` has the operations or bytes that cannot be avoided, by kind of `device.PEAKS`.
        """

        def finished() -> Any:
            found = call()
            device.finish()
            return found

        device.finish()
        benchmark.name = case
        benchmark.pedantic(finished, rounds=rounds, warmup_rounds=1)
        stats = benchmark.stats.stats
        least = None
        if floor and all(kind in self.peaks for kind in floor):
            least = max(work / self.peaks[kind] for kind, work in floor.items())
        line = Line(case, stats.median, stats.max - stats.min, rounds, target, least)
        self.lines.append(line)
        return line

    def time(self, case: str, call: Callable[[], Any], *, rounds: int = 3) -> Line:
        """Time a contender in the same way, outside of pytest-benchmark."""
        seconds = []
        for _ in range(rounds + 1):
            device.finish()
            started = time.perf_counter()
            call()
            device.finish()
            seconds.append(time.perf_counter() - started)
        seconds = seconds[1:]
        line = Line(case, statistics.median(seconds), max(seconds) - min(seconds), rounds)
        self.lines.append(line)
        return line

    def write(self, path: Path) -> None:
        """Write the lines, and what they depend on, as JSON."""
        versions = {}
        for name in ("fastgen", "numpy", "torch", "cupy-cuda13x", "cupy-cuda12x"):
            try:
                versions[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                continue
        record = {
            "commit": self.commit,
            "device_before": self.before,
            "device_after": device.describe(),
            "versions": versions,
            "lines": [asdict(line) for line in self.lines],
        }
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


TABLE = pytest.StashKey[Table]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fastgen GPU benchmarks")
    group.addoption("--results", type=Path, help="write the table to this file as JSON")
    group.addoption("--commit", default="unknown", help="what was measured")
    group.addoption("--sizes", choices=SIZES, default="full", help="others check the scripts only")


def pytest_configure(config: pytest.Config) -> None:
    table = config.stash[TABLE] = Table(config.getoption("--commit"))
    if config.getoption("--sizes") == "tiny" and not table.peaks:  # what needs them is to run too
        table.peaks = next(iter(device.PEAKS.values()))


@pytest.fixture
def table(request: pytest.FixtureRequest) -> Table:
    """Return the table of this run."""
    return request.config.stash[TABLE]


@dataclass(frozen=True)
class Sizes:
    """Chooses among the sizes of a case."""

    wanted: str

    def __call__(self, full: T, small: T, tiny: T) -> T:
        return {"full": full, "small": small, "tiny": tiny}[self.wanted]

    def target(self, seconds: float) -> float | None:
        """Return what is promised, which is so of the full sizes."""
        return seconds if self.wanted == "full" else None


@pytest.fixture
def sizes(request: pytest.FixtureRequest) -> Sizes:
    """Return what chooses the sizes of this run."""
    return Sizes(request.config.getoption("--sizes"))


@pytest.hookimpl(trylast=True)  # below the tables of pytest-benchmark
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the figures of this run."""
    table = config.stash[TABLE]
    if not table.lines:
        return
    write = terminalreporter.write_line
    terminalreporter.section("seconds")
    after = device.describe()
    for title, state in (("before", table.before), ("after", after)):
        write(f"{title}: {', '.join(f'{key} {value}' for key, value in state.items())}")
    write(f"commit {table.commit}")
    width = max(len(line.case) for line in table.lines)
    for line in table.lines:
        target = floor = ""
        if line.target is not None:
            verdict = "met" if line.seconds <= line.target else "missed"
            target = f"<= {line.target:g} s {verdict}"
        if line.floor:
            floor = f"floor {line.floor:.3g} s ({line.floor / line.seconds:.0%} of peak)"
        seconds = f"{line.seconds:9.4g} s +-{line.spread:8.2g}"
        notes = "; ".join(line.notes)
        write(f"{line.case:<{width}}  {seconds}  {target:<18}  {floor:<34} {notes}".rstrip())
    path = config.getoption("--results")
    if path is not None:
        table.write(path)
