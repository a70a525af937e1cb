"""Tensors in memory-mapped files: copying those that stay in use, and releasing the memory of the others.

A page of a mapped file counts as resident memory from its first use until the mapping ends, together with its last
tensor. A model that is merged tensor by tensor would therefore hold its file a second time at the end. On Linux, pages
can be released one tensor at a time; on other systems, the system decides.
"""

from __future__ import annotations

import ctypes
import mmap
from pathlib import Path

from torch import Tensor

_MAPS = Path("/proc/self/maps")
# Bytes. Reading the list of mappings takes longer than copying a tensor of this size (1.6 ms instead of 0.1 ms on a
# Zen 3), and the pages of a model's small tensors are too few to matter.
_SMALL = 1 << 20


def release_mapped(tensor: Tensor) -> None:
    """Release the pages that only hold this tensor, if they belong to a mapped file and are more than 1 MiB.

    The tensor stays valid: pages that are used again are read again. Changes to them are lost, so the
    tensor must be unmodified.
    """
    advice = getattr(mmap, "MADV_DONTNEED", None)
    if advice is None or tensor.device.type != "cpu" or not _MAPS.exists():
        return
    size = tensor.numel() * tensor.element_size()
    start = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    stop = (tensor.data_ptr() + size) // mmap.PAGESIZE * mmap.PAGESIZE
    # Anonymous memory would be reset to zeros.
    if stop - start > _SMALL and tensor.is_contiguous() and _is_mapped_file(start, stop):
        ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(stop - start), advice)


def off_the_map(tensor: Tensor) -> Tensor:
    """Return a copy of a tensor in a mapped file; the tensor itself if it is large and known to be elsewhere.

    Reading mapped memory kills the process (SIGBUS) after the file has been truncated.
    """
    if tensor.device.type != "cpu":
        return tensor
    start, size = tensor.data_ptr(), tensor.numel() * tensor.element_size()
    if size > _SMALL and _MAPS.exists() and not _is_mapped_file(start, start + size):
        return tensor
    return tensor.clone()


def _is_mapped_file(start: int, stop: int) -> bool:
    """Return whether one private mapping of a file contains all of these addresses."""
    for line in _MAPS.read_text().splitlines():
        # address range, permissions, offset, device, inode, path
        addresses, permissions, _, _, inode, *_ = line.split(maxsplit=5)
        low, high = (int(address, 16) for address in addresses.split("-"))
        if low <= start < high:
            return stop <= high and permissions[3] == "p" and inode != "0"
    return False
