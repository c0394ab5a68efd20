"""The reference's streamed moments: batches, merging, and digits far from zero."""

from __future__ import annotations

import math
import re

import families
import numpy as np
import pytest
from checks import assert_same_bits

from fastgen.numpy_reference.moments import Moments


def in_batches(x, sizes):
    moments = Moments(x.shape[1])
    for batch in np.split(x, np.cumsum(sizes)):
        if len(batch):
            moments.update(batch)
    return moments


@pytest.mark.parametrize("sizes", [[], [1] * 20, [7, 1, 30], [1, 58]])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32"])
def test_moments_in_batches(sizes, dtype):
    x = (10 * families.seeded("moments").standard_normal((60, 4))).astype(dtype)
    moments = in_batches(x, sizes)
    wide = x.astype("float64")
    assert moments.count == 60
    np.testing.assert_allclose(moments.mean, wide.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(moments.covariance, np.cov(wide.T), rtol=1e-13)
    assert_same_bits(moments.covariance, moments.covariance.T.copy())


def test_moments_keep_their_digits_far_from_zero():
    # Multiples of 2^-20 beside 2^30 are exact in float64, so that moving them rounds nothing.
    x = np.round(families.seeded("far").standard_normal((500, 3)) * 2.0**20) / 2.0**20
    expected = np.cov(x.T)
    for sizes in ([], [1] * 100, [3, 200]):
        found = in_batches(x + 2.0**30, sizes)
        np.testing.assert_allclose(found.covariance, expected, atol=1e-14)
        np.testing.assert_allclose(found.mean - 2.0**30, x.mean(axis=0), atol=1e-6)


def test_merged_moments():
    x = families.seeded("merge").standard_normal((50, 3)) * [1.0, 1e-3, 1e3] + 7
    first, second, empty = in_batches(x[:13], [4]), in_batches(x[13:], [1, 1]), Moments(3)
    before = second.mean, second.covariance
    first.merge(second)
    first.merge(empty)
    empty.merge(first)
    for moments in (first, empty):
        assert moments.count == 50
        np.testing.assert_allclose(moments.mean, x.mean(axis=0), rtol=1e-14)
        scale = np.outer(x.std(axis=0), x.std(axis=0))
        np.testing.assert_allclose(moments.covariance / scale, np.cov(x.T) / scale, atol=1e-14)
    assert_same_bits((second.mean, second.covariance), before)
    first.merge(first)
    assert first.count == 100
    expected = np.cov(np.tile(x.T, 2))
    np.testing.assert_allclose(first.covariance / scale, expected / scale, atol=1e-14)


def test_moments_hand_out_copies():
    moments = in_batches(np.arange(6.0).reshape(3, 2), [])
    moments.mean[:] = moments.covariance[:] = 9.0
    assert moments.mean.tolist() == [2.0, 3.0]
    assert moments.covariance.tolist() == [[4.0, 4.0], [4.0, 4.0]]


def test_moments_errors():
    moments = Moments(2)
    with pytest.raises(ValueError, match=r"^Moments.mean: expected `count` of at least 1, got 0$"):
        _ = moments.mean
    moments.update([[1.0, 2.0]])
    text = r"^Moments.covariance: expected `count` of at least 2, got 1$"
    with pytest.raises(ValueError, match=text):
        _ = moments.covariance
    with pytest.raises(ValueError, match=r"^Moments: expected `d` of at least 1, got 0$"):
        Moments(0)
    with pytest.raises(ValueError, match=r"^Moments.merge: expected `other` of 2 features, got 3$"):
        moments.merge(Moments(3))
    for batch, text in (
        ([1.0, 2.0], "of shape (n, d), n and d at least 1, got (2,)"),
        ([[1.0]], "with 2 columns, got 1"),
        ([[1.0, math.inf]], "to be finite, got inf"),
    ):
        with pytest.raises(ValueError, match=re.escape(f"Moments.update: expected `batch` {text}")):
            moments.update(batch)
    assert moments.count == 1
    assert moments.mean.tolist() == [1.0, 2.0]
