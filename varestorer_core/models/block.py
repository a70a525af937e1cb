"""One transformer block: gated self-attention, cross-attention to the text, gated feed-forward.

Numerics: the residual stream, the norms and the query/key normalisation are float32; matrices multiply in
`compute_dtype`. Vectors (norms, biases of attention, gates) are stored in float32 whatever the matrices are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import TransformerConfig
from .attention import AttentionFn
from .lora import LoRALinear, make_linear
from .rope import apply_rope

NORM_EPS = 1e-6
MAX_LOG_SCALE = math.log(100.0)


@dataclass
class KVCache:
    """Keys and values of the scales that one block has seen."""

    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add (B, H, L, c) of one scale and return those of all scales so far."""
        self.keys.append(k)
        self.values.append(v)
        return torch.cat(self.keys, dim=2), torch.cat(self.values, dim=2)


@dataclass(frozen=True)
class TextKV:
    """Keys and values (B, H, T, c) of the text for one block's cross-attention."""

    keys: Tensor
    values: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> TextKV:
        """Return the same with another batch."""
        return TextKV(change(self.keys), change(self.values))


class SelfAttention(nn.Module):
    """Cosine attention with a learned scale per head and rotary positions."""

    def __init__(
        self, config: TransformerConfig, operations: Any, attention: AttentionFn, **factory: Any
    ):
        super().__init__()
        dim, rank, vector = config.embed_dim, config.lora_rank, _vector(factory)
        self.num_heads = config.num_heads
        self.attention = attention
        self.scale_mul_1H11 = nn.Parameter(torch.zeros(1, config.num_heads, 1, 1, **vector))
        self.q_bias = nn.Parameter(torch.zeros(dim, **vector))
        self.v_bias = nn.Parameter(torch.zeros(dim, **vector))
        self.mat_qkv = make_linear(dim, 3 * dim, False, rank, operations, **factory)
        self.proj = make_linear(dim, dim, True, rank, operations, **factory)

    def forward(
        self,
        x: Tensor,
        rope: tuple[Tensor, Tensor],
        mask: Tensor | None = None,
        cache: KVCache | None = None,
        num_queries: int | None = None,
    ) -> Tensor:
        """Attend from the first `num_queries` rows of x (B, L, C), default all, to all L."""
        # No key bias: it would cancel in the softmax were it not for the normalisation.
        q, k, v = (self._split(part) for part in self.mat_qkv(x).chunk(3, dim=-1))  # (B, H, L, c)
        v = v + self._split(self.v_bias.to(v))
        # The kernel divides by sqrt(c); cosine attention wants scale 1.
        scale = self.scale_mul_1H11.clamp(max=MAX_LOG_SCALE).exp() * math.sqrt(q.shape[-1])
        q = F.normalize(q.float() + self._split(self.q_bias.to(x.device)), dim=-1) * scale.to(
            x.device
        )
        k = F.normalize(k.float(), dim=-1)
        q, k = apply_rope(q, *rope).to(v.dtype), apply_rope(k, *rope).to(v.dtype)
        if cache is not None:
            k, v = cache.append(k, v)
        out = self.attention(q[:, :, :num_queries], k, v, mask)
        return self.proj(out.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        """(B, L, C) or (C,) to (B, H, L, c) or (H, 1, c)."""
        heads = x.unflatten(-1, (self.num_heads, -1))
        return heads.transpose(1, 2) if x.ndim == 3 else heads[:, None]


class CrossAttention(nn.Module):
    """Image tokens query the text."""

    def __init__(
        self, config: TransformerConfig, operations: Any, attention: AttentionFn, **factory: Any
    ):
        super().__init__()
        dim, rank = config.embed_dim, config.lora_rank
        self.num_heads = config.num_heads
        self.attention = attention
        self.v_bias = nn.Parameter(torch.zeros(dim, **_vector(factory)))
        self.mat_q = make_linear(dim, dim, True, rank, operations, **factory)
        self.mat_kv = make_linear(dim, 2 * dim, False, rank, operations, **factory)
        self.proj = make_linear(dim, dim, True, rank, operations, **factory)

    def keys_values(self, text: Tensor) -> TextKV:
        """Return keys and values of projected text (B, T, C)."""
        k, v = self.mat_kv(text).chunk(2, dim=-1)
        # The release bypasses v_bias where an adapter sits on mat_kv, and its weights are trained so.
        if not isinstance(self.mat_kv, LoRALinear):
            v = v + self.v_bias.to(v)
        return TextKV(self._split(k), self._split(v))

    def forward(self, x: Tensor, text: TextKV, mask: Tensor | None) -> Tensor:
        out = self.attention(self._split(self.mat_q(x)), text.keys, text.values, mask)
        return self.proj(out.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class FeedForward(nn.Module):
    """Linear, tanh-GELU, linear."""

    def __init__(self, config: TransformerConfig, operations: Any, **factory: Any):
        super().__init__()
        self.fc1 = operations.Linear(config.embed_dim, config.ffn_dim, **factory)
        self.fc2 = operations.Linear(config.ffn_dim, config.embed_dim, **factory)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class Block(nn.Module):
    """x += g1 * SA(mod(LN x)); x += CA(LN x); x += g2 * FFN(mod(LN x))."""

    def __init__(
        self,
        config: TransformerConfig,
        operations: Any,
        attention: AttentionFn,
        compute_dtype: torch.dtype,
        **factory: Any,
    ):
        super().__init__()
        dim, vector = config.embed_dim, _vector(factory)
        self.compute_dtype = compute_dtype
        self.ada_gss = nn.Parameter(torch.zeros(1, 1, 6, dim, **vector))
        self.sa = SelfAttention(config, operations, attention, **factory)
        self.ca = CrossAttention(config, operations, attention, **factory)
        self.ca_norm = operations.LayerNorm(dim, eps=NORM_EPS, **vector)
        self.ffn = FeedForward(config, operations, **factory)

    def forward(
        self,
        x: Tensor,
        modulation: Tensor,
        text: TextKV,
        rope: tuple[Tensor, Tensor],
        *,
        mask: Tensor | None = None,
        text_mask: Tensor | None = None,
        cache: KVCache | None = None,
        num_queries: int | None = None,
    ) -> Tensor:
        """Run the block.

        Args:
            x: (B, L, C) float32 residual stream.
            modulation: (B or 1, 1, 6, C) shared part, to which the block's own is added.
            text: from `ca.keys_values`.
            rope: (cos, sin) of the L rows.
            mask: additive self-attention mask; text_mask: additive (B, 1, 1, T).
            cache: of earlier scales, for next-scale generation.
            num_queries: return only that many rows; the others are attended to and dropped.
        """
        gate1, gate2, scale1, scale2, shift1, shift2 = (modulation + self.ada_gss.to(x)).unbind(2)
        mask = mask if mask is None else mask[..., :num_queries, :]
        h = modulate(x, scale1, shift1).to(self.compute_dtype)
        x = x[:, :num_queries] + gate1 * self.sa(h, rope, mask, cache, num_queries).float()
        h = self.ca_norm(x).to(self.compute_dtype)
        x = x + self.ca(h, text, text_mask).float()
        h = modulate(x, scale2, shift2).to(self.compute_dtype)
        return x + gate2 * self.ffn(h).float()


def modulate(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return LN(x) * (1 + scale) + shift in float32, for x (B, L, C) and the rest (B or 1, 1, C)."""
    return F.layer_norm(x, x.shape[-1:], eps=NORM_EPS) * (1 + scale.to(x)) + shift.to(x)


def _vector(factory: dict[str, Any]) -> dict[str, Any]:
    """Return the factory arguments of parameters that stay in float32."""
    return {**factory, "dtype": torch.float32}
