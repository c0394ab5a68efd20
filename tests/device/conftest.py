"""The same tests for a GPU and for the host emulator: which of the two, and how much.

Run them with `make test-gpu` on a machine with a GPU, or with `make test-emulated` anywhere.
"""

from __future__ import annotations

import os
import sys

import pytest

import fastgen

#: Whether the kernels run on the host emulator, ten thousand times slower than on a GPU.
EMULATED = os.environ.get("FASTGEN_CUDA_MODULE", "") == "_emulated"

# A machine for GPUs need not have them: a test that does fails on the emulator too.
for package in ("rich", "sklearn"):
    sys.modules[package] = None  # type: ignore[assignment]


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to pass for lack of a device."""
    config.addinivalue_line("markers", "gpu: only on a GPU: the emulator would take minutes")
    if not fastgen.info().gpus:
        raise pytest.UsageError(
            "no CUDA device: use make test-gpu on a machine that has one, or make test-emulated"
        )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the sizes that only a GPU can do to the GPU."""
    if not EMULATED:
        return
    kept = [item for item in items if item.get_closest_marker("gpu") is None]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept
