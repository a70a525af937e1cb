"""The transformer on a CPU: rows in cache-sized blocks, biases and GELU fused into the matrix multiplications.

Each class computes what its parent in `models` computes, apart from rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.adaptive_norm import HeadNorm, modulate
from ..models.attention import AttentionFn
from ..models.attention import attention as plain_attention
from ..models.block import (
    Block,
    BlockContext,
    CrossAttention,
    FeedForward,
    HeadConstants,
    SelfAttention,
    TextKV,
)
from ..models.cache import KVCache
from ..models.rope import apply_rope
from ..models.transformer import VARTransformer
from .attention import attention
from .folding import FoldedText
from .fused import fused_linear, linear
from .residual import advance
from .rows import by_rows, by_rows_of_layers, overwrite_by_rows
from .speed import Trial, is_faster, name_of, ramp
from .switch import runs_on

# x (1 + tanh(u)) / 2 is x times the logistic function of 2u, u = sqrt(2 / pi) (x + 0.044715 x^3).
_GELU_LINEAR = 2 * math.sqrt(2 / math.pi)
_GELU_CUBIC = 0.044715 * _GELU_LINEAR

_scratch: ContextVar[list[Tensor] | None] = ContextVar("scratch", default=None)


@contextmanager
def memory_shared() -> Iterator[None]:
    """Context in which the blocks of one pass share their memory, including that of their input."""
    token = _scratch.set([])
    try:
        yield
    finally:
        _scratch.reset(token)


class FastTransformer(VARTransformer):
    """All blocks of a pass share their memory."""

    def forward(self, tokens: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if not runs_on(tokens):
            return super().forward(tokens, *args, **kwargs)
        with memory_shared():
            return super().forward(tokens, *args, **kwargs)


class FastHeadNorm(HeadNorm):
    """Process rows in blocks."""

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        if not runs_on(x):
            return super().forward(x, cond)
        scale, shift = self.ada_lin(cond)[:, None].chunk(2, dim=-1)
        return by_rows(lambda part: modulate(part, scale, shift), x)


class FastBlock(Block):
    """Run whole chains of layers on blocks of rows, in memory shared by the blocks of a pass."""

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
        if not runs_on(x):
            return super().forward(
                x,
                context,
                rope,
                mask=mask,
                text_mask=text_mask,
                cache=cache,
                num_queries=num_queries,
            )
        gate1, gate2, scale1, scale2, shift1, shift2 = context.modulation.unbind(2)
        half, heads, text = self.compute_dtype, context.heads, context.text
        scratch = None if cache is not None else _scratch.get()

        def before(x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            h = by_rows(lambda part: modulate(part, scale1, shift1).to(half), x)
            return _heads(self.sa, h, cos, sin, heads)

        def cross(x: Tensor) -> Tensor:
            return self.ca_norm(x).to(half)

        def second(x: Tensor) -> Tensor:
            return modulate(x, scale2, shift2).to(half)

        def after(x: Tensor, attended: Tensor) -> Tensor:
            change = linear(self.sa.proj, attended.flatten(2))
            x, h = advance(x, change, gate1, cross, in_place=scratch is not None)
            change = _cross_attention(self.ca, h, text, text_mask)
            x, h = advance(x, change, None, second, in_place=scratch is not None)
            change = _feed_forward(self.ffn, h)
            return advance(x, change, gate2, None, in_place=scratch is not None)[0]

        tables = (table[None] for table in rope)
        stored = self.ffn.fc1.weight.dtype
        q, k, v = by_rows_of_layers(before, x, *tables, dtype=stored, into=scratch)
        if num_queries is not None:
            q, x = q[:, :num_queries], x[:, :num_queries]
            mask = None if mask is None else mask[..., :num_queries, :]
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))  # (B, H, L, c)
        if cache is not None:
            k, v = cache.append(k, v)
        attended = _attend(self.sa, q, k, v, mask).transpose(1, 2)
        into = None if scratch is None else [x]
        return by_rows_of_layers(after, x, attended, dtype=stored, into=into)


class FastCrossAttention(CrossAttention):
    """Fold a short prompt into the surrounding layers."""

    def keys_values(self, text: Tensor) -> TextKV:
        kv = super().keys_values(text)
        # Gradients and the switch are checked where the folded form is used.
        on_cpu = text.device.type == "cpu" and not torch.compiler.is_compiling()
        if not on_cpu or not _is_softmax(self.attention):
            return kv
        return FoldedText(kv.keys, kv.values, kv)


def _is_softmax(attend: AttentionFn) -> bool:
    """Return whether an attention function is the core's."""
    return attend is plain_attention or getattr(attend, "is_plain_on_cpu", False)


def _attend(
    module: SelfAttention | CrossAttention, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None
) -> Tensor:
    attend = attention if _is_softmax(module.attention) else module.attention
    return attend(q, k, v, mask)


def _cross_attention(ca: CrossAttention, x: Tensor, text: TextKV, mask: Tensor | None) -> Tensor:
    if isinstance(text, FoldedText) and (folded := text.folded(ca.mat_q, ca.proj)) is not None:
        return folded.attend(x, mask)
    q = linear(ca.mat_q, x).unflatten(-1, (ca.num_heads, -1)).transpose(1, 2)
    out = _attend(ca, q, text.keys, text.values, mask)
    return linear(ca.proj, out.transpose(1, 2).flatten(2))


def _feed_forward(ffn: FeedForward, x: Tensor) -> Tensor:
    hidden, is_activated = fused_linear(ffn.fc1, x, gelu=True)
    if not is_activated:
        is_better = is_faster("GELU", name_of(x.dtype), lambda: _gelu_trials(x.dtype))
        hidden = by_rows(_gelu if is_better else _tanh_gelu, hidden)
    return linear(ffn.fc2, hidden)


def _gelu_trials(dtype: torch.dtype) -> tuple[Trial, Trial]:
    x = ramp(128, 1024, dtype=dtype)
    return lambda: _gelu(x), lambda: _tanh_gelu(x)


def _tanh_gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def _heads(
    sa: SelfAttention, x: Tensor, cos: Tensor, sin: Tensor, constants: HeadConstants
) -> tuple[Tensor, Tensor, Tensor]:
    """Return q, k, v (B, L, H, c) of x (B, L, C) and the angles' cos, sin (1, L, c / 2)."""
    bias, lengths = constants.bias, constants.length
    angles = (cos[:, :, None, None], sin[:, :, None, None])
    qkv, is_complete = fused_linear(sa.mat_qkv, x, bias=bias.flatten())
    qkv = qkv.unflatten(-1, (3, sa.num_heads, -1))
    if is_complete:
        overwrite_by_rows(lambda qk, *at: _rotate(qk.float(), lengths, *at), qkv[:, :, :2], *angles)
        return qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
    dtype = qkv.dtype

    def rotated(qk: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        return _rotate(qk.float() + bias[:2], lengths, cos, sin).to(dtype)

    q, k = by_rows(rotated, qkv[:, :, :2], *angles).unbind(2)
    return q, k, qkv[:, :, 2] + constants.v_bias.to(dtype)


def _gelu(x: Tensor) -> Tensor:
    """Return the tanh-GELU of x, computed with the logistic function, which is vectorised better."""
    wide = x.float()
    inner = (wide * wide).mul_(_GELU_CUBIC).add_(_GELU_LINEAR).mul_(wide)
    return inner.sigmoid_().mul_(wide).to(x.dtype)


def _rotate(x: Tensor, length: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Normalise every vector of x (..., c) float32 to the given length and apply the rotary embedding, in place."""
    x = x.mul_(length / torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min(1e-12))
    if not is_faster("rotation", f"heads of {x.shape[-1]}", lambda: _rotation_trials(x.shape[-1])):
        return apply_rope(x, cos, sin)
    return _turned(x, cos, sin)


def _rotation_trials(size: int) -> tuple[Trial, Trial]:
    x, angles = ramp(64, 2, 8, size), (ramp(64, 1, 1, size // 2), ramp(64, 1, 1, size // 2))
    return lambda: _turned(x, *angles), lambda: apply_rope(x, *angles)


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate channel pairs of x (..., c) as complex numbers, in place."""
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs.mul_(torch.complex(cos, sin))).flatten(-2)
