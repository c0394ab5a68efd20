"""Print what every GPU kernel needs of a multiprocessor, and fail if a hot one spills registers.

Hot kernels are those with `__launch_bounds__`: they are tuned to a number of registers, and one
that does not get by with it keeps values in slow memory without any other sign.

    python csrc/cuda/resources.py [--arch sm_80,sm_90] [file.cu ...]

The exit status is 1 if a kernel does not compile or a hot one spills; 0 without a CUDA compiler.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
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

    source: str
    name: str
    arch: str
    bounds: str  # of __launch_bounds__; empty: not a hot kernel
    registers: int
    stack: int
    spills: int
    shared: int  # static; dynamic shared memory is up to the launch


def find_nvcc() -> str | None:
    """Return the CUDA compiler as CMake would find it."""
    for name in (os.environ.get("CUDACXX"), "nvcc", "/usr/local/cuda/bin/nvcc"):
        if name and (found := shutil.which(name)):
            return found
    return None


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


def compile_one(nvcc: str, source: Path, arch: str) -> tuple[str, str]:
    """Return what the compiler prints about one file, and what went wrong if anything did."""
    with tempfile.TemporaryDirectory() as folder:
        command = [nvcc, "-cubin", "-std=c++17", f"-arch={arch}", "-Xptxas", "-v"]
        command += ["-I", str(FOLDER.parent), str(source), "-o", str(Path(folder) / "kernels")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr, "" if done.returncode == 0 else done.stderr + done.stdout


def parse(text: str, source: str, hot: dict[str, str]) -> list[Kernel]:
    """Return the kernels in the compiler's output."""
    kernels, names = [], []
    for part in re.split(r"(?=ptxas info\s+: Compiling entry)", text):
        entry, spills, used = ENTRY.search(part), SPILLS.search(part), USED.search(part)
        if not (entry and spills and used):
            continue
        names.append(entry[1])
        kernels.append((entry, spills, used))
    found = []
    for name, (entry, spills, used) in zip(demangled(names), kernels, strict=True):
        bare = re.sub(r"<.*", "", name)
        found.append(
            Kernel(source, name, entry[2], hot.get(bare, ""), int(used[1]), int(spills[1]),
                   int(spills[2]) + int(spills[3]), int(used[2] or 0))
        )  # fmt: skip
    return found


def main() -> int:
    """Compile, print the table, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", default="sm_80,sm_90", help="architectures, by commas")
    parser.add_argument("files", nargs="*", type=Path)
    options = parser.parse_args()
    nvcc = find_nvcc()
    if nvcc is None:
        print(
            "fastgen: there is no CUDA compiler (nvcc) here: the kernels' registers are not checked"
        )
        return 0
    sources = options.files or sorted(FOLDER.glob("*.cu"))
    jobs = [(source, arch) for source in sources for arch in options.arch.split(",")]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        outputs = list(pool.map(lambda job: compile_one(nvcc, *job), jobs))
    hot, kernels, failed = hot_kernels(), [], False
    for (source, arch), (text, error) in zip(jobs, outputs, strict=True):
        if error:
            print(f"{source.name} does not compile for {arch}:\n{error}", file=sys.stderr)
            failed = True
        kernels += parse(text, source.name, hot)
    width = max((len(k.name) for k in kernels), default=6)
    header = f"{'arch':6} registers  spills  stack  shared  launch bounds"
    print(f"{'kernel':{width}}  {'file':20} {header}")
    for kernel in kernels:
        print(
            f"{kernel.name:{width}}  {kernel.source:20} {kernel.arch:6} {kernel.registers:9}  "
            f"{kernel.spills:6}  {kernel.stack:5}  {kernel.shared:6}  {kernel.bounds}"
        )
    for kernel in kernels:
        if kernel.bounds and kernel.spills:
            print(
                f"fastgen: {kernel.name} ({kernel.source}, {kernel.arch}) spills "
                f"{kernel.spills} bytes of registers",
                file=sys.stderr,
            )
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
