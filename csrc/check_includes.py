"""Check the direction of the C++ includes (csrc/README.md says why).

common <- cpu <- bindings, common <- cuda <- bindings/cuda. Files of csrc/cpu that are compiled once
per instruction set (`target_*.cpp`, `*-inl.hpp` and what they include) may not reach headers whose
inline functions would become weak symbols shared between instruction sets. Kernel sources may use
only what the host emulator has as well.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

SOURCES = (".cpp", ".hpp", ".cu", ".cuh")
PYTHON = r"Python\.h|pybind11/"
# By folder; the innermost that has an entry counts.
FORBIDDEN = {
    "common": rf"(cpu|cuda|emulator|bindings|tests)/|{PYTHON}",
    "cpu": rf"(cuda|emulator|bindings|tests)/|{PYTHON}",
    "cuda": rf"(cpu|emulator|bindings|tests)/|{PYTHON}",
    "emulator": rf"(common|cpu|cuda|bindings|tests)/|{PYTHON}",
    "bindings": r"(cuda|emulator|tests)/",
    "bindings/cuda": r"(cpu|emulator|tests)/",
    "tests": rf"bindings/|{PYTHON}",
}
# The two places where csrc/cuda meets the emulator.
DOORS = ("cuda/gpu.hpp", "cuda/ptx.cuh")
# What the emulator does not know.
NOT_EMULATED = {
    r"\b__shared__\b": "shared memory other than shared_memory()",
    r"\basm\b": "instructions, which belong into ptx.cuh",
    r"<<<": "a launch other than launch()",
    r'#\s*include\s*[<"](thrust|cub|cute|cutlass|cooperative_groups|mma\.h)': "a kernel library",
}
SHARED_INLINE = (
    r"(algorithm|any|array|condition_variable|deque|filesystem|forward_list|fstream|functional|"
    r"future|iomanip|iostream|iterator|list|map|memory|mutex|numeric|optional|ostream|queue|random|"
    r"regex|set|sstream|stack|stdexcept|string|string_view|thread|tuple|unordered_map|"
    r"unordered_set|valarray|variant|vector)$"
)


def includes(path: Path) -> list[str]:
    """Return what a file includes, without quotes or brackets."""
    return re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', path.read_text("utf-8"), re.MULTILINE)


def reached(path: Path, root: Path, seen: set[Path]) -> list[tuple[Path, str]]:
    """Return every include below `path`, each with the file of ours that has it."""
    seen.add(path)
    found = [(path, name) for name in includes(path)]
    for name in includes(path):
        for ours in (path.parent / name, root / name):
            if ours.is_file() and ours.resolve() not in seen:
                found += reached(ours.resolve(), root, seen)
                break
    return found


def forbidden(path: Path) -> str | None:
    """Return what a file (relative to csrc) may not include, as a regular expression."""
    if path.as_posix() in DOORS:
        return None
    return next((FORBIDDEN[p.as_posix()] for p in path.parents if p.as_posix() in FORBIDDEN), None)


def violations(root: Path) -> list[str]:
    """Return one line per include that points the wrong way."""
    wrong = set()
    root = root.resolve()
    for path in sorted(p for p in root.rglob("*") if p.suffix in SOURCES):
        inside = path.relative_to(root)
        rule = forbidden(inside)
        for name in includes(path):
            if rule and re.match(rf"(\.\./)*({rule})", name):
                wrong.add(f"{path}: {inside.parent.as_posix()} may not include {name}")
        if inside.parts[0] == "cpu" and re.match(r"target_|.*-inl\.hpp$", path.name):
            for owner, name in reached(path, root, set()):
                if re.match(SHARED_INLINE, name):
                    wrong.add(f"{owner}: {path.name} is compiled per target, {name} is not for it")
        if inside.parts[0] == "cuda" and path.name != "ptx.cuh":
            text = re.sub(r"//.*", "", path.read_text("utf-8"))
            found = [what for sign, what in NOT_EMULATED.items() if re.search(sign, text)]
            wrong |= {f"{path}: has {what}" for what in found}
    return sorted(wrong)


if __name__ == "__main__":
    found = violations(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
    print(*found, sep="\n", end="\n" if found else "")
    sys.exit(bool(found))
