"""Dtypes in which a device is fast."""

from __future__ import annotations

import torch


def decoder_dtype(weights: torch.dtype, device: torch.device) -> torch.dtype:
    """Return the dtype of the decoder and the cleaner for a transformer whose matrices have the dtype `weights`.

    Decoding in bfloat16 changes a picture by noise at 58 dB; encoding in it would flip one bit in thirty,
    so the encoder stays in float32 (docs/benchmarks.md). Cleaning in bfloat16 changes a picture by noise at
    72 dB or more, which flips at most one bit in two hundred.
    """
    if weights == torch.bfloat16 and has_fast_bfloat16(device):
        return torch.bfloat16
    return torch.float32


def has_fast_bfloat16(device: torch.device) -> bool:
    """Return whether a device multiplies bfloat16 faster than float32."""
    if device.type == "cuda":
        # Older cards emulate it, slower than float32. The check always queries the current device.
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    if hasattr(torch.cpu, "get_capabilities"):
        known = torch.cpu.get_capabilities()
        return bool(known.get("avx512_bf16") or known.get("amx_bf16"))
    older = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(older is not None and older())
