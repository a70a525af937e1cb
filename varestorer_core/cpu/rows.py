"""Computation over token rows in blocks that fit into a CPU's cache.

A chain of small operations on the whole stream reads and writes main memory once per operation, which at full size
takes a tenth of the time of the matrix multiplications. On other devices, and when gradients are recorded, the chain
runs over all rows at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from .onednn import multiplies

Result = TypeVar("Result", Tensor, tuple[Tensor, ...])

_BLOCK = 2**18
"""Elements per block and thread: 1 MB in float32."""

_LAYER_ROWS = 256
"""Rows per block and thread of a chain with matrix multiplications; with fewer, the weights are read too often."""


def by_rows(function: Callable[..., Result], *tensors: Tensor) -> Result:
    """Return `function(*tensors)`, computed over blocks of the tensors' common rows.

    Args:
        function: elementwise over rows: from tensors (B, n, ...) to one or more tensors (B, n, ...),
            where a row of the result depends only on the same row of the arguments.
        tensors: (B, L, ...) each.
    """
    first, length = tensors[0], tensors[0].shape[1]
    rows = max(16, _block() * length // max(1, first.numel()))
    return _in_blocks(function, tensors, rows)


def overwrite_by_rows(function: Callable[..., Tensor], tensor: Tensor, *others: Tensor) -> None:
    """Overwrite `tensor` with `function(tensor, *others)`, computed like `by_rows`, on a CPU."""
    length = tensor.shape[1]
    rows = max(16, _block() * length // max(1, tensor.numel()))
    for start in range(0, length, rows):
        part, *rest = (t[:, start : start + rows] for t in (tensor, *others))
        _put(part, function(part, *rest))


def by_rows_of_layers(
    function: Callable[..., Result],
    *tensors: Tensor,
    dtype: torch.dtype,
    into: list[Tensor] | None = None,
) -> Result:
    """Like `by_rows`, for a chain with linear layers whose weights are stored in `dtype`.

    Blocks are used only in bfloat16, on a processor with native bfloat16: weights of another dtype may have to be cast
    at each call, and other processors convert bfloat16 weights to float32 at each call.

    Args:
        into: results of the previous call, whose memory is reused if it fits; receives the results of this call.
            Allocating new memory is slow, because the system clears every page.
    """
    batch, length = tensors[0].shape[:2]
    rows = length
    if dtype == torch.bfloat16 and multiplies(dtype):
        rows = -(-_LAYER_ROWS * torch.get_num_threads() // batch)
    return _in_blocks(function, tensors, rows, into)


def _block() -> int:
    """Return the number of elements per block; with too few, threads wait for each other."""
    return _BLOCK * torch.get_num_threads()


def _in_blocks(
    function: Callable[..., Result],
    tensors: tuple[Tensor, ...],
    rows: int,
    into: list[Tensor] | None = None,
) -> Result:
    first, length = tensors[0], tensors[0].shape[1]
    if first.device.type != "cpu" or rows >= length or torch.is_grad_enabled():
        return function(*tensors)
    joined: tuple[Tensor, ...] | None = None
    single = False
    for start in range(0, length, rows):
        result = function(*(tensor[:, start : start + rows] for tensor in tensors))
        single = isinstance(result, Tensor)
        parts = (result,) if isinstance(result, Tensor) else result
        if joined is None:
            kept = into if into else [None] * len(parts)
            joined = tuple(_room(p, length, k) for p, k in zip(parts, kept, strict=True))
        for whole, part in zip(joined, parts, strict=True):
            _put(whole[:, start : start + rows], part)
    assert joined is not None
    if into is not None:
        into[:] = joined
    return joined[0] if single else joined  # pyright: ignore[reportReturnType]


def _put(room: Tensor, part: Tensor) -> None:
    """Copy results that were not computed in place."""
    if room.data_ptr() != part.data_ptr():
        room.copy_(part)


def _room(part: Tensor, length: int, kept: Tensor | None) -> Tensor:
    """Return memory for the whole result of which this is a part."""
    shape = (part.shape[0], length, *part.shape[2:])
    if kept is not None and kept.shape == shape and kept.dtype == part.dtype:
        return kept
    return part.new_empty(shape)
