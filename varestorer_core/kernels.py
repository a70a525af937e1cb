"""The one door between the core and its optional CPU kernels (`cpu/`), which only change how long a run takes.

Everything here works without that folder, and with the layer switched off: then PyTorch's own kernels run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import torch
    from torch import nn

Network = TypeVar("Network", bound="nn.Module")


def accelerate(network: Network) -> Network:
    """Return one of our networks, with the CPU kernels in place where they are installed.

    Other devices, recorded gradients and `torch.compile` keep the plain network.
    """
    try:
        from .cpu import accelerate
    except ModuleNotFoundError:
        return network
    return accelerate(network)


def foreign_layers(device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which layers of a network that is not ours run faster on a CPU."""
    try:
        from .cpu import foreign_layers
    except ModuleNotFoundError:
        return nullcontext()
    return foreign_layers(device)


def kernel_choices() -> dict[str, dict[str, object]]:
    """Return which CPU kernels have been chosen so far in this process, and how fast ours were; see `cpu.choices`."""
    try:
        from .cpu import choices
    except ModuleNotFoundError:
        return {}
    return choices()


@contextmanager
def memory_kept() -> Iterator[None]:
    """Within this block, passes on a CPU leave the memory of their largest feature maps to the next pass."""
    try:
        from .cpu import memory_kept
    except ModuleNotFoundError:
        yield
        return
    with memory_kept():
        yield
