"""Work over token rows in blocks that a CPU's cache holds.

A chain of small operations on the whole stream reads and writes main memory once per operation, which at full
size costs as much as a tenth of the matrix products. On other devices, and where gradients are recorded, the
chain runs over all rows at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result", Tensor, tuple[Tensor, ...])

_BLOCK = 2**18
"""Values at a time: 1 MB in float32."""

_LAYER_ROWS = 256
"""Rows at a time of a chain with matrix products: with fewer, the weights are read too often."""


def by_rows(function: Callable[..., Result], *tensors: Tensor) -> Result:
    """Return `function(*tensors)`, computed over blocks of the rows that the tensors have in common.

    Args:
        function: elementwise over rows: from tensors (B, n, ...) to one or more tensors (B, n, ...),
            where a row of the result depends on the same row of the arguments alone.
        tensors: (B, L, ...) each.
    """
    first = tensors[0]
    batch, length = first.shape[:2]
    rows = max(16, _BLOCK * batch * length // max(1, first.numel()) // batch)
    return _in_blocks(function, tensors, rows)


def by_rows_of_layers(
    function: Callable[..., Result], *tensors: Tensor, dtype: torch.dtype
) -> Result:
    """Do what `by_rows` does for a chain with linear layers, which multiply in `dtype`.

    Only in bfloat16: layers of another type may have to cast their weights at each call.
    """
    batch, length = tensors[0].shape[:2]
    rows = -(-_LAYER_ROWS // batch) if dtype == torch.bfloat16 else length
    return _in_blocks(function, tensors, rows)


def _in_blocks(function: Callable[..., Result], tensors: tuple[Tensor, ...], rows: int) -> Result:
    first = tensors[0]
    batch, length = first.shape[:2]
    if first.device.type != "cpu" or rows >= length or torch.is_grad_enabled():
        return function(*tensors)
    joined: tuple[Tensor, ...] | None = None
    single = False
    for start in range(0, length, rows):
        result = function(*(tensor[:, start : start + rows] for tensor in tensors))
        single = isinstance(result, Tensor)
        parts = (result,) if isinstance(result, Tensor) else result
        if joined is None:
            joined = tuple(part.new_empty(batch, length, *part.shape[2:]) for part in parts)
        for whole, part in zip(joined, parts, strict=True):
            whole[:, start : start + rows] = part
    assert joined is not None
    return joined[0] if single else joined  # pyright: ignore[reportReturnType]
