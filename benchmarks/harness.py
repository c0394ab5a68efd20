"""One run of the benchmarks: its settings, its measured units, and the lines of its table."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gemm

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LIBRARIES = (
    *("fastgen", "numpy", "scipy", "scikit-learn", "threadpoolctl", "prdc"),
    *("torch", "torch-fidelity", "torchmetrics", "clean-fid"),
)


@dataclass
class Line:
    """One line of the closing table: `ratio` of `what`, and the target it is compared with."""

    case: str
    what: str
    ratio: float
    seconds: float | None = None
    target: float | None = None
    higher_is_better: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """Return "met", "missed", or nothing where there is no target."""
        if self.target is None:
            return ""
        met = self.ratio >= self.target if self.higher_is_better else self.ratio <= self.target
        return "met" if met else "missed"


class Bench:
    """Settings of this run, its measured units, and the lines of its closing table."""

    def __init__(self, *, quick: bool, threads: int, only: str) -> None:
        self.quick = quick
        self.threads = threads
        self.isa = only
        self.lines: list[Line] = []
        self.gemm = cache(self._gemm)
        self.peak = cache(self._peak)

    def instruction_sets(self) -> list[str]:
        """Return the instruction sets to measure on this processor, best first."""
        from fastgen import _core

        names = _core.instruction_sets()
        if self.isa:
            return [name for name in names if name == self.isa]
        return [name for name in names if name not in {"baseline", "portable"}] or names[:1]

    @property
    def best_instruction_set(self) -> str:
        """Return the best instruction set of this processor."""
        from fastgen import _core

        return _core.instruction_sets()[0]

    def record(self, benchmark: Any, line: Line, **extra: Any) -> None:
        """Add a line to the table and write it, with `extra`, into the benchmark's JSON."""
        self.lines.append(line)
        ratios = benchmark.extra_info.setdefault("ratios", {})
        ratios[line.what] = line.ratio
        benchmark.extra_info.update(extra)

    def record_gemm(
        self,
        benchmark: Any,
        case: str,
        shape: tuple[int, int, int],
        *,
        isa: str | None = None,
        pair_operations: float = 0.0,
        path: str = "int8",
        unit: str = "float32",
        target: float | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        """Record the ratio of the benchmark's median to the product of `shape` (n, m, d) in `unit`.

        With `isa` given, record also the rate of `pair_operations` against its peak on `path`.
        """
        product = self.gemm(*shape, unit)
        seconds = benchmark.stats.stats.median
        core = product.blas.split()[-1]
        what = "GEMM" if unit == "float32" else f"{unit} GEMM"
        notes = [*notes, f"GEMM {product.seconds:.3g} s", f"{product.gflops:.0f} GFLOP/s", core]
        extra: dict[str, Any] = {"gemm": product.to_dict()}
        # The product uses the best instructions there are, whichever of ours is measured.
        best = self.peak(self.best_instruction_set)
        notes.append(f"{product.gflops * 1e9 / best[unit]:.0%} of {unit} peak")
        if isa is not None:
            peak = self.peak(isa)
            rate = pair_operations / seconds
            extra |= {"peak": peak, "operations_per_second": rate}
            notes.append(f"fastgen {rate / peak[path]:.0%} of {path} peak")
        ratio = seconds / product.seconds
        line = Line(case, what, ratio, seconds=seconds, target=target, notes=notes)
        self.record(benchmark, line, **extra)

    def record_against(
        self,
        benchmark: Any,
        case: str,
        measured: dict[str, float],
        targets: dict[str, float] | None = None,
    ) -> None:
        """Record how many times as long as fastgen the benchmark took.

        `measured` has fastgen's seconds in the same run by instruction set, or by that and the way
        that was taken; `targets` the least ratios wanted.
        """
        for way, seconds in measured.items():
            ratio = benchmark.stats.stats.median / seconds
            target = (targets or {}).get(way)
            line = Line(case, f"fastgen, {way}", ratio, target=target, higher_is_better=True)
            self.record(benchmark, line)

    def _gemm(self, n: int, m: int, d: int, dtype: str) -> gemm.Gemm:
        rounds = 3 if self.quick else None
        return gemm.measure(n, m, d, threads=self.threads, rounds=rounds, dtype=dtype)

    def _peak(self, isa: str) -> dict[str, float]:
        """Return operations per second of register-only loops, by path."""
        from fastgen import _core

        # The best of several: whatever disturbs a loop can only make it slower.
        runs = [
            _core.measure_peak(isa, threads=self.threads, seconds=0.02 if self.quick else 0.3)
            for _ in range(5)
        ]
        peak = {kind: max(run[kind] for run in runs) for kind in ("int8", "float32")}
        # Not measured: a register has half as many float64 lanes, and they are as fast.
        return peak | {"float64": peak["float32"] / 2.0}


def in_turns(
    benchmark: Any, call: Callable[[], Any], other: Callable[[], Any], *, rounds: int
) -> tuple[Any, list[float]]:
    """Time `call` as the benchmark, and before each of its rounds, outside of them, `other`.

    Returns what `call` returned, and the seconds of `other`.
    """
    seconds: list[float] = []

    def call_other() -> None:
        started = time.perf_counter()
        other()
        seconds.append(time.perf_counter() - started)

    found = benchmark.pedantic(call, setup=call_other, rounds=rounds, warmup_rounds=1)
    return found, seconds[1 : 1 + rounds]  # the first belongs to the warm-up


def versions() -> dict[str, str]:
    """Return the versions of the libraries that take part."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def processor() -> str:
    """Return the name of the processor."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in text.splitlines() if "model name" in line]
    return names[0] if names else platform.machine()
