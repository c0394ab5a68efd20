"""What importing costs and drags in; every module can be the first to be imported."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import fastgen

PACKAGE = Path(fastgen.__file__).parent
# `__main__` runs when it is imported: that is what it is for.
MODULES = sorted(
    ".".join(("fastgen", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
        ".__init__"
    )
    for path in PACKAGE.rglob("*.py")
    if path.name != "__main__.py"
)
HEAVY = ("torch", "scipy", "sklearn", "rich", "pandas", "matplotlib", "fastgen._cuda")
ALLOWED_SECONDS = 0.060


def run(code, cwd):
    """Run code in a fresh interpreter outside the source tree."""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_modules_are_found():
    assert {"fastgen", "fastgen.arrays", "fastgen.metrics.prdc"} <= set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_module_alone(module, tmp_path):
    run(f"import {module}", tmp_path)


def test_import_is_light(tmp_path):
    code = f"import sys, fastgen; print(*[name for name in {HEAVY} if name in sys.modules])"
    assert run(code, tmp_path).split() == []
    code = "import sys, fastgen; print('fastgen.numpy_reference' in sys.modules)"
    assert run(code, tmp_path).split() == ["False"]


def test_work_above_the_tree_stays_light(tmp_path):
    code = f"""
import sys
import numpy as np
import fastgen
x = np.random.default_rng(0).standard_normal((300, 16))
fastgen.evaluate(real=x, fake=x[::-1] + 1, metrics=["kid", "prdc"], progress=lambda done: None)
fastgen.membership(real=x, fake=x)
fastgen.mmd(x, x + 1, [fastgen.Gaussian("median"), fastgen.Energy()], permutations=9)
fastgen.cmmd(real=x, fake=x)
fastgen.heldout_log_likelihood(x, x[:200], fastgen.select_bandwidth(x).bandwidth)
fastgen.log_density(x, x, [1.0, 2.0])
print(*[name for name in {HEAVY} if name in sys.modules])
"""
    assert run(code, tmp_path).split() == []


def test_import_is_fast(tmp_path):
    code = """
import numpy, time
start = time.thread_time()
import fastgen
print(time.thread_time() - start)
"""
    # Processor time and the best of several: a busy machine must not fail the test. Of one thread:
    # those that NumPy's BLAS has just started spin for a while.
    assert min(float(run(code, tmp_path)) for _ in range(7)) <= ALLOWED_SECONDS


def test_missing_compiled_module_says_how_to_build_it(tmp_path):
    code = """
import sys
sys.modules["fastgen._core"] = None
try:
    import fastgen
except ImportError as error:
    print(error.name, error)
"""
    text = run(code, tmp_path)
    assert text.startswith("fastgen._core fastgen: cannot load its compiled module; did you build")
    assert "pip install -e ." in text


def test_lazy_names():
    assert fastgen.numpy_reference.__name__ == "fastgen.numpy_reference"
    assert fastgen.__version__ == fastgen.info().version
    assert dir(fastgen) == sorted(fastgen.__all__)
    for name in fastgen.__all__:
        assert hasattr(fastgen, name)
    with pytest.raises(AttributeError, match="module 'fastgen' has no attribute 'frechet'"):
        _ = fastgen.frechet


def test_functions_are_not_shadowed_by_modules():
    for path in PACKAGE.joinpath("metrics").glob("*.py"):
        assert not inspect.ismodule(getattr(fastgen, path.stem, None))
    for name in ("cmmd", "evaluate", "kid", "knn_radii", "membership", "mmd", "nearest", "prdc"):
        assert inspect.isfunction(getattr(fastgen, name))
    for name in ("log_density", "select_bandwidth", "heldout_log_likelihood"):
        assert inspect.isfunction(getattr(fastgen, name))
