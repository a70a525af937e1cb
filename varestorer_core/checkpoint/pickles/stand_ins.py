"""Stand-ins for the objects in a pickle, with what is needed to bound their cost; see `bounds`."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterable
from typing import Any

import torch

_MOST_IN_A_TUPLE = 100_000
"""Most elements of a tuple and the tuples in it, each counted as often as it occurs."""
BYTES = "_codecs.encode"
"""Function that makes bytes of text."""
LATIN = ("latin1", "latin-1")
"""Encodings of bytes in pickles."""


class OutOfBoundsError(Exception):
    """A pickle that takes more than a checkpoint may. The message completes "it ..."."""


class TupleOf:
    """A tuple and the number of elements that hashing it visits."""

    def __init__(self, items: Iterable[Any]) -> None:
        self.items = tuple(items)
        self.weight = 1 + sum(map(weight_of, self.items))
        if self.weight > _MOST_IN_A_TUPLE:
            raise OutOfBoundsError("nests tuples too deeply")


class MappingOf:
    """A dictionary: its length, and the weight of its keys that are not text."""

    def __init__(self) -> None:
        self.length = self.weight = 0


class Function:
    """A function or class, by its full name."""

    def __init__(self, path: str) -> None:
        self.path = path


class Result:
    """What a function or class returned, by its full name."""

    def __init__(self, path: str) -> None:
        self.path = path


class Storage:
    """Memory of a number of elements of some bytes each."""

    def __init__(self, numel: int, itemsize: int) -> None:
        self.numel = numel
        self.num_bytes = numel * itemsize


_ITEMSIZES = {
    **dict.fromkeys(
        ("Untyped", "Byte", "Char", "Bool", "QUInt8", "QInt8", "QUInt4x2", "QUInt2x4"), 1
    ),
    **dict.fromkeys(("Short", "Half", "BFloat16"), 2),
    **dict.fromkeys(("Int", "Float", "QInt32"), 4),
    **dict.fromkeys(("Long", "Double", "ComplexFloat"), 8),
    "ComplexDouble": 16,
}
"""Bytes of an element of PyTorch's storages."""
_STORAGE = re.compile(r"torch(?:\.storage)?\.(\w+)Storage")


def itemsize_of(kind: Function) -> int:
    """Return the bytes of an element of a class of storages, or of a dtype; UnpicklingError for any other."""
    dtype = getattr(torch, kind.path.removeprefix("torch."), None)
    if isinstance(dtype, torch.dtype):
        return dtype.itemsize
    match = _STORAGE.fullmatch(kind.path)
    if match is None or match[1] not in _ITEMSIZES:
        raise pickle.UnpicklingError(f"GLOBAL {kind.path}")
    return _ITEMSIZES[match[1]]


def check_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> None:
    """Check that a tensor lies within its storage, which PyTorch would enlarge otherwise."""
    sides, steps = expect(shape, TupleOf).items, expect(strides, TupleOf).items
    if len(sides) != len(steps):
        raise ValueError("a tensor with fewer or more strides than dimensions")
    last = natural(offset)
    for side, step in zip(sides, steps, strict=True):
        last += (natural(side) - 1) * natural(step)
    if 0 not in sides and last >= expect(storage, Storage).numel:
        raise ValueError("a tensor reaches beyond its storage")


def is_bytes(content: Any, codec: Any = "latin-1") -> bool:
    """Return whether a byte array is made of bytes, as Python writes it."""
    encoded = isinstance(content, Result) and content.path == BYTES
    return codec in LATIN and (encoded or isinstance(content, str))


def weight_of(value: Any) -> int:
    """Return how many elements hashing a value visits."""
    return value.weight if isinstance(value, TupleOf) else 1


def key_of(pair: Any) -> Any:
    """Return the key of a pair."""
    return pair.items[0] if isinstance(pair, TupleOf) else expect(pair, list)[0]


def expect(value: Any, kind: type) -> Any:
    """Return a value of a type; TypeError for another."""
    if not isinstance(value, kind):
        raise TypeError(f"expected a {kind.__name__}, got a {type(value).__name__}")
    return value


def natural(value: Any) -> int:
    """Return a number that is a size or an offset; ValueError for any other value."""
    if type(value) is not int or value < 0:
        raise ValueError("a size is not a natural number")
    return value
