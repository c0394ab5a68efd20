"""How results are compared: by their bits, never within a tolerance."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from fastgen.numpy_reference import distances

Array = npt.NDArray[Any]


def assert_same_bits(actual: Any, expected: Any, what: str = "") -> None:
    """Compare arrays, numbers, results, and lists and dicts of them, bit for bit.

    A result class of the package equals that of the reference if the fields agree, whatever the
    classes are. The message names the place and the first value that differs.
    """
    if isinstance(expected, dict):
        assert list(actual) == list(expected), f"{what}: keys {list(actual)} != {list(expected)}"
        for key, value in expected.items():
            assert_same_bits(actual[key], value, f"{what}[{key!r}]")
    elif isinstance(expected, (list, tuple)):
        assert isinstance(actual, (list, tuple)), f"{what}: got {type(actual)}"
        assert len(actual) == len(expected), f"{what}: {len(actual)} != {len(expected)} entries"
        for place, value in enumerate(expected):
            assert_same_bits(actual[place], value, f"{what}[{place}]")
    elif hasattr(expected, "__dataclass_fields__"):
        names = [field.name for field in fields(expected)]
        assert [field.name for field in fields(actual)] == names, what
        for name in names:
            assert_same_bits(getattr(actual, name), getattr(expected, name), f"{what}.{name}")
    elif isinstance(expected, np.ndarray):
        _assert_same_array(actual, expected, what)
    else:
        assert type(actual) is type(expected), f"{what}: {type(actual)} != {type(expected)}"
        assert actual == expected, f"{what}: {actual!r} != {expected!r}"


def _assert_same_array(actual: Any, expected: Array, what: str) -> None:
    assert isinstance(actual, np.ndarray), f"{what}: got {type(actual)}"
    assert actual.dtype == expected.dtype, f"{what}: dtype {actual.dtype} != {expected.dtype}"
    assert actual.shape == expected.shape, f"{what}: shape {actual.shape} != {expected.shape}"
    word = np.dtype(f"u{expected.dtype.itemsize}")
    differ = np.ascontiguousarray(actual).view(word) != np.ascontiguousarray(expected).view(word)
    if differ.any():
        place = tuple(int(axis[0]) for axis in np.nonzero(differ))
        pytest.fail(
            f"{what}: {np.count_nonzero(differ)} of {differ.size} differ, the first at {place}: "
            f"{actual[place]!r} != {expected[place]!r}"
        )


@contextmanager
def remembered_distances() -> Iterator[None]:
    """Let the reference compute each distance matrix once.

    Its functions stay independent of each other and of this; only `sq_distances` remembers what
    it returned, by the memory it was given. Nobody may change the arrays meanwhile.
    """
    compute = distances.sq_distances
    known: dict[Any, tuple[Array, ...]] = {}

    def place(x: Array) -> tuple[Any, ...]:
        return x.__array_interface__["data"][0], x.shape, x.strides, x.dtype.str

    def remember(x: Array, y: Array) -> Array:
        key = place(x), place(y)
        if key not in known:
            # Holding the arrays keeps their memory, so that no other array can take their place.
            known[key] = compute(x, y), x, y
        return known[key][0].copy()  # the caller may write into it

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distances, "sq_distances", remember)  # where the others look it up
        yield
