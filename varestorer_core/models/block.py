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
from .folding import FoldedText, fold
from .fused import fused_linear, linear
from .lora import LoRALinear, make_linear
from .residual import NORM_EPS, advance, modulate
from .rope import apply_rope
from .rows import by_rows, by_rows_of_layers, overwrite_by_rows
from .text_conditioning import TextKV

_MAX_LOG_SCALE = math.log(100.0)

# x (1 + tanh(u)) / 2 is x times the logistic function of 2u, u = sqrt(2 / pi) (x + 0.044715 x^3).
_GELU_LINEAR = 2 * math.sqrt(2 / math.pi)
_GELU_CUBIC = 0.044715 * _GELU_LINEAR


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
        constants = self.constants(x.device)
        q, k, v = self.heads(x, *(table[None] for table in rope), constants=constants)
        return linear(self.proj, self.attend(q, k, v, mask, cache).flatten(2))

    def constants(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the bias (3 C,) of q, k and v, and the lengths (2, H, 1) of q and k, in float32."""
        q_bias, v_bias = (b.to(device, torch.float32) for b in (self.q_bias, self.v_bias))
        scale = self.scale_mul_1H11.to(device, torch.float32).clamp(max=_MAX_LOG_SCALE).exp()
        # The kernel divides by sqrt(c); cosine attention wants scale 1.
        scale = scale.flatten()[:, None] * math.sqrt(len(q_bias) // self.num_heads)  # (H, 1)
        # No key bias: it would cancel in the softmax were it not for the normalisation.
        bias = torch.cat((q_bias, torch.zeros_like(q_bias), v_bias))
        return bias, torch.stack((scale, torch.ones_like(scale)))

    def heads(
        self, x: Tensor, cos: Tensor, sin: Tensor, *, constants: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return q, k, v (B, L, H, c) of x (B, L, C) and the angles' cos, sin (1, L, c / 2)."""
        bias, lengths = constants
        angles = (cos[:, :, None, None], sin[:, :, None, None])
        qkv, is_complete = fused_linear(self.mat_qkv, x, bias=bias)
        qkv = qkv.unflatten(-1, (3, self.num_heads, -1))
        if is_complete:
            overwrite_by_rows(
                lambda qk, *at: _rotate(qk.float(), lengths, *at), qkv[:, :, :2], *angles
            )
            return qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
        bias, dtype = bias.unflatten(0, (3, self.num_heads, -1)), qkv.dtype

        def rotated(qk: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
            return _rotate(qk.float() + bias[:2], lengths, cos, sin).to(dtype)

        q, k = by_rows(rotated, qkv[:, :, :2], *angles).unbind(2)
        return q, k, qkv[:, :, 2] + bias[2].to(dtype)

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, cache: KVCache | None
    ) -> Tensor:
        """Return what each query gathers, (B, n, H, c), of q like it and k, v (B, L, H, c)."""
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))  # (B, H, L, c)
        if cache is not None:
            k, v = cache.append(k, v)
        return self.attention(q, k, v, mask).transpose(1, 2)


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

    def prompt(self, text: Tensor) -> TextKV:
        """Return what `forward` needs of projected text (B, T, C), in the form that is fastest."""
        k, v = self.keys_values(text)
        folds = getattr(self.attention, "may_be_folded", False)
        return (fold(self.mat_q, self.proj, k, v) if folds else None) or (k, v)

    def forward(self, x: Tensor, text_kv: TextKV, mask: Tensor | None) -> Tensor:
        if isinstance(text_kv, FoldedText):
            return text_kv.attend(x, mask)
        out = self.attention(self._split(linear(self.mat_q, x)), *text_kv, mask)
        return linear(self.proj, out.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class FeedForward(nn.Module):
    """Linear, tanh-GELU, linear."""

    def __init__(self, config: TransformerConfig, operations: Any, **factory: Any):
        super().__init__()
        self.fc1 = operations.Linear(config.embed_dim, config.ffn_dim, **factory)
        self.fc2 = operations.Linear(config.ffn_dim, config.embed_dim, **factory)

    def forward(self, x: Tensor) -> Tensor:
        hidden, is_activated = fused_linear(self.fc1, x, gelu=True)
        return linear(self.fc2, hidden if is_activated else by_rows(_gelu, hidden))


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
        text_kv: TextKV,
        rope: tuple[Tensor, Tensor],
        *,
        mask: Tensor | None = None,
        text_mask: Tensor | None = None,
        cache: KVCache | None = None,
        last: int | None = None,
        scratch: list[Tensor] | None = None,
    ) -> Tensor:
        """Run the block.

        Args:
            x: (B, L, C) float32 residual stream.
            modulation: (B, 1, 6, C) shared part, to which the block's own is added, or (1, 1, 6, C)
                for one prompt.
            text_kv: from `ca.prompt` or `ca.keys_values`.
            rope: (cos, sin) of the L rows.
            mask: additive self-attention mask; text_mask: additive (B, 1, 1, T).
            cache: of earlier scales, for next-scale generation.
            last: return only that many rows; the others are attended to and then done with.
            scratch: an empty list that the blocks of one pass share and nothing else reads. With it, memory is
                used again, that of x too. Not with a cache, nor where gradients are recorded.
        """
        gate1, gate2, scale1, scale2, shift1, shift2 = (modulation + self.ada_gss.to(x)).unbind(2)
        half, constants = self.compute_dtype, self.sa.constants(x.device)

        def before(x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            h = by_rows(lambda part: modulate(part, scale1, shift1).to(half), x)
            return self.sa.heads(h, cos, sin, constants=constants)

        def cross(x: Tensor) -> Tensor:
            return self.ca_norm(x).to(half)

        def second(x: Tensor) -> Tensor:
            return modulate(x, scale2, shift2).to(half)

        def after(x: Tensor, attended: Tensor) -> Tensor:
            change = linear(self.sa.proj, attended.flatten(2))
            x, h = advance(x, change, gate1, cross, in_place=scratch is not None)
            change = self.ca(h, text_kv, text_mask)
            x, h = advance(x, change, None, second, in_place=scratch is not None)
            return advance(x, self.ffn(h), gate2, None, in_place=scratch is not None)[0]

        tables = (table[None] for table in rope)
        stored = self.ffn.fc1.weight.dtype
        q, k, v = by_rows_of_layers(before, x, *tables, dtype=stored, into=scratch)
        if last is not None:
            q, x = q[:, :last], x[:, :last]
            mask = None if mask is None else mask[..., :last, :]
        attended = self.sa.attend(q, k, v, mask, cache)
        into = None if scratch is None else [x]
        return by_rows_of_layers(after, x, attended, dtype=stored, into=into)


def _gelu(x: Tensor) -> Tensor:
    """Return the tanh-GELU of x, on a CPU by way of the logistic function, which is vectorised better."""
    if x.device.type != "cpu" or torch.is_grad_enabled():
        return F.gelu(x, approximate="tanh")
    wide = x.float()
    inner = (wide * wide).mul_(_GELU_CUBIC).add_(_GELU_LINEAR).mul_(wide)
    return inner.sigmoid_().mul_(wide).to(x.dtype)


def _rotate(x: Tensor, length: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Give every vector of x (..., c), which nothing else reads, that length, and turn it to its position."""
    scale = length / torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min(1e-12)
    x = x * scale if torch.is_grad_enabled() else x.mul_(scale)
    return apply_rope(x, cos, sin, in_place=True)


def _vector(factory: dict[str, Any]) -> dict[str, Any]:
    """Return the factory arguments of parameters that stay in float32."""
    return {**factory, "dtype": torch.float32}
