"""Check before any work that the requested results fit into this machine's memory.

This is about main memory. GPU memory does not depend on the picture, because tiles have a fixed size.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .errors import ImageError

MAX_OUTPUT_PIXELS = 2**29
"""A result with more pixels (537 megapixels) is rejected as a mistake, regardless of the memory."""

BYTES_PER_PIXEL = 46
"""Peak bytes per pixel of a result: the resized picture, the sum of its tiles and the result, three times three float32
values, and the memory for writing it."""

_NEVER_CHECKED = 256 << 20
"""Results up to this many bytes are always attempted: free memory varies by more from one second to the next."""


def check_results(sizes: Sequence[tuple[int, int]], *, together: bool = True) -> None:
    """Reject results that cannot fit into memory.

    Args:
        sizes: (height, width) of each result.
        together: whether they are in memory at the same time, instead of one after the other.

    Raises:
        ImageError: with the size, the memory it needs, and what to do.
    """
    if not sizes:
        return
    pixels = [height * width for height, width in sizes]
    height, width = sizes[pixels.index(max(pixels))]
    if max(pixels) > MAX_OUTPUT_PIXELS:
        raise ImageError(
            f"The result would have {width} x {height} pixels; the limit is {MAX_OUTPUT_PIXELS / 1e6:.0f} "
            "megapixels. Use a smaller upscale factor, or restore the picture in parts."
        )
    need = BYTES_PER_PIXEL * (sum(pixels) if together else max(pixels))
    free = available_bytes()
    if free is None or need <= max(free, _NEVER_CHECKED):
        return
    what = f"{width} x {height} pixels"
    if together and len(sizes) > 1:
        what = f"{len(sizes)} pictures of up to {what}"
    raise ImageError(
        f"The result would be {what}, which needs about {need / 1e9:.1f} GB of memory; {free / 1e9:.1f} GB are free. "
        "Use a smaller upscale factor, fewer pictures at once, or restore the picture in parts."
    )


def available_bytes() -> int | None:
    """Return how much memory this process can still allocate without swapping; None if unknown."""
    free = [value for value in (_of_machine(), _of_container()) if value is not None]
    return min(free, default=None)


def _of_machine() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:
        import psutil  # pyright: ignore[reportMissingModuleSource, reportMissingImports]
    except ImportError:
        return None
    return int(psutil.virtual_memory().available)


def _of_container(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return the memory left by the limit of a container; None without one."""
    names = (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    )
    for limit, used in names:
        try:
            most, now = int((root / limit).read_text()), int((root / used).read_text())
            statistics = (root / used).with_name("memory.stat").read_text().split()
        except (OSError, ValueError):  # no container, or "max"
            continue
        # Pages of files count as used but are released when memory is needed.
        cached = (
            int(statistics[statistics.index("inactive_file") + 1])
            if "inactive_file" in statistics
            else 0
        )
        return max(0, most - now + cached)
    return None
