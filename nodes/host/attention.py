"""The host's attention kernels behind the core's attention function."""

from __future__ import annotations

import torch
from comfy.ldm.modules import attention as kernels
from torch import Tensor


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return softmax(q k^T / sqrt(D) + mask) v with the kernel that the user chose for the host.

    Args:
        q: (B, H, Lq, D).
        k, v: (B, H, Lk, D).
        mask: additive, floating point, broadcastable to (B, H, Lq, Lk).

    Returns:
        (B, H, Lq, D).
    """
    # The default 1 / sqrt(D) is kept: older ComfyUI versions ignore another scale silently.
    # Fast kernels exist for half types only and may approximate: in float32 the plain fused one runs.
    # On a CPU the core's runs, so that the command line computes the same bits.
    if q.device.type == "cpu":
        from ...varestorer_core.models.attention import attention as core_attention

        return core_attention(q, k, v, mask)
    half = q.dtype in (torch.float16, torch.bfloat16)
    kernel = kernels.optimized_attention if half else kernels.attention_pytorch
    if mask is not None:  # not every kernel broadcasts, or adds a mask of another type
        mask = mask.to(q.dtype).expand(q.shape[0], mask.shape[1], q.shape[2], k.shape[2])
    return kernel(q, k, v, q.shape[1], mask=mask, skip_reshape=True, skip_output_reshape=True)


attention.is_plain_on_cpu = True  # pyright: ignore[reportFunctionMemberAccess]
