"""Pooling of text features to the condition vector (VARestorer and Infinity, "text conditioning").

RMS-normalised features are pooled by a learned query. The vector drives the adaptive norms and starts the sequence.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .attention import AttentionFn

_RMS_EPS = 1e-6


class RMSNorm(nn.Module):
    """x / rms(x) * weight, in float32."""

    def __init__(self, channels: int, **factory: Any):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, **factory))

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()
        scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + _RMS_EPS)
        return x * scale * self.weight.to(x)


class _QueryAttention(nn.Module):
    """Cross-attention with one learned query, which has no projection of its own."""

    def __init__(
        self,
        text_channels: int,
        embed_dim: int,
        heads: int,
        operations: Any,
        attention: AttentionFn,
        **factory: Any,
    ):
        super().__init__()
        self.attention = attention
        self.mat_q = nn.Parameter(torch.zeros(1, heads, embed_dim // heads, **factory))
        self.mat_kv = operations.Linear(text_channels, 2 * embed_dim, bias=False, **factory)
        self.v_bias = nn.Parameter(torch.zeros(embed_dim, **factory))
        self.proj = operations.Linear(embed_dim, embed_dim, **factory)

    def forward(self, text: Tensor, mask: Tensor | None) -> Tensor:
        heads = self.mat_q.shape[1]
        k, v = self.mat_kv(text).chunk(2, dim=-1)
        v = v + self.v_bias.to(v)
        k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (k, v))
        q = self.mat_q.to(k)[:, :, None].expand(k.shape[0], -1, -1, -1)
        pooled = self.attention(q, k, v, mask)  # (B, heads, 1, C / heads)
        return self.proj(pooled.transpose(1, 2).flatten(1))


class TextPool(nn.Module):
    """Pool text (B, T, Ct) into one vector (B, C). The extra level `ca` is the checkpoint's."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__()
        self.ca = _QueryAttention(*args, **kwargs)

    def forward(self, text: Tensor, mask: Tensor | None) -> Tensor:
        return self.ca(text, mask)


def pool_heads(text_channels: int, embed_dim: int) -> int:
    """Return the number of heads of the text pool, which the checkpoint derives from the text width."""
    return max(1, text_channels // (64 if embed_dim > 4096 else 128))
