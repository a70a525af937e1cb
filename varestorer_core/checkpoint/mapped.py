"""Leaving a mapped file: copies of what stays in use, and giving back the memory of what has been read.

A page of a mapped file counts as resident memory from its first use until the mapping goes, which is when its
last tensor goes. A model that is merged tensor by tensor would so hold its file a second time at the end. On
Linux the pages can be given back one tensor at a time; elsewhere the system decides by itself.
"""

from __future__ import annotations

import ctypes
import mmap
from pathlib import Path

from torch import Tensor

_MAPS = Path("/proc/self/maps")


def release_mapped(tensor: Tensor) -> None:
    """Give back the pages that hold a tensor and nothing else, if they belong to a mapped file.

    The tensor stays valid: pages that are used again are read again. What was written to them is
    lost, so it must be as it was read.
    """
    advice = getattr(mmap, "MADV_DONTNEED", None)
    if advice is None or tensor.device.type != "cpu" or not _MAPS.exists():
        return
    size = tensor.numel() * tensor.element_size()
    start = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    stop = (tensor.data_ptr() + size) // mmap.PAGESIZE * mmap.PAGESIZE
    # Anonymous memory would come back as zeros.
    if start < stop and tensor.is_contiguous() and _is_mapped_file(start, stop):
        ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(stop - start), advice)


def off_the_map(tensor: Tensor) -> Tensor:
    """Return a tensor whose memory is no mapped file: a copy, or itself where that is known.

    Reading memory that is mapped ends the process (SIGBUS) once the file has been made shorter.
    """
    if tensor.device.type != "cpu":
        return tensor
    start, size = tensor.data_ptr(), tensor.numel() * tensor.element_size()
    if size and _MAPS.exists() and not _is_mapped_file(start, start + size):
        return tensor
    return tensor.clone()


def _is_mapped_file(start: int, stop: int) -> bool:
    """Tell whether one private mapping of a file holds all of these addresses."""
    for line in _MAPS.read_text().splitlines():
        # address range, permissions, offset, device, inode, path
        addresses, permissions, _, _, inode, *_ = line.split(maxsplit=5)
        low, high = (int(address, 16) for address in addresses.split("-"))
        if low <= start < high:
            return stop <= high and permissions[3] == "p" and inode != "0"
    return False
