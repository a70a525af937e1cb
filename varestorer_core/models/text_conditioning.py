"""From text features to what the transformer uses of them (VARestorer and Infinity, "text conditioning").

RMS-normalised features are (a) pooled by a learned query into the condition vector, which drives the
adaptive norms and starts the sequence, and (b) projected to the keys' and values' source of cross-attention.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from .attention import AttentionFn
from .block import TextKV

_RMS_EPS = 1e-6


@dataclass(frozen=True)
class TextContext:
    """Everything the blocks need of a prompt; computed once per run, not per tile."""

    cond: Tensor
    """(B, C) pooled condition vector."""
    modulation: Tensor
    """(B, 1, 6, C) shared part of the adaptive norms."""
    block_kv: Sequence[TextKV]
    """Per block."""
    mask: Tensor | None = None
    """(B, 1, 1, T) additive; None if no row is padding."""

    @property
    def batch(self) -> int:
        """B."""
        return self.cond.shape[0]

    def expand(self, batch: int) -> TextContext:
        """Repeat a context of one prompt for a batch of pictures, without copying memory."""
        if self.batch == batch:
            return self
        if self.batch != 1:
            raise ValueError(
                f"only a context of one prompt can be expanded, got {self.batch} prompts."
            )

        return self._map(lambda t: t.expand(batch, *t.shape[1:]))

    def repeat_each(self, times: int) -> TextContext:
        """Repeat every prompt, keeping the repeats of one together: a, a, b, b."""
        return self if times == 1 else self._map(lambda t: t.repeat_interleave(times, dim=0))

    def _map(self, change: Callable[[Tensor], Tensor]) -> TextContext:
        return replace(
            self,
            cond=change(self.cond),
            modulation=change(self.modulation),
            block_kv=[kv.map(change) for kv in self.block_kv],
            mask=None if self.mask is None else change(self.mask),
        )


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


def additive_mask(valid: Tensor | None) -> Tensor | None:
    """Turn a (B, T) mask of valid rows into an additive (B, 1, 1, T); None if all rows are valid."""
    if valid is None or bool(valid.all()):
        return None
    mask = torch.zeros(valid.shape, device=valid.device)
    return mask.masked_fill_(~valid.bool(), float("-inf"))[:, None, None]
