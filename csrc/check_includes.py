"""Check the direction of the C++ includes: common <- cpu <- bindings (csrc/README.md says why).

Files compiled once per instruction set (`target_*.cpp`, `*-inl.hpp` and what they include) may not
reach headers whose inline functions would become weak symbols shared between instruction sets.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

PYTHON = r"Python\.h|pybind11/"
FORBIDDEN = {
    "common": rf"(cpu|cuda|bindings|tests)/|{PYTHON}",
    "cpu": rf"(cuda|bindings|tests)/|{PYTHON}",
    "cuda": rf"(cpu|bindings|tests)/|{PYTHON}",
    "tests": rf"bindings/|{PYTHON}",
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


def violations(root: Path) -> list[str]:
    """Return one line per include that points the wrong way."""
    wrong = set()
    for path in sorted(p.resolve() for p in root.rglob("*.[ch]pp")):
        folder = path.relative_to(root.resolve()).parts[0]
        for name in includes(path):
            if folder in FORBIDDEN and re.match(rf"(\.\./)*({FORBIDDEN[folder]})", name):
                wrong.add(f"{path}: {folder} may not include {name}")
        if path.name.startswith("target_") or path.name.endswith("-inl.hpp"):
            for owner, name in reached(path, root, set()):
                if re.match(SHARED_INLINE, name):
                    wrong.add(f"{owner}: {path.name} is compiled per target, {name} is not for it")
    return sorted(wrong)


if __name__ == "__main__":
    found = violations(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
    print(*found, sep="\n", end="\n" if found else "")
    sys.exit(bool(found))
