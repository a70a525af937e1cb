"""Attention as an interchangeable function.

Every module accepts it as a constructor argument, so a host can pass its own.
"""

from __future__ import annotations

from typing import Protocol

import torch.nn.functional as F
from torch import Tensor


class AttentionFn(Protocol):
    """softmax(q k^T / sqrt(D) + mask) v."""

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend.

        Args:
            q: (B, H, Lq, D).
            k, v: (B, H, Lk, D).
            mask: additive, of any floating type, broadcastable to (B, H, Lq, Lk); None means no mask.

        Returns:
            (B, H, Lq, D).
        """
        ...


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attend with PyTorch's fused kernel; see `AttentionFn` for shapes."""
    # Fused GPU kernels do not support a float32 mask with half-precision queries.
    mask = None if mask is None else mask.to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
