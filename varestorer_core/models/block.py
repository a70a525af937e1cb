"""One transformer block: gated self-attention, cross-attention, gated feed-forward.

Numerics: the residual stream, the norms and the query/key normalisation are float32; matrices multiply in
`compute_dtype`. Vectors (norms, biases of attention, gates) are stored in float32 whatever the matrices are.
"""

from __future__ import annotations

import math
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
_MAX_LOG_SCALE = math.log(100.0)


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
        self, x: Tensor, rope: tuple[Tensor, Tensor], mask: Tensor | None, cache: KVCache | None
    ) -> Tensor:
        qkv = self.mat_qkv(x)
        q, k, v = qkv.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)  # (B, H, L, c)
        # No key bias: it would cancel in the softmax were it not for the normalisation.
        q = q.float() + self._per_head(self.q_bias, q)
        v = v + self._per_head(self.v_bias, v).to(v.dtype)
        # The kernel divides by sqrt(c); cosine attention wants scale 1.
        scale = self.scale_mul_1H11.to(q).clamp(max=_MAX_LOG_SCALE).exp() * math.sqrt(q.shape[-1])
        q = apply_rope(F.normalize(q, dim=-1, eps=1e-12) * scale, *rope)
        k = apply_rope(F.normalize(k.float(), dim=-1, eps=1e-12), *rope)
        q, k = q.to(v.dtype), k.to(v.dtype)
        if cache is not None:
            k, v = cache.append(k, v)
        out = self.attention(q, k, v, mask)
        return self.proj(out.transpose(1, 2).flatten(2))

    def _per_head(self, bias: Tensor, like: Tensor) -> Tensor:
        return bias.to(device=like.device, dtype=torch.float32).unflatten(
            0, (self.num_heads, 1, -1)
        )


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

    def keys_values(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values (B, H, T, c) of projected text (B, T, C)."""
        k, v = self.mat_kv(text).chunk(2, dim=-1)
        # The release bypasses v_bias where an adapter sits on mat_kv, and its weights are trained so.
        if not isinstance(self.mat_kv, LoRALinear):
            v = v + self.v_bias.to(v)
        return self._split(k), self._split(v)

    def forward(self, x: Tensor, text_kv: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        out = self.attention(self._split(self.mat_q(x)), *text_kv, mask)
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
        text_kv: tuple[Tensor, Tensor],
        rope: tuple[Tensor, Tensor],
        *,
        mask: Tensor | None = None,
        text_mask: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Run the block.

        Args:
            x: (B, L, C) float32 residual stream.
            modulation: (B, 1, 6, C) shared part, to which the block's own is added.
            text_kv: keys and values from `ca.keys_values`.
            rope: (cos, sin) of the L rows.
            mask: additive self-attention mask; text_mask: additive (B, 1, 1, T).
            cache: of earlier scales, for next-scale generation.
        """
        gate1, gate2, scale1, scale2, shift1, shift2 = (modulation + self.ada_gss.to(x)).unbind(2)
        h = modulate(x, scale1, shift1).to(self.compute_dtype)
        x = x + self.sa(h, rope, mask, cache).float() * gate1
        h = self.ca_norm(x).to(self.compute_dtype)
        x = x + self.ca(h, text_kv, text_mask).float()
        h = modulate(x, scale2, shift2).to(self.compute_dtype)
        return x + self.ffn(h).float() * gate2


def modulate(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return LN(x) * (1 + scale) + shift, without affine, in float32."""
    return F.layer_norm(x, x.shape[-1:], eps=NORM_EPS) * (1 + scale) + shift


def _vector(factory: dict[str, Any]) -> dict[str, Any]:
    """Return the factory arguments of parameters that stay in float32."""
    return {**factory, "dtype": torch.float32}
