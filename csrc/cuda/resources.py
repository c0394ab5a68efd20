"""Print what every GPU kernel needs of a multiprocessor, and fail if a hot one spills registers.

Hot kernels are those with `__launch_bounds__`: they are tuned to a number of registers, and one
that does not get by with it keeps values in slow memory without any other sign.

    python csrc/cuda/resources.py build.log
    nvcc -cubin -std=c++17 -arch=sm_90 -Xptxas -v -I csrc csrc/cuda/x.cu -o /dev/null 2>&1 |
        python csrc/cuda/resources.py /dev/stdin

reads what the compiler prints with `-Xptxas -v`, for any number of files and architectures. The
exit status is 1 if a hot kernel spills, or if there is no kernel.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
HOT = re.compile(r"__launch_bounds__\(([^()]*(?:\([^()]*\)[^()]*)*)\)\s*(\w+)\s*\(")
ENTRY = re.compile(r"Compiling entry function '(\w+)' for '(\w+)'")
SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers(?:.*?, (\d+) bytes smem)?")


@dataclass(frozen=True)
class Kernel:
    """What ptxas says of one kernel on one architecture."""

    name: str
    arch: str
    bounds: str  # of __launch_bounds__; empty: not a hot kernel
    registers: int
    stack: int
    spills: int
    shared: int  # static; dynamic shared memory is up to the launch


def hot_kernels() -> dict[str, str]:
    """Return the bounds of all kernels that have some, by name."""
    found = {}
    for path in sorted(FOLDER.glob("*.cu*")):
        text = re.sub(r"//.*", "", path.read_text("utf-8"))
        found.update({name: " ".join(bounds.split()) for bounds, name in HOT.findall(text)})
    return found


def demangled(names: list[str]) -> list[str]:
    """Return readable names, without the parameters, namespaces and void."""
    filt = shutil.which("c++filt") or shutil.which("cu++filt")
    if not filt or not names:
        return names
    short = []
    for line in subprocess.check_output([filt], input="\n".join(names), text=True).splitlines():
        plain = re.sub(r"\(anonymous namespace\)::|fastgen::cuda::|_NV_ANON_\w+::", "", line)
        short.append(re.sub(r"^void |\((?!anonymous).*$", "", plain))
    return short


def parse(text: str, hot: dict[str, str]) -> list[Kernel]:
    """Return the kernels in the compiler's output."""
    found = []
    for part in re.split(r"(?=ptxas info\s+: Compiling entry)", text):
        entry, spills, used = ENTRY.search(part), SPILLS.search(part), USED.search(part)
        if entry and spills and used:
            found.append((entry, spills, used))
    kernels = []
    names = demangled([entry[1] for entry, _, _ in found])
    for name, (entry, spills, used) in zip(names, found, strict=True):
        bounds = hot.get(re.sub(r"<.*", "", name), "")
        stack, stores, loads = (int(number) for number in spills.groups())
        shared = int(used[2] or 0)
        kernels.append(Kernel(name, entry[2], bounds, int(used[1]), stack, stores + loads, shared))
    return kernels


def main() -> int:
    """Print the table, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("log", type=Path, help="what was printed with -Xptxas -v")
    hot = hot_kernels()
    kernels = parse(parser.parse_args().log.read_text("utf-8"), hot)
    missing = hot.keys() - {re.sub(r"<.*", "", kernel.name) for kernel in kernels}
    width = max((len(kernel.name) for kernel in kernels), default=6)
    print(f"{'kernel':{width}}  arch    registers  spills  stack  shared  launch bounds")
    for k in sorted(kernels, key=lambda kernel: (kernel.arch, kernel.name)):
        print(
            f"{k.name:{width}}  {k.arch:6}  {k.registers:9}  {k.spills:6}  {k.stack:5}  "
            f"{k.shared:6}  {k.bounds}"
        )
    spilling = [kernel for kernel in kernels if kernel.bounds and kernel.spills]
    for kernel in spilling:
        text = f"{kernel.name} ({kernel.arch}) spills {kernel.spills} bytes of registers"
        print(f"fastgen: {text}", file=sys.stderr)
    if missing:
        print(f"fastgen: not compiled: {', '.join(sorted(missing))}")
    return int(not kernels or bool(spilling))


if __name__ == "__main__":
    sys.exit(main())
