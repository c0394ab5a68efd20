"""Plant bugs in the kernels, one at a time, and show that the emulator's tests catch each.

    python csrc/tests/emulator/mutants.py [words]

runs after `cmake --build --preset emulator`. Words choose mutants by their description: one of
them has to be in it. Exit status 0: every bug was caught.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

CSRC = Path(__file__).resolve().parents[2]
BUILD = CSRC.parent / "build" / "emulator"
TIMEOUT = 300  # seconds; a test that hangs has been caught too


@dataclass(frozen=True)
class Mutant:
    """`old` becomes `new` in `file`; `sources` that include it are compiled again for `test`."""

    what: str
    file: str
    old: str
    new: str
    test: str
    sources: tuple[str, ...] = ()


PRODUCT, JOIN = "cuda/tile_product.cuh", "cuda/join_tiles.cuh"
MUTANTS = [
    Mutant(
        "copies waited for one group too few",
        PRODUCT,
        "copy_async_wait<kStages - 2>();",
        "copy_async_wait<kStages - 1>();",
        "test_tile_product",
    ),
    Mutant(
        "no barrier between a slice's arrival and its use",
        PRODUCT,
        "    __syncthreads();\n    fill(next);",
        "    fill(next);",
        "test_tile_product",
    ),
    Mutant(
        "copies do not swizzle, loads do",
        PRODUCT,
        "((chunk ^ (row % 8)) << 4)",
        "(chunk << 4)",
        "test_tile_product",
    ),
    Mutant(
        "the ring is filled one slice too far",
        PRODUCT,
        "ahead_ = min(kStages - 1,",
        "ahead_ = min(kStages,",
        "test_tile_product",
    ),
    Mutant(
        "fragments of the right operand from the wrong lanes",
        PRODUCT,
        "((lane / 8 % 2) ^ (lane % 8))",
        "((lane / 16) ^ (lane % 8))",
        "test_tile_product",
    ),
    Mutant(
        "the next slice is multiplied from the slot before",
        PRODUCT,
        "          advance();\n          arrive(next);\n          load(fragments[0], 0);",
        "          arrive(next);\n          load(fragments[0], 0);\n          advance();",
        "test_tile_product",
    ),
    Mutant(
        "planes swapped in the first pass",
        PRODUCT,
        "rows_.planes[!last && pass == 0]",
        "rows_.planes[!last && pass == 1]",
        "test_tile_product",
    ),
]


def _commands() -> dict[str, list[str]]:
    """Return the compiler's arguments by source, relative to csrc, less source and output."""
    found = {}
    for entry in json.loads((BUILD / "compile_commands.json").read_text("utf-8")):
        words = shlex.split(entry["command"])
        at = words.index("-o")
        source = Path(entry["file"]).resolve()
        if source.is_relative_to(CSRC):
            kept = [word for word in words[:at] if word != "-c"]
            found[str(source.relative_to(CSRC))] = kept
    return found


def _objects() -> dict[str, Path]:
    """Return the emulator's own object files by source, relative to csrc."""
    folder = next(BUILD.rglob("fastgen_emulated.dir"))
    objects = {}
    for path in folder.rglob("*.o"):
        parts = path.relative_to(folder).with_suffix("").parts
        while parts and parts[0] in ("__", "csrc"):
            parts = parts[1:]
        name = "/".join(parts)
        objects[name if "/" in name else f"emulator/{name}"] = path
    return objects


def _run(command: list[str]) -> tuple[int, str]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        return 1, "it hung"
    return done.returncode, (done.stderr or done.stdout).strip()


def check(mutant: Mutant) -> str:
    """Return what is wrong: nothing where the bug was caught."""
    text = (CSRC / mutant.file).read_text("utf-8")
    if text.count(mutant.old) < 1:
        return "the text to change is not there any more"
    commands, objects = _commands(), _objects()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        changed = root / mutant.file
        changed.parent.mkdir(parents=True)
        changed.write_text(text.replace(mutant.old, mutant.new), "utf-8")
        linked = dict(objects)
        test = f"tests/emulator/{mutant.test}.cpp"
        own = {mutant.file} if mutant.file in objects else set()
        for source in {*mutant.sources, test, *own}:
            path = root / source
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text((CSRC / source).read_text("utf-8"), "utf-8")
            linked[source] = root / f"{source.replace('/', '_')}.o"
            folders = [f"-I{root}", f"-I{(CSRC / source).parent}"]
            command = [*commands[source], *folders, "-c", str(path), "-o", str(linked[source])]
            command[1:1] = [f"-I{root}"]  # before the build's own
            status, output = _run(command)
            if status:
                return f"does not compile: {output[:2000]}"
        program = root / "test"
        compiler = commands[test][0]
        sanitizers = [word for word in commands[test] if word.startswith("-fsanitize=")]
        status, output = _run(
            [compiler, *sanitizers, *map(str, linked.values()), "-o", str(program), "-pthread"]
        )
        if status:
            return f"does not link: {output[:2000]}"
        status, output = _run([str(program)])
        return "" if status else "NOT CAUGHT"


def main() -> int:
    """Check the mutants that the arguments choose."""
    words = sys.argv[1:]
    chosen = [m for m in MUTANTS if not words or any(word in m.what for word in words)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        problems = list(pool.map(check, chosen))
    for mutant, problem in zip(chosen, problems, strict=True):
        print(f"{problem or 'caught':<10} {mutant.file}: {mutant.what}")
    missed = sum(map(bool, problems))
    print(f"{len(chosen) - missed} of {len(chosen)} planted bugs caught")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
