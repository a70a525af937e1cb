"""One transformer block: gated self-attention, cross-attention to the text, gated feed-forward.

Numerics: the residual stream, the norms and the query/key normalisation are float32; matrix multiplications run in
`compute_dtype`. Vectors (norms, attention biases, gates) are always stored in float32.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import TransformerConfig
from ..lora.layer import LoRALinear, make_linear
from .adaptive_norm import NORM_EPS, modulate
from .attention import AttentionFn
from .block_context import BlockContext, HeadConstants, TextKV
from .cache import KVCache
from .rope import apply_rope

_MAX_LOG_SCALE = math.log(100.0)


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
        heads: HeadConstants,
        rope: tuple[Tensor, Tensor],
        mask: Tensor | None = None,
        cache: KVCache | None = None,
        num_queries: int | None = None,
    ) -> Tensor:
        """Attend from the first `num_queries` rows of x (B, L, C), default all, to all L."""
        q, k, v = (t.transpose(1, 2) for t in self._queries_keys_values(x, heads, *rope))
        if cache is not None:
            k, v = cache.append(k, v)
        mask = mask if mask is None else mask[..., :num_queries, :]
        out = self.attention(q[:, :, :num_queries], k, v, mask)
        return self.proj(out.transpose(1, 2).flatten(2))

    def _queries_keys_values(
        self, x: Tensor, heads: HeadConstants, cos: Tensor, sin: Tensor
    ) -> tuple[Tensor, ...]:
        """Return q, k, v (B, L, H, c), with q and k normalised and with rotary positions applied."""
        qkv = self.mat_qkv(x).unflatten(-1, (3, self.num_heads, -1))  # (B, L, 3, H, c)
        qk = qkv[:, :, :2] + heads.bias[:2]  # float32, as the bias is
        norm = torch.linalg.vector_norm(qk, dim=-1, keepdim=True).clamp_min(1e-12)
        qk = qk * (heads.length / norm)
        q, k = apply_rope(qk, cos[:, None, None], sin[:, None, None]).to(qkv.dtype).unbind(2)
        return q, k, qkv[:, :, 2] + heads.v_bias.to(qkv.dtype)

    def constants(self, device: torch.device, dtype: torch.dtype) -> HeadConstants:
        """Return the constants on a device, for computation in `dtype`."""
        q_bias, v_bias = (b.to(device, torch.float32) for b in (self.q_bias, self.v_bias))
        # No key bias: it would cancel in the softmax if keys were not normalised.
        bias = torch.stack((q_bias, torch.zeros_like(q_bias), v_bias))
        bias = bias.unflatten(-1, (self.num_heads, -1))
        scale = self.scale_mul_1H11.to(device, torch.float32).clamp(max=_MAX_LOG_SCALE).exp()
        # The kernel divides by sqrt(c); cosine attention needs a softmax scale of 1.
        scale = scale.flatten()[:, None] * math.sqrt(bias.shape[-1])
        length = torch.stack((scale, torch.ones_like(scale)))
        return HeadConstants(bias, bias[2].to(dtype), length)


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
        # The release bypasses v_bias if mat_kv has an adapter, and its weights were trained this way.
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

    def context(self, modulation: Tensor, text: Tensor) -> BlockContext:
        """Return the block's inputs other than the tokens.

        Args:
            modulation: (B, 1, 6, C) shared part, to which the block's own is added.
            text: (B, T, C) projected text in `compute_dtype`.
        """
        own = modulation + self.ada_gss.to(modulation.device)  # float32, also under autocast
        heads = self.sa.constants(modulation.device, self.compute_dtype)
        return BlockContext(own, heads, self.ca.keys_values(text))

    def forward(
        self,
        x: Tensor,
        context: BlockContext,
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
            context: from `context`.
            rope: (cos, sin) of the L rows.
            mask: additive self-attention mask; text_mask: additive (B, 1, 1, T).
            cache: keys and values of earlier scales, for next-scale generation.
            num_queries: return only the first rows; the others serve as keys and values only.
        """
        gate1, gate2, scale1, scale2, shift1, shift2 = context.modulation.unbind(2)
        half = self.compute_dtype
        h = modulate(x, scale1, shift1).to(half)
        sa = self.sa(h, context.heads, rope, mask, cache, num_queries)
        # Sums of the float32 stream and a branch in half precision are float32.
        x = torch.addcmul(x[:, :num_queries], sa, gate1)
        x = x + self.ca(self.ca_norm(x).to(half), context.text, text_mask)
        return torch.addcmul(x, self.ffn(modulate(x, scale2, shift2).to(half)), gate2)


def _vector(factory: dict[str, Any]) -> dict[str, Any]:
    """Return the factory arguments of parameters that stay in float32."""
    return {**factory, "dtype": torch.float32}
