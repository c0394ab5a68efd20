"""FID, moments and Inception Score on a real GPU: streams, memory, devices, more than one library.

What needs no GPU of it is in tests/test_device_{moments,frechet,fid,inception}.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from checks import assert_same_bits

import fastgen
from fastgen import Moments
from fastgen._core import Scatter

torch: Any = pytest.importorskip("torch")

pytestmark = pytest.mark.gpu


def some_rows(n: int, d: int, seed: int = 0, device: str = "cuda") -> Any:
    """Draw correlated rows of float32."""
    generator = torch.Generator(device="cpu").manual_seed(seed)
    mixed = torch.randn(d, d, generator=generator) / d**0.5
    return (torch.randn(n, d, generator=generator) @ mixed + 0.1 * seed).to(device)


@pytest.mark.parametrize("n", [300, 5000])
def test_fid_agrees_with_the_cpu(n: int) -> None:
    real, fake = some_rows(n, 512), some_rows(n - 7, 512, seed=1)
    found = fastgen.fid(real=real, fake=fake)
    expected = fastgen.fid(real=real.cpu(), fake=fake.cpu())
    assert (found.method, expected.method) == ("newton_schulz", "eigh")
    assert abs(found.value - expected.value) <= found.error_bound + expected.error_bound
    assert abs(found.value - expected.value) <= 1e-10 * expected.value
    for _ in range(3):
        assert_same_bits(fastgen.fid(real=real, fake=fake), found)


def test_host_arrays_go_to_the_gpu_that_is_asked_for() -> None:
    real, fake = some_rows(5000, 64), some_rows(3000, 64, seed=1)
    expected = fastgen.fid(real=real, fake=fake)
    for device in ("cuda", "cuda:0", torch.device("cuda:0")):
        found = fastgen.fid(real=real.cpu().numpy(), fake=fake.cpu(), device=device)
        assert_same_bits(found, expected)
    logits = some_rows(500, 30)
    found = fastgen.inception_score(logits=logits.cpu().numpy(), device="cuda")
    assert_same_bits(found, fastgen.inception_score(logits=logits))
    moments = Moments(64, device="cuda")
    moments.update(real.cpu().numpy())
    assert moments.device == f"cuda:{torch.cuda.current_device()}"
    assert_same_bits(fastgen.fid(real=moments, fake=fake), expected)


def test_work_follows_the_current_stream() -> None:
    expected = some_rows(6000, 256)
    whole = Moments(256)
    whole.update(expected)
    moments, late = Moments(256), torch.empty_like(expected)
    for start in range(0, 6000, 1500):
        stream = torch.cuda.Stream()
        part = late[start : start + 1500]
        with torch.cuda.stream(stream):
            torch.cuda._sleep(50_000_000)  # what is read before is rubbish
            part.copy_(expected[start : start + 1500])
            moments.update(part)
    assert_same_bits(moments.covariance, whole.covariance)
    assert_same_bits(moments.mean, whole.mean)
    score = fastgen.inception_score(logits=expected)
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(50_000_000)
        late.zero_().copy_(expected)
        assert_same_bits(fastgen.inception_score(logits=late), score)


def test_memory_is_that_of_some_matrices_and_chunks() -> None:
    n, d = 20_000, 1024
    rows, moments = some_rows(n, d), Moments(d)
    moments.update(rows[:10])
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    moments.update(rows)
    chunk = 8 * d * (Scatter.chunk_rows(d) + 1)
    assert torch.cuda.max_memory_allocated() - before <= 4 * 8 * d * d + 6 * chunk


def test_a_device_without_memory_left_is_usable_after_it() -> None:
    rows = some_rows(3000, 256)
    expected = fastgen.fid(real=rows, fake=rows[:1000])
    free, _ = torch.cuda.mem_get_info()
    taken = torch.empty(max(free - (24 << 20), 1), dtype=torch.uint8, device="cuda")
    moments = Moments(40_000)
    moments.update(torch.zeros((3, 40_000), device="cuda"))
    with pytest.raises(MemoryError, match=r"^fastgen: out of memory on cuda:"):
        _ = moments.covariance
    del taken
    torch.cuda.empty_cache()
    assert_same_bits(fastgen.fid(real=rows, fake=rows[:1000]), expected)


def test_another_device() -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    real, fake = some_rows(3000, 64), some_rows(3000, 64, seed=1)
    expected = fastgen.fid(real=real, fake=fake)
    there = real.to("cuda:1"), fake.to("cuda:1")
    assert_same_bits(fastgen.fid(real=there[0], fake=there[1]), expected)
    assert_same_bits(fastgen.fid(real=real, fake=there[1]), expected)
    moments = Moments(64)
    moments.update(there[0])
    assert moments.device == "cuda:1"


def test_libraries_share_a_gpu() -> None:
    cupy = pytest.importorskip("cupy")
    real, fake = some_rows(3000, 64), some_rows(2000, 64, seed=1)
    other = cupy.from_dlpack(fake)
    expected = fastgen.fid(real=real, fake=fake)
    assert_same_bits(fastgen.fid(real=real, fake=other), expected)
    alone = fastgen.fid(real=cupy.from_dlpack(real), fake=other)
    assert abs(alone.value - expected.value) <= alone.error_bound + expected.error_bound
    with cupy.cuda.Stream():
        again = fastgen.fid(real=cupy.from_dlpack(real), fake=other)
    assert_same_bits(again, alone)
    logits = some_rows(500, 30)
    found = fastgen.inception_score(logits=cupy.from_dlpack(logits))
    assert found.mean == pytest.approx(fastgen.inception_score(logits=logits).mean, rel=1e-13)


def test_large_covariances_agree_with_lapack() -> None:
    d = 1024
    for n in (4 * d, d // 2):
        sets = [some_rows(n, d, seed=seed).double() for seed in (1, 2)]
        statistics = [(rows.mean(0), torch.cov(rows.T)) for rows in sets]
        arguments = [one for pair in statistics for one in pair]
        found = fastgen.frechet_distance(*arguments)
        expected = fastgen.frechet_distance(*(one.cpu().numpy() for one in arguments))
        traces = float(arguments[1].trace() + arguments[3].trace())
        assert abs(found.value - expected.value) <= found.error_bound + expected.error_bound
        assert abs(found.value - expected.value) <= 1e-12 * traces
        assert found.error_bound <= (1e-9 if n > d else 1e-5) * traces
        root = fastgen.matrix_sqrt(arguments[1] + torch.eye(d, device="cuda"))
        assert root.value.is_cuda
        assert root.residual <= 1e-14
        assert np.isfinite(root.residual)
