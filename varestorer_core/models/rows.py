"""Elementwise work over token rows in blocks that a CPU's cache holds.

A chain of small operations on the whole stream reads and writes main memory once per operation, which at full
size costs as much as a tenth of the matrix products. On other devices, and where gradients are recorded, the
chain runs over all rows at once.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_BLOCK = 2**18
"""Values at a time: 1 MB in float32."""


def by_rows(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """Return `function(*tensors)`, computed over blocks of the rows that the tensors have in common.

    Args:
        function: from tensors (B, n, ...) to one tensor (B, n, ...), where a row of the result depends
            on the same row of the arguments alone.
        tensors: (B, L, ...) each.
    """
    first = tensors[0]
    batch, length = first.shape[:2]
    rows = max(16, _BLOCK * batch * length // max(1, first.numel()) // batch)
    if first.device.type != "cpu" or rows >= length or torch.is_grad_enabled():
        return function(*tensors)
    out: Tensor | None = None
    for start in range(0, length, rows):
        part = function(*(tensor[:, start : start + rows] for tensor in tensors))
        if out is None:
            out = part.new_empty(batch, length, *part.shape[2:])
        out[:, start : start + rows] = part
    assert out is not None
    return out
