"""Cross-attention to a short prompt with its outer layers folded into the prompt's keys and values.

Queries attend to the same few keys in every tile. With q = W x + b, the score of a head's key k is

    q k / sqrt(c) = x (W^T k / sqrt(c)) + b k / sqrt(c),

and the output of a head passes only through the output layer, so the two layers can be multiplied with the keys and the
values once per run. At full size a prompt of 64 rows then needs 1,024 columns instead of the 2,048 of each layer, and
no attention kernel: 6 % of the multiplications of a pass are saved, and the result differs only by rounding.

Only used on CPUs, where it has been measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.block_context import TextKV
from .fused import linear_weights
from .onednn import has_products, product, uses_products
from .speed import Trial, is_faster, name_of, ramp

_MOST = 0.75
"""Maximum ratio of folded columns to width; above it, little is saved."""


@dataclass(frozen=True)
class FoldedText(TextKV):
    """Keys and values of one block, folded at their first use on a CPU."""

    prompt: TextKV
    """Keys and values as they were computed, before any `map`."""
    _made: list[Folded | None] = field(default_factory=list)

    def map(self, change: Callable[[Tensor], Tensor]) -> FoldedText:
        """Return a copy with another batch size; the folded form of a single prompt is valid for any batch."""
        return FoldedText(change(self.keys), change(self.values), self.prompt, self._made)

    def folded(self, mat_q: nn.Module, proj: nn.Module) -> Folded | None:
        """Return the cached folded form between two linear layers, or None; see `fold`."""
        if not self._made:
            self._made.append(fold(mat_q, proj, self.prompt))
        return self._made[0]


@dataclass(frozen=True)
class Folded:
    """Keys times the query layer and values times the output layer, with H heads and T rows."""

    keys: Tensor
    """(H T, C)."""
    key_bias: Tensor
    """(H T,) float32."""
    values: Tensor
    """(C, H T)."""
    value_bias: Tensor | None
    """(C,)."""
    heads: int

    def attend(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Return the attention output (B, n, C) of tokens x (B, n, C); mask: additive (1, 1, 1, T) or (B, 1, 1, T)."""
        scores = _multiply(x, self.keys, self.key_bias).unflatten(-1, (self.heads, -1))
        if mask is not None:
            scores = scores + mask
        return _multiply(scores.softmax(-1).flatten(-2), self.values, self.value_bias)


def fold(mat_q: nn.Module, proj: nn.Module, kv: TextKV) -> Folded | None:
    """Return the folded form of keys and values (1, H, T, c) between two linear layers of width H c, or None.

    Returns None if folding is not faster, or for layers with more than one matrix multiplication, such as those with an
    adapter.
    """
    k, v = kv.keys, kv.values
    batch, heads, rows, size = k.shape
    width = heads * size
    if batch != 1 or heads * rows > _MOST * width or not has_products(k, v):
        return None
    sample = f"{name_of(k.dtype)}, width {width}, {heads * rows} columns"
    if not is_faster("folded prompt", sample, lambda: _trials(k.dtype, width, heads, rows)):
        return None
    like = k.new_zeros(1, width)
    before, after = linear_weights(mat_q, like), linear_weights(proj, like)
    if before is None or after is None:
        return None
    (w_in, b_in), (w_out, b_out) = before, after
    k, v, scale = k[0], v[0], size**-0.5
    keys = torch.baddbmm(
        k.new_empty(()), k, w_in.unflatten(0, (heads, size)), beta=0, alpha=scale
    )  # (H, T, C)
    key_bias = torch.zeros(heads, rows)
    if b_in is not None:
        key_bias = torch.einsum("htc,hc->ht", k.float(), b_in.float().unflatten(0, (heads, size)))
    values = torch.bmm(w_out.unflatten(1, (heads, size)).transpose(0, 1), v.transpose(1, 2))
    return Folded(
        keys.flatten(0, 1),
        key_bias.flatten() * scale,
        values.transpose(0, 1).flatten(1),
        b_out,
        heads,
    )


def _trials(dtype: torch.dtype, width: int, heads: int, rows: int) -> tuple[Trial, Trial]:
    """Return both variants on 64 tokens, at full width or with the heads halved until the sample is small."""
    while width > 512 and heads % 2 == 0:
        width, heads = width // 2, heads // 2
    x = ramp(1, 64, width, dtype=dtype)
    w_in, w_out = (ramp(width, width, dtype=dtype) for _ in range(2))
    k, v = (ramp(1, heads, rows, width // heads, dtype=dtype) for _ in range(2))
    keys, values = (ramp(*s, dtype=dtype) for s in ((heads * rows, width), (width, heads * rows)))
    folded = Folded(keys, torch.zeros(heads * rows), values, None, heads)

    def apart() -> Tensor:
        q = _multiply(x, w_in, None).unflatten(-1, (heads, -1)).transpose(1, 2)
        out = F.scaled_dot_product_attention(q, k, v)
        return _multiply(out.transpose(1, 2).flatten(2), w_out, None)

    return lambda: folded.attend(x, None), apart


def _multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if uses_products(x, weight) and x.is_contiguous():
        return product(x, weight, bias)
    return F.linear(x, weight, None if bias is None else bias.to(x.dtype))
