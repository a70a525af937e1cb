"""Memory for the large maps of passes through the encoder or the decoder, used again when a map is done with.

New memory is slow: the system hands it out in pages and clears each of them, which took a tenth of both networks'
time, and more in virtual machines that give free pages back to their host. On CPUs, where no gradients are recorded;
anywhere else every map is new.
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
"""Maps that a pass leaves to the next one: as many as it holds at once of the largest."""

_free: ContextVar[list[Tensor] | None] = ContextVar("free", default=None)


@contextmanager
def maps_kept() -> Iterator[None]:
    """Within this block, every pass leaves the memory of its largest maps to the next one."""
    token = _free.set([])
    try:
        yield
    finally:
        _free.reset(token)


@contextmanager
def maps_used_again(x: Tensor) -> Iterator[None]:
    """Mark one pass, of x: within it, `new_map` takes what `done_with` gave."""
    if not _is_for(x) or torch.compiler.is_compiling():
        yield
        return
    keep_freed_memory(x.device)  # of strips, which kernels allocate
    free = _free.get()
    if free is None:
        with maps_kept():
            yield
        return
    yield
    free.sort(key=len, reverse=True)
    del free[_KEPT:]


def is_in_pass() -> bool:
    """Tell whether a pass is under way, in which every map has one reader."""
    return _free.get() is not None


def _is_for(x: Tensor) -> bool:
    return x.device.type == "cpu" and not torch.is_grad_enabled()


def new_map(like: Tensor, channels: int, height: int, width: int) -> Tensor:
    """Return a map (B, channels, height, width) of any content, with the channels last in memory.

    Its batch size, type and device are those of `like`.
    """
    shape = (len(like), height, width, channels)
    size = math.prod(shape) * like.element_size()
    free = (_free.get() if _is_for(like) else None) or []
    fitting = [index for index, memory in enumerate(free) if len(memory) >= size]
    if not fitting:
        return like.new_empty(shape).permute(0, 3, 1, 2)
    memory = free.pop(min(fitting, key=lambda index: len(free[index])))
    return memory[:size].view(like.dtype).view(shape).permute(0, 3, 1, 2)


def done_with(x: Tensor) -> None:
    """Let later maps have the memory of x, which nobody may read any more, nor any view of it."""
    free = _free.get()
    if free is not None and _is_for(x):
        free.append(torch.empty(0, dtype=torch.uint8).set_(x.untyped_storage()))
