"""The one place that knows which attention kernel runs.

Every module takes the function as a constructor argument, so a host can pass its own.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

_LONG = 512
"""Queries from which on the products on a CPU are worth a loop of their own."""

_BLOCK = 2**21
"""Scores at a time: 4 MB in bfloat16. Smaller blocks pack the keys too often, larger ones leave the cache."""

_PROBE = 16
"""Every so many keys are asked first for the size of a query's scores."""


class AttentionFn(Protocol):
    """softmax(q k^T / sqrt(D) + mask) v."""

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend.

        Args:
            q: (B, H, Lq, D).
            k, v: (B, H, Lk, D).
            mask: additive, floating point, broadcastable to (B, H, Lq, Lk); None means all see all.

        Returns:
            (B, H, Lq, D).
        """
        ...


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attend with PyTorch's fused kernel, or faster where that is slow; see `AttentionFn` for shapes."""
    if mask is None and _fused_is_slow(q, k, v):
        return _by_products(q, k, v)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def _fused_is_slow(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Tell whether PyTorch's kernel reaches less than half of the machine's matrix rate."""
    on_cpu = q.device.type == "cpu" and q.dtype == k.dtype == v.dtype == torch.bfloat16
    return on_cpu and q.shape[2] >= _LONG and not torch.is_grad_enabled()


def _by_products(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend by plain matrix products of bfloat16 over blocks of queries, head by head.

    Scores rounded to bfloat16 would be coarse where they are large, and so where they count. Softmax
    is blind to a shift of a row, so an estimate of the row's maximum is subtracted inside the product,
    before it is rounded: then the scores that count are the small ones.
    """
    batch, heads, length, dim = q.shape
    scale = dim**-0.5
    rows = max(1, _BLOCK // k.shape[2])
    out = q.new_empty(batch, length, heads, v.shape[3])  # heads inside: joining them copies nothing
    buffer = q.new_empty(
        min(rows, length), k.shape[2]
    )  # new memory at every step would cost a tenth
    for index in range(batch):
        for head in range(heads):
            keys, values = k[index, head].contiguous(), v[index, head].contiguous()
            probe = keys[::_PROBE].contiguous()
            for start in range(0, length, rows):
                queries = q[index, head, start : start + rows].contiguous()
                scores = buffer[: len(queries)]
                peak = (queries @ probe.T).amax(-1, keepdim=True) * scale
                torch.addmm(peak, queries, keys.T, beta=-1, alpha=scale, out=scores)
                torch.softmax(scores, -1, out=scores)
                out[index, start : start + rows, head] = scores @ values
    return out.transpose(1, 2)
