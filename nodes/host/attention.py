"""The host's attention kernels behind the core's attention function."""

from __future__ import annotations

import comfy.model_management as mm
import torch
from comfy.ldm.modules import attention as kernels
from torch import Tensor

_IN_PARTS = ("attention_sub_quad", "attention_split")
"""The host's kernels for devices without fused attention: they compute the scores in chunks that fit into memory."""


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return softmax(q k^T / sqrt(D) + mask) v with the kernel selected in ComfyUI.

    Args:
        q: (B, H, Lq, D).
        k, v: (B, H, Lk, D).
        mask: additive, floating point, broadcastable to (B, H, Lq, Lk).

    Returns:
        (B, H, Lq, D).
    """
    # The default 1 / sqrt(D) is kept: older ComfyUI versions ignore another scale silently.
    # Fast kernels exist for half precision only and may approximate: float32 uses PyTorch's, or the chunked kernel
    # where the host has selected one.
    # A CPU uses the core's attention, so that the command line computes the same bits.
    if q.device.type == "cpu":
        from ...varestorer_core.models.attention import attention as core_attention

        return core_attention(q, k, v, mask)
    half = q.dtype in (torch.float16, torch.bfloat16)
    kernel = kernels.optimized_attention
    if not half and not any(kernel is getattr(kernels, name, None) for name in _IN_PARTS):
        kernel = kernels.attention_pytorch
    if mask is not None:  # not every kernel broadcasts or supports a mask of another dtype
        mask = mask.to(q.dtype).expand(q.shape[0], mask.shape[1], q.shape[2], k.shape[2])
    return kernel(q, k, v, q.shape[1], mask=mask, skip_reshape=True, skip_output_reshape=True)


attention.is_plain_on_cpu = True  # pyright: ignore[reportFunctionMemberAccess]


def is_fused(device: torch.device) -> bool:
    """Return whether attention on a device is fused (scores are not stored), by the host's own criterion."""
    if device.type == "cpu":
        return True
    return mm.xformers_enabled() or mm.pytorch_attention_flash_attention()
