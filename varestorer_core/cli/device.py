"""Device, dtype and memory in terms of the command line."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ..errors import SettingError
from . import UsageError

if TYPE_CHECKING:
    import torch

DTYPES = ("auto", "fp32", "bf16", "fp16")


def device_and_dtype(device: str, dtype: str) -> tuple[torch.device, torch.dtype]:
    """Return the device and dtype for --device and --dtype.

    Raises:
        UsageError: if this machine has no such device.
    """
    from ..devices import choose_device, choose_dtype

    try:
        chosen = choose_device(device)
        return chosen, choose_dtype(dtype, chosen)
    except SettingError as error:
        raise UsageError(f"--{error}") from error


def peak_memory(device: torch.device) -> str:
    """Return the peak memory so far, such as "1.2 GB" or "2.0 GB, GPU 5.1 GB"."""
    parts = []
    try:
        import resource
    except ImportError:
        pass  # not available on Windows: main memory is omitted
    else:
        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        parts.append(f"{peak / 1e9:.1f} GB")
    if device.type == "cuda":
        import torch

        parts.append(f"GPU {torch.cuda.max_memory_allocated(device) / 1e9:.1f} GB")
    return ", ".join(parts) or "unknown"
