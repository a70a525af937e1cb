"""Tuning of the C library's memory allocator."""

from __future__ import annotations

import torch

_LARGEST = (32 << 20) - (8 << 10)
"""Bytes of the largest block from which glibc adapts its thresholds, without its header."""


def keep_freed_memory(device: torch.device) -> None:
    """Make glibc keep freed blocks of up to 32 MB each, 64 MB in total.

    glibc returns large blocks to the system immediately, and the kernel clears every page of new ones, which can take a
    third of the time of small operations. glibc adapts its threshold to the largest block that was freed, so this
    function allocates and frees one without touching it, which takes microseconds. It has no effect with other C
    libraries.
    """
    if device.type == "cpu":
        torch.empty(_LARGEST, dtype=torch.uint8)
