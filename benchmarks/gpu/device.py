"""The GPU at hand: its name, driver, clocks and peak rates, and synthetic features made on it."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

# Dense peak rates per second by the vendor's data sheets; the floors are taken from them. Tensor
# cores for int8, float16 and float64, the ordinary units for float32 and exponentials.
PEAKS: dict[str, dict[str, float]] = {
    "H100 80GB HBM3": {
        "int8": 1979e12,
        "float16": 990e12,
        "float64": 67e12,
        "float32": 67e12,
        "exponentials": 132 * 16 * 1.755e9,
        "bytes": 3.35e12,
    },
    "H200": {
        "int8": 1979e12,
        "float16": 990e12,
        "float64": 67e12,
        "float32": 67e12,
        "exponentials": 132 * 16 * 1.755e9,
        "bytes": 4.8e12,
    },
    "A100": {
        "int8": 624e12,
        "float16": 312e12,
        "float64": 19.5e12,
        "float32": 19.5e12,
        "exponentials": 108 * 16 * 1.41e9,
        "bytes": 1.9e12,
    },
}


def peaks(name: str) -> dict[str, float]:
    """Return the peak rates of a GPU by its name, nothing where it is not known."""
    return next((rates for key, rates in PEAKS.items() if key in name), {})


def describe(index: int = 0) -> dict[str, str]:
    """Return what a figure depends on: name, driver, clocks and power limit, as nvidia-smi says."""
    fields = [
        *("name", "driver_version", "memory.total", "power.limit", "temperature.gpu"),
        *("clocks.sm", "clocks.max.sm", "clocks.mem", "clocks_event_reasons.active"),
    ]
    if shutil.which("nvidia-smi") is None:
        return {}
    command = [
        "nvidia-smi",
        f"--id={index}",
        f"--query-gpu={','.join(fields)}",
        "--format=csv,noheader",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {}
    values = [value.strip() for value in done.stdout.strip().split(",")]
    return dict(zip(fields, values, strict=False))


def place() -> str:
    """Return where rows are made: on the GPU, or on the host for the emulator of one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def finish() -> None:
    """Wait for everything on the GPU."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def features(n: int, d: int, *, seed: int, spread: float = 1.0, dtype: Any = None) -> Any:
    """Return a tensor of rectified low-rank rows, where `place` says: what `relu_features` makes.

    Sets of one width lie on the same manifold; `spread` below 1 imitates a generator of too little
    variety.
    """
    import torch

    generator = torch.Generator(place()).manual_seed(d)
    options: dict[str, Any] = {"device": place(), "dtype": torch.float32}
    rank = 200
    mixing = torch.randn((rank, d), generator=generator, **options) / rank**0.5
    scales = 3.0 * spread * torch.exp(-torch.arange(rank, **options) / 60.0)
    generator.manual_seed(seed)
    rows = torch.empty((n, d), device=place(), dtype=dtype or torch.float32)
    for start in range(0, n, 65_536):
        count = min(65_536, n - start)
        latent = torch.randn((count, rank), generator=generator, **options) * scales
        noise = torch.randn((count, d), generator=generator, **options)
        rows[start : start + count] = torch.relu(latent @ mixing + 0.3 * noise)
    return rows


def normal(n: int, d: int, *, seed: int, dtype: Any = None) -> Any:
    """Return a tensor of standard normal rows, where `place` says."""
    import torch

    generator = torch.Generator(place()).manual_seed(seed)
    return torch.randn((n, d), generator=generator, device=place(), dtype=dtype or torch.float32)
