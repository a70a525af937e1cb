"""Reusable memory for large feature maps of the encoder and decoder.

Allocating new memory is slow: the system clears every page, which took a tenth of both networks' time, and more in
virtual machines that return free pages to their host. Used on CPUs when no gradients are recorded; otherwise every
feature map is newly allocated.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from .allocator import keep_freed_memory

_KEPT = 3
"""Feature maps kept for the next pass: the number of the largest ones alive at once."""

_free: ContextVar[list[Tensor] | None] = ContextVar("free", default=None)


@contextmanager
def keep_feature_maps() -> Iterator[None]:
    """Context in which every pass keeps the memory of its largest feature maps for the next one."""
    token = _free.set([])
    try:
        yield
    finally:
        _free.reset(token)


@contextmanager
def feature_map_pool(x: Tensor) -> Iterator[None]:
    """Context of one pass of x, in which `empty_feature_map` reuses the memory passed to `release`."""
    if not _is_for(x) or torch.compiler.is_compiling():
        yield
        return
    keep_freed_memory(x.device)  # of strips, which kernels allocate
    free = _free.get()
    if free is None:
        with keep_feature_maps():
            yield
        return
    yield
    free.sort(key=len, reverse=True)
    del free[_KEPT:]


def in_pass() -> bool:
    """Return whether a pass is active, in which every feature map is read once."""
    return _free.get() is not None


def _is_for(x: Tensor) -> bool:
    return x.device.type == "cpu" and not torch.is_grad_enabled()


def empty_feature_map(like: Tensor, channels: int, height: int, width: int) -> Tensor:
    """Return an uninitialised feature map (B, channels, height, width) in channels-last memory format.

    Batch size, dtype and device are those of `like`.
    """
    shape = (len(like), height, width, channels)
    size = math.prod(shape) * like.element_size()
    free = (_free.get() if _is_for(like) else None) or []
    fitting = [index for index, memory in enumerate(free) if len(memory) >= size]
    if not fitting:
        return like.new_empty(shape).permute(0, 3, 1, 2)
    memory = free.pop(min(fitting, key=lambda index: len(free[index])))
    return memory[:size].view(like.dtype).view(shape).permute(0, 3, 1, 2)


def release(x: Tensor) -> None:
    """Make the memory of x available to later feature maps; x and its views must not be used any more."""
    free = _free.get()
    if free is not None and _is_for(x):
        free.append(torch.empty(0, dtype=torch.uint8).set_(x.untyped_storage()))
