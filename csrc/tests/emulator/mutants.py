"""Plant bugs in the kernels, one at a time, and show that the emulator's tests catch each.

    python csrc/tests/emulator/mutants.py [word ...]

runs after `cmake --build --preset emulator`. Words choose mutants by their description: one of
them has to be in it. Exit status 0: every bug was caught.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

CSRC = Path(__file__).resolve().parents[2]
BUILD = CSRC.parent / "build" / "emulator"
TIMEOUT = 300  # seconds; a test that hangs has been caught too


@dataclass(frozen=True)
class Mutant:
    """`old` becomes `new` in `file`; `test` runs with `sources` compiled anew.

    Where none are named: the file itself, and of a header the test.
    """

    what: str
    file: str
    old: str
    new: str
    test: str
    sources: tuple[str, ...] = ()


MUTANTS = [
    # The ring of the join's tiles: waits, barriers, swizzle, order of slices and planes.
    Mutant(
        "copies waited for one group too few",
        "cuda/tile_product.cuh",
        "copy_async_wait<kStages - 2>();",
        "copy_async_wait<kStages - 1>();",
        "test_tile_product",
    ),
    Mutant(
        "no barrier between a slice's arrival and its use",
        "cuda/tile_product.cuh",
        "    __syncthreads();\n    fill(next);",
        "    fill(next);",
        "test_tile_product",
    ),
    Mutant(
        "copies do not swizzle, loads do",
        "cuda/tile_product.cuh",
        "((chunk ^ (row % 8)) << 4)",
        "(chunk << 4)",
        "test_tile_product",
    ),
    Mutant(
        "the ring is filled one slice too far",
        "cuda/tile_product.cuh",
        "ahead_ = min(kStages - 1,",
        "ahead_ = min(kStages,",
        "test_tile_product",
    ),
    Mutant(
        "fragments of the right operand from the wrong lanes",
        "cuda/tile_product.cuh",
        "((lane / 8 % 2) ^ (lane % 8))",
        "((lane / 16) ^ (lane % 8))",
        "test_tile_product",
    ),
    Mutant(
        "the next slice is multiplied from the slot before",
        "cuda/tile_product.cuh",
        "          advance();\n          arrive(next);\n          load(fragments[0], 0);",
        "          arrive(next);\n          load(fragments[0], 0);\n          advance();",
        "test_tile_product",
    ),
    Mutant(
        "planes swapped in the second pass",
        "cuda/tile_product.cuh",
        "if (pass == 1) {",
        "if (pass == 2) {",
        "test_tile_product",
    ),
    # The join's epilogue.
    Mutant(
        "columns beyond a narrow last tile are not masked",
        "cuda/join_tiles.cuh",
        "&& !tile.wide &&",
        "&& tile.wide &&",
        "test_join",
        ("cuda/join_tiles.cu",),
    ),
    Mutant(
        "a row is its own neighbour",
        "cuda/join_tiles.cuh",
        "<= tile.row0 + Layout::row(i)) marks.clear",
        "< tile.row0 + Layout::row(i)) marks.clear",
        "test_join",
        ("cuda/join_tiles.cu",),
    ),
    Mutant(
        "counts of warps added before all are there",
        "cuda/join_tiles.cuh",
        "scratch->warp[warp] = sum;\n  __syncthreads();",
        "scratch->warp[warp] = sum;",
        "test_join",
        ("cuda/join_tiles.cu",),
    ),
    Mutant(
        "hits beyond the room there is",
        "cuda/join_tiles.cuh",
        "first + count <= job.capacity;",
        "first <= job.capacity;",
        "test_join",
        ("cuda/join_tiles.cu",),
    ),
    Mutant(
        "a tile with the terms of the tile before",
        "cuda/join_tiles.cu",
        "      buffer ^= 1;\n",
        "",
        "test_join",
    ),
    # Preparation: barriers of the rotation, masks of tails, the bound on the rounding.
    Mutant(
        "no barrier between stages of the rotation",
        "cuda/rotate.cuh",
        "  meet<kWarps>();\n  const int left",
        "  const int left",
        "test_prepare",
        ("cuda/quantise.cu",),
    ),
    Mutant(
        "one of the rotation's writes does not swizzle",
        "cuda/rotate.cuh",
        "(z + placed(16 * group + 4 * part)) =",
        "(z + (16 * group + 4 * part)) =",
        "test_prepare",
        ("cuda/quantise.cu",),
    ),
    Mutant(
        "sums of warps read before all are there",
        "cuda/quantise.cu",
        "v] = value[v];\n  }\n  __syncthreads();\n",
        "v] = value[v];\n  }\n",
        "test_prepare",
    ),
    Mutant(
        "features beyond the last are not masked",
        "cuda/quantise.cu",
        "begin + a * kStep < shape.d",
        "begin + a * kStep < shape.rotated",
        "test_prepare",
    ),
    Mutant(
        "the bound leaves out the rounding to int8",
        "cuda/quantise.cu",
        "summing + rounding;\n  if",
        "summing;\n  if",
        "test_prepare",
    ),
    Mutant(
        "columns beyond the last are not masked",
        "cuda/scan_rows.cu",
        "inside[j] = first + 32 * j < d;",
        "inside[j] = true;",
        "test_prepare",
    ),
    Mutant(
        "rows beyond the block's last are not masked",
        "cuda/scan_rows.cu",
        "row + r < end && inside[j] ?",
        "inside[j] ?",
        "test_prepare",
    ),
    Mutant(
        "shared slices read before they are written",
        "cuda/compare_rows.cu",
        "      centre_slice[lane * kPitch + r] = c;\n    }\n    __syncthreads();\n",
        "      centre_slice[lane * kPitch + r] = c;\n    }\n",
        "test_parts",
    ),
    # Kernel sums.
    Mutant(
        "slices of sums waited for one group too few",
        "cuda/slice_ring.cuh",
        "copy_async_wait<kSumStages - 2>();",
        "copy_async_wait<kSumStages - 1>();",
        "test_kernel_sums",
        ("cuda/sum_tiles_float.cu",),
    ),
    Mutant(
        "products put away while others still multiply",
        "cuda/sum_tile.cuh",
        "product.multiply(ring, task.list.slices, sums);\n    __syncthreads();",
        "product.multiply(ring, task.list.slices, sums);",
        "test_kernel_sums",
        ("cuda/sum_tiles_float.cu",),
    ),
    Mutant(
        "values beyond a block's last column are added",
        "cuda/sum_tile.cuh",
        "values[first + i] = valid(first + i) ? some[i] : Real(0);",
        "values[first + i] = some[i];",
        "test_kernel_sums",
        ("cuda/sum_tiles_float.cu",),
    ),
    Mutant(
        "both rows of a close pair from the window of rows",
        "cuda/sum_tile.cuh",
        "task.rows[1][other]",
        "task.rows[0][other]",
        "test_streamed_sums",
        ("cuda/sum_tiles_float.cu",),
    ),
    Mutant(
        "sums of columns begin anew with every part of the rows",
        "cuda/sum_rows.cu",
        "task.more = begin > 0;",
        "task.more = false;",
        "test_streamed_sums",
    ),
    Mutant(
        "low limbs are not carried between stages",
        "cuda/kernel_sums.cpp",
        "if (stages_ > 0) carry();",
        "",
        "test_limbs",
    ),
]


def _commands(build: Path) -> dict[str, list[str]]:
    """Return the compiler's arguments by source, relative to csrc, less source and output."""
    found = {}
    for entry in json.loads((build / "compile_commands.json").read_text("utf-8")):
        words = shlex.split(entry["command"])
        at = words.index("-o")
        source = Path(entry["file"]).resolve()
        if source.is_relative_to(CSRC):
            # A planted bug may leave a variable unused.
            kept = [word for word in words[:at] if word not in ("-c", "-Werror")]
            found[str(source.relative_to(CSRC))] = kept
    return found


def _objects(build: Path, target: str) -> dict[str, Path]:
    """Return a target's object files by source, relative to csrc."""
    folder = next(build.rglob(f"{target}.dir"))
    objects = {}
    for path in folder.rglob("*.o"):
        parts = path.relative_to(folder).with_suffix("").parts
        while parts[0] in ("__", "csrc"):  # CMake's for .. and for what lies elsewhere
            parts = parts[1:]
        objects["/".join(parts)] = path
    return objects


def _run(command: list[str]) -> tuple[int, str]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        return 1, "it hung"
    return done.returncode, (done.stderr or done.stdout).strip()


def check(mutant: Mutant, build: Path = BUILD) -> str:
    """Return what is wrong: nothing where the bug was caught."""
    text = (CSRC / mutant.file).read_text("utf-8")
    if text.count(mutant.old) != 1:
        return "the text to change is not there, or not once"
    commands = _commands(build)
    test = f"tests/emulator/{mutant.test}.cpp"
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        changed = root / mutant.file
        changed.parent.mkdir(parents=True)
        changed.write_text(text.replace(mutant.old, mutant.new), "utf-8")
        # Of templates that several files have, the first one's is linked.
        linked: dict[str, Path] = {}
        for source in mutant.sources or ((mutant.file,) if mutant.file in commands else (test,)):
            path = root / source
            if source != mutant.file:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text((CSRC / source).read_text("utf-8"), "utf-8")
            linked[source] = root / f"{source.replace('/', '_')}.o"
            command = [*commands[source], "-c", str(path), "-o", str(linked[source])]
            command[1:1] = [f"-I{root}"]  # before the build's own
            status, output = _run(command)
            if status:
                return f"does not compile: {output[:2000]}"
        rest = _objects(build, "fastgen_emulated") | _objects(build, f"emulator_{mutant.test}")
        linked |= {source: path for source, path in rest.items() if source not in linked}
        program = root / "test"
        sanitizers = [word for word in commands[test] if word.startswith("-fsanitize=")]
        command = [commands[test][0], *sanitizers, *map(str, linked.values())]
        status, output = _run([*command, "-o", str(program), "-pthread"])
        if status:
            return f"does not link: {output[:2000]}"
        status, _ = _run([str(program)])
        return "" if status else "NOT CAUGHT"


def main() -> int:
    """Check the mutants that the arguments choose."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", help="of descriptions")
    parser.add_argument("--build", type=Path, default=BUILD, help="of the preset emulator")
    options = parser.parse_args()
    words = options.words
    chosen = [m for m in MUTANTS if not words or any(word in m.what for word in words)]
    caught = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        check_one = partial(check, build=options.build)
        for mutant, problem in zip(chosen, pool.map(check_one, chosen), strict=True):
            print(f"{problem or 'caught'}: {mutant.what} ({mutant.file})", flush=True)
            caught += not problem
    print(f"{caught} of {len(chosen)} planted bugs caught")
    return int(caught < len(chosen))


if __name__ == "__main__":
    sys.exit(main())
