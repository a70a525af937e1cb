"""The device and dtype of a run, by name."""

from __future__ import annotations

import torch

from .errors import SettingError
from .precision import has_fast_bfloat16

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str | torch.device) -> torch.device:
    """Return the device for "auto", "cpu", "cuda", "cuda:N" or "mps"; auto is the fastest available.

    Raises:
        SettingError: if this machine has no such device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise SettingError(
            f"device must be auto, cpu, cuda, cuda:N or mps, got {name!r}."
        ) from error
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available.get(device.type, False):
        raise SettingError(
            f"device {name}: this machine has no such device, or PyTorch was installed without "
            "support for it. Use cpu."
        )
    return device


def choose_dtype(name: str | torch.dtype, device: torch.device) -> torch.dtype:
    """Return the dtype of the transformer's matrices for a name in `DTYPES` or "auto".

    "auto" is bf16 on CUDA devices with native bf16, fp16 on older ones, and fp32 on all others. In fp16 the matrices
    and their inputs have a range of up to 65,504; the residual stream and the norms stay in float32.

    Raises:
        SettingError: for any other name or dtype.
    """
    if name in DTYPES.values():
        return name  # pyright: ignore[reportReturnType]
    if name == "auto":
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if has_fast_bfloat16(device) else torch.float16
    if name not in DTYPES:
        raise SettingError(f"dtype must be auto, {', '.join(DTYPES)}, got {name!r}.")
    return DTYPES[str(name)]
