"""The interface between the core and its optional CPU kernels (`cpu/`), which only affect speed.

Everything here works without that folder and with the kernels disabled; PyTorch's kernels run then.
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
    """Return a network of this package with the CPU kernels enabled, if they are installed.

    On other devices, with gradients or under `torch.compile`, the reference implementation still runs.
    """
    try:
        from .cpu import accelerate
    except ModuleNotFoundError:
        return network
    return accelerate(network)


def foreign_layers(device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which the layers of a third-party network run faster on a CPU."""
    try:
        from .cpu import foreign_layers
    except ModuleNotFoundError:
        return nullcontext()
    return foreign_layers(device)


def kernel_choices() -> dict[str, dict[str, object]]:
    """Return the CPU kernels chosen so far in this process, with their speeds; see `cpu.choices`."""
    try:
        from .cpu import choices
    except ModuleNotFoundError:
        return {}
    return choices()


@contextmanager
def memory_kept() -> Iterator[None]:
    """Context in which passes on a CPU keep the memory of their largest feature maps for the next pass."""
    try:
        from .cpu import memory_kept
    except ModuleNotFoundError:
        yield
        return
    with memory_kept():
        yield
