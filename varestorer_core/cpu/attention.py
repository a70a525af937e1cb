"""Attention on a CPU by plain matrix products."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..models.attention import attention as plain
from .onednn import has_products, product
from .speed import Trial, is_faster, name_of, power_of_two, ramp

_LONG = 512
"""Queries below which attention is too small a share of a pass to be looked at."""

_MOST_KEYS = 2048
"""Keys of the sample that is timed, at most."""

_BLOCK = 2**21
"""Scores at a time for each thread: 4 MB in bfloat16; an eighth of them, 1 MB, in float32.

Smaller blocks pack the keys too often, larger ones leave the cache.
"""

_MOST = 2.0**64
"""Largest sum of exponentials whose products with values are surely finite."""

_PROBE = 16
"""Every so many keys are asked first for the size of a query's scores."""


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attend with PyTorch's fused kernel, or faster where that is slow; see `AttentionFn` for shapes."""
    if mask is None and q.shape[2] >= _LONG and has_products(q, k, v):
        keys = min(_MOST_KEYS, power_of_two(k.shape[2]))
        sample = f"{name_of(q.dtype)}, heads of {q.shape[3]}, {keys} keys"
        if is_faster("attention", sample, lambda: _trials(q.dtype, q.shape[3], keys)):
            return _by_products(q, k, v)
    return plain(q, k, v, mask)


def _trials(dtype: torch.dtype, size: int, keys: int) -> tuple[Trial, Trial]:
    q, k, v = (ramp(1, 1, length, size, dtype=dtype) for length in (128, keys, keys))
    return lambda: _by_products(q, k, v), lambda: plain(q, k, v)


def _by_products(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend by plain matrix products over blocks of queries, head by head.

    PyTorch's kernel reaches a quarter of a CPU's rate in bfloat16, and half of it in float32.
    """
    attend = _in_bfloat16 if q.dtype == torch.bfloat16 else _in_float32
    # Heads outside: rows of one head that lie apart are slow to write, one page for each.
    out = q.new_empty(*q.shape[:3], v.shape[3])
    for index in range(q.shape[0]):
        for head in range(q.shape[1]):
            attend(q[index, head], k[index, head], v[index, head], out[index, head])
    return out


def _in_bfloat16(q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> None:
    """Attend with one head, q (Lq, D), k and v (Lk, D), into out (Lq, D).

    Scores rounded to bfloat16 would be coarse where they are large, and so where they count. Softmax
    is blind to a shift of a row, so an estimate of the row's maximum is subtracted inside the product,
    before it is rounded: then the scores that count are the small ones. The product does it with a column
    more, minus the estimate beside the queries and a one beside the keys.

    With such an estimate, softmax's own search for the maximum and its division of all scores are not
    needed, and powers of two are cheaper than those of e.
    """
    size = q.shape[1]
    # Of two columns, because products in bfloat16 take numbers in pairs.
    queries, keys = q.new_zeros(len(q), size + 2), k.new_ones(len(k), size + 2)
    queries[:, :size], keys[:, :size] = q, k
    probe, values = k[::_PROBE].contiguous(), v.contiguous()
    torch.neg((probe @ queries[:, :size].T).amax(0), out=queries[:, size])
    rows = max(1, _BLOCK * torch.get_num_threads() // len(keys))
    # New memory at every step would cost a tenth.
    buffer = q.new_empty(min(rows, len(q)), len(keys))
    for start in range(0, len(q), rows):
        part = queries[start : start + rows]
        scores = buffer[: len(part)]
        sums = _exponentials(part, keys, scores)
        if not (sums < _MOST).all():  # a maximum far beyond its estimate
            torch.mm(part[:, :size], keys[:, :size].T, out=scores)
            torch.neg(scores.amax(-1), out=part[:, size])
            sums = _exponentials(part, keys, scores)
        torch.div(scores @ values, sums, out=out[start : start + rows])


def _exponentials(queries: Tensor, keys: Tensor, out: Tensor) -> Tensor:
    """Write e to the power of all scores, less what the two last columns take from them, to out (n, Lk).

    Returns:
        Their sums over the keys, (n, 1) in float32.
    """
    scale = (queries.shape[1] - 2) ** -0.5 / math.log(2)
    torch.addmm(out, queries, keys.T, beta=0, alpha=scale, out=out)
    return _row_sums(torch.exp2(out, out=out))


def _row_sums(x: Tensor) -> Tensor:
    """Return the sums (n, 1), in float32, of the rows of x (n, L) in bfloat16.

    PyTorch sums fastest into the type of x. A few pieces keep that rounding from being the sum's.
    """
    pieces = next(count for count in range(8, 0, -1) if x.shape[1] % count == 0)
    return x.unflatten(1, (pieces, -1)).sum(-1).sum(-1, keepdim=True, dtype=torch.float32)


def _in_float32(q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> None:
    """Do what `_in_bfloat16` does, for scores that are exact enough as they are."""
    keys, values = k * q.shape[1] ** -0.5, v.T.contiguous()
    rows = max(1, _BLOCK // 8 * torch.get_num_threads() // len(keys))
    for start in range(0, len(q), rows):
        scores = product(q[start : start + rows].contiguous(), keys)
        torch.softmax(scores, -1, out=scores)
        out[start : start + rows] = product(scores, values)
