"""Device, number type and memory as the user names them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from . import UsageError

if TYPE_CHECKING:
    import torch

DTYPES = ("auto", "fp32", "bf16")


def choose_device(name: str) -> torch.device:
    """Return the device for "auto", "cpu", "cuda", "cuda:N" or "mps"; auto takes the fastest.

    Raises:
        UsageError: if there is no such device here.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(
            f"--device must be auto, cpu, cuda, cuda:N or mps, got {name!r}."
        ) from error
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available.get(device.type, False):
        raise UsageError(
            f"--device {name}: this machine has no such device, or PyTorch was installed without "
            "support for it. Use --device cpu."
        )
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the type of the transformer's matrices; auto is bf16 on CUDA devices that have it."""
    import torch

    if name == "auto":
        half = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if half else torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16}[name]


def peak_memory(device: torch.device) -> str:
    """Return the most memory that was in use so far, such as "1.2 GB" or "2.0 GB, GPU 5.1 GB"."""
    parts = []
    try:
        import resource
    except ImportError:
        pass  # Windows counts it elsewhere; the line then has no main memory
    else:
        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        parts.append(f"{peak / 1e9:.1f} GB")
    if device.type == "cuda":
        import torch

        parts.append(f"GPU {torch.cuda.max_memory_allocated(device) / 1e9:.1f} GB")
    return ", ".join(parts) or "unknown"
