"""The house rules that no linter knows: includes, imports, documents and what the linker made."""

from __future__ import annotations

import ast
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from fastgen import _core

ROOT = Path(__file__).resolve().parent.parent
IN_CI = os.environ.get("CI") == "true"
TARGETS = ("avx512vnni", "avx2", "amx", "baseline", "portable")
# Code of these may use instructions that not every x86-64 CPU has.
NEWER = ("avx512vnni", "avx2", "amx")


def check_includes(root: Path) -> subprocess.CompletedProcess[str]:
    script = ROOT / "csrc" / "check_includes.py"
    return subprocess.run([sys.executable, script, root], capture_output=True, text=True)


def test_includes_point_one_way() -> None:
    result = check_includes(ROOT / "csrc")
    assert (result.returncode, result.stdout) == (0, "")


@pytest.mark.parametrize(
    ("name", "line", "found"),
    [
        ("common/shapes.hpp", '#include "cpu/kernels.hpp"', "common may not include cpu/"),
        ("common/shapes.hpp", '#include "../cpu/kernels.hpp"', "common may not include ../cpu/"),
        ("cpu/engine.cpp", "#  include <pybind11/numpy.h>", "cpu may not include pybind11/"),
        ("cpu/engine.cpp", "#include <Python.h>", "cpu may not include Python.h"),
        ("cpu/target_avx2.cpp", "#include <vector>", "vector is not for it"),
        ("cpu/row-inl.hpp", "#include <algorithm>", "algorithm is not for it"),
        ("cpu/kernels.hpp", "#include <string>", "target_avx2.cpp is compiled per target, string"),
        ("cuda/join.cu", '#include "cpu/kernels.hpp"', "cuda may not include cpu/"),
        ("cuda/join.cu", '#include "emulator/block.hpp"', "cuda may not include emulator/"),
        ("cuda/join.cu", "__shared__ int counts[32];", "has shared memory other than"),
        ("cuda/join.cu", "inline void f() { asm volatile(); }", "which belong into ptx.cuh"),
        ("cuda/join.cu", "#include <cub/cub.cuh>", "has a kernel library"),
        ("bindings/cuda/rows.cpp", '#include "cpu/kernels.hpp"', "may not include cpu/"),
        ("bindings/rows.cpp", '#include "cuda/gpu.hpp"', "bindings may not include cuda/"),
    ],
)
def test_include_check_finds_a_planted_violation(
    tmp_path: Path, name: str, line: str, found: str
) -> None:
    sources = {
        "common/shapes.hpp": "#include <cstdint>\n",
        "cpu/kernels.hpp": '#include "common/shapes.hpp"\n',
        "cpu/row-inl.hpp": "#include <cstdint>\n",
        "cpu/target_avx2.cpp": '#include "cpu/kernels.hpp"\n#include "cpu/row-inl.hpp"\n',
        "cpu/engine.cpp": '#include "cpu/kernels.hpp"\n#include <vector>\n',
        "cuda/gpu.hpp": '#include "emulator/cuda_runtime.hpp"\n',
        "cuda/join.cu": '#include "cuda/gpu.hpp"\n#include "common/shapes.hpp"\n',
        "bindings/rows.cpp": '#include "cpu/kernels.hpp"\n#include <Python.h>\n',
        "bindings/cuda/rows.cpp": '#include "cuda/gpu.hpp"\n#include <Python.h>\n',
    }
    for path, text in sources.items():
        (tmp_path / path).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / path).write_text(text)
    assert check_includes(tmp_path).returncode == 0

    (tmp_path / name).write_text(f"{sources[name]}{line}\n")
    result = check_includes(tmp_path)
    assert result.returncode == 1
    assert found in result.stdout


def test_no_module_imports_names_from_the_package_root() -> None:
    wrong = []
    for path in (ROOT / "fastgen").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "fastgen":
                names = [alias.name for alias in node.names]
                compiled = ("_core", "_cuda")
                if any(
                    not (ROOT / "fastgen" / f"{n}.py").exists() for n in set(names) - set(compiled)
                ):
                    wrong.append(f"{path.name}:{node.lineno}")
    # What `__init__` offers is for users; the package itself imports the defining modules.
    assert wrong == []


def documents() -> list[Path]:
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]


def code_blocks(path: Path, language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```$", path.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )


def shell_commands(path: Path) -> list[list[str]]:
    lines = "\n".join(code_blocks(path, "sh")).splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.name)
def test_documented_make_targets_exist(document: Path) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    known = set(re.findall(r"^([a-z-]+):(?!=)", makefile, re.MULTILINE))
    used = {words[1] for words in shell_commands(document) if words[0] == "make"}
    used |= set(re.findall(r"`make ([a-z-]+)", document.read_text("utf-8")))
    assert used
    assert used <= known


def test_documented_paths_exist() -> None:
    missing = []
    for document in [*documents(), ROOT / "csrc" / "README.md", ROOT / "docs" / "architecture.md"]:
        names = re.findall(r"(?:[a-z_]+/)+[A-Za-z_.-]+\.[a-z]+", document.read_text("utf-8"))
        missing += [n for n in names if not any((r / n).exists() for r in (ROOT, ROOT / "csrc"))]
    assert missing == []


def test_the_two_commands_stand_at_the_top_of_the_readme() -> None:
    assert shell_commands(ROOT / "README.md")[:2] == [["make", "demo"], ["make", "test"]]


def test_ci_runs_what_the_readme_says() -> None:
    lines = (ROOT / ".ci" / "run").read_text("utf-8").splitlines()
    assert lines[-2:] == ["make test", "make lint"]


def test_readme_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich")
    rng = np.random.default_rng(0)
    for name, rows in (("real", 60), ("fake", 50)):
        np.save(tmp_path / f"{name}.npy", rng.normal(size=(rows, 16)).astype(np.float32))
    np.save(tmp_path / "logits.npy", rng.normal(size=(50, 10)).astype(np.float32))
    monkeypatch.chdir(tmp_path)

    (block,) = code_blocks(ROOT / "README.md", "python")
    exec(compile(block, "<README.md>", "exec"), {})

    commands = [words for words in shell_commands(ROOT / "README.md") if words[0] == "fastgen"]
    assert commands
    for words in commands:
        if "demo" in words:  # tested on its own
            continue
        command = [sys.executable, "-m", "fastgen", *words[1:]]
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 0, f"{shlex.join(words)}: {result.stderr}"


def test_every_environment_variable_is_in_the_readme() -> None:
    sources = [*(ROOT / "fastgen").rglob("*.py"), *(ROOT / "csrc").rglob("*.[ch]pp")]
    # csrc/emulator/README.md has the emulator's own, and tests have theirs.
    tools = (ROOT / "csrc" / "emulator", ROOT / "csrc" / "tests")
    sources = [path for path in sources if not any(map(path.is_relative_to, tools))]
    text = "\n".join(path.read_text("utf-8") for path in sources)
    reads = r"""(?:environ(?:\.get\(|\[)|getenv\()\s*["'](FASTGEN_[A-Z_]+)["']"""
    documented = re.findall(
        r"^\| `(FASTGEN_[A-Z_]+)`", (ROOT / "README.md").read_text(), re.MULTILINE
    )
    assert sorted(set(re.findall(reads, text))) == sorted(documented)


def test_changelog_has_the_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_constraints_pin_what_the_project_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    requirements = [*project["dependencies"]]
    for extra in ("cli", "sklearn", "torch", "test", "lint"):
        requirements += project["optional-dependencies"][extra]
    wanted = {re.split(r"[\[<>=~! ]", requirement)[0] for requirement in requirements}
    text = (ROOT / "constraints.txt").read_text("utf-8")
    pinned = {line.split("==")[0] for line in text.splitlines() if "==" in line}
    assert wanted <= pinned


# What the linker made. A function that two instruction sets share is one symbol, and the linker
# keeps one body: perhaps the one with instructions that the CPU at hand does not have.


def output_of(tool: str, *arguments: str | Path) -> str:
    if shutil.which(tool) is None:
        pytest.skip(f"needs {tool}")
    return subprocess.run([tool, *arguments], capture_output=True, text=True, check=True).stdout


def target_objects() -> dict[str, Path]:
    pattern = "build/cp*/CMakeFiles/fastgen_cpu.dir/csrc/cpu/target_*.o"
    objects = {path.name.split(".")[0].removeprefix("target_"): path for path in ROOT.glob(pattern)}
    if not objects:
        assert not IN_CI, "the build folder is gone"
        pytest.skip("needs the build folder (make build)")
    return objects


def belongs_to(symbol: str, target: str) -> bool:
    return f"{len(target)}{target}" in symbol  # as a namespace is mangled


def newer_instructions(listing: str) -> dict[str, str]:
    """Map a function to its first AVX, AVX-512 or AMX instruction."""
    found: dict[str, str] = {}
    function = ""
    for line in listing.splitlines():
        if head := re.match(r"[0-9a-f]+ <(.+)>:$", line):
            function = head[1]
        elif (code := re.match(r"\s+[0-9a-f]+:\t\s*(\S+)(.*)", line)) and (
            code[1].startswith("v") or re.search(r"%[yzt]mm|%k[0-7]", code[2])
        ):
            found.setdefault(function, code[1] + code[2])
    return found


def test_no_symbol_is_shared_between_instruction_sets() -> None:
    owners: dict[str, str] = {}
    objects = target_objects()
    assert len(objects) > 1 or platform.machine() != "x86_64"
    for target, path in objects.items():
        assert target in TARGETS
        lines = output_of("nm", "--defined-only", "--extern-only", path).splitlines()
        for symbol in (line.split()[-1] for line in lines):
            if symbol.startswith("DW.ref."):  # a pointer for exception tables, no code
                continue
            assert belongs_to(symbol, target), f"{path.name} defines {symbol} for everybody"
            assert owners.setdefault(symbol, target) == target
    assert owners


@pytest.mark.skipif(platform.machine() != "x86_64", reason="about x86-64 instructions")
def test_code_for_every_cpu_has_no_newer_instructions() -> None:
    objects = target_objects()
    for target in {"baseline", "portable"} & set(objects):
        listing = output_of("objdump", "-d", "--no-show-raw-insn", objects[target])
        assert newer_instructions(listing) == {}
    for target in set(NEWER) & set(objects):  # or this test would prove nothing
        listing = output_of("objdump", "-d", "--no-show-raw-insn", objects[target])
        assert newer_instructions(listing)

    listing = output_of("objdump", "-d", "--no-show-raw-insn", Path(_core.__file__))
    found = newer_instructions(listing)
    leaked = {
        function: code
        for function, code in found.items()
        if not any(belongs_to(function, target) for target in NEWER)
    }
    assert leaked == {}
    assert found or not set(NEWER) & set(objects)
