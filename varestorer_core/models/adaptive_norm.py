"""Adaptive layer norm: scale and shift are computed from the condition vector of the text."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

NORM_EPS = 1e-6


def modulate(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return LN(x) * (1 + scale) + shift in float32, for x (B, L, C) and the rest (B or 1, 1, C)."""
    scale, shift = scale.to(x.dtype), shift.to(x.dtype)  # autocast may leave them in bfloat16
    if scale.shape[0] == 1:  # one prompt: the norm's own affine, in the same kernel
        return F.layer_norm(x, x.shape[-1:], 1 + scale[0, 0], shift[0, 0], eps=NORM_EPS)
    return F.layer_norm(x, x.shape[-1:], eps=NORM_EPS) * (1 + scale) + shift


class HeadNorm(nn.Module):
    """Adaptive norm before the head: scale and shift from the condition vector."""

    def __init__(self, dim: int, operations: Any, **factory: Any):
        super().__init__()
        self.ada_lin = nn.Sequential(nn.SiLU(), operations.Linear(dim, 2 * dim, **factory))

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        scale, shift = self.ada_lin(cond)[:, None].chunk(2, dim=-1)
        return modulate(x, scale, shift)
