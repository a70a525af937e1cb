"""What the C library does with memory that a program frees."""

from __future__ import annotations

import torch

_LARGEST = (32 << 20) - (8 << 10)
"""Bytes: the largest block by which glibc learns, less what is its own."""


def keep_freed_memory(device: torch.device) -> None:
    """Let freed blocks of a CPU's memory, up to 32 MB each and 64 MB together, stay with the program.

    glibc returns large blocks to the system at once, and new ones come in pages that are cleared one by one, which can
    take a third of the time of small operations. Up to which size it keeps them, it learns from the largest
    block that it has seen freed. So it is shown one, which is not touched and costs microseconds. Other C
    libraries have their own ways, and nothing happens there.
    """
    if device.type == "cpu":
        torch.empty(_LARGEST, dtype=torch.uint8)
