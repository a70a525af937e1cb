"""Attention on a CPU as plain matrix multiplications."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..models.attention import attention as plain
from .onednn import has_products, product
from .speed import Trial, is_faster, name_of, power_of_two, ramp

_LONG = 512
"""With fewer queries, attention takes too little of a pass to be optimised."""

_MOST_KEYS = 2048
"""Maximum number of keys in the timed sample."""

_BLOCK = 2**21
"""Scores per block and thread: 4 MB in bfloat16; an eighth of them, 1 MB, in float32.

Smaller blocks pack the keys too often, larger ones do not fit into the cache.
"""

_MOST = 2.0**64
"""Largest sum of exponentials for which the products with the values are guaranteed to be finite."""

_PROBE = 16
"""Stride of the keys that are used to estimate a query's maximum score."""


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attend with the faster of PyTorch's fused kernel and ours; see `AttentionFn` for shapes."""
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
    """Attend by plain matrix multiplications over blocks of queries, head by head.

    PyTorch's kernel reaches a quarter of a CPU's peak rate in bfloat16, and half of it in float32.
    """
    attend = _in_bfloat16 if q.dtype == torch.bfloat16 else _in_float32
    # Heads come first in memory: writing rows of one head that are far apart is slow, one page per row.
    out = q.new_empty(*q.shape[:3], v.shape[3])
    for index in range(q.shape[0]):
        for head in range(q.shape[1]):
            attend(q[index, head], k[index, head], v[index, head], out[index, head])
    return out


def _in_bfloat16(q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> None:
    """Attend with one head, q (Lq, D), k and v (Lk, D), into out (Lq, D).

    Scores rounded to bfloat16 are coarse where they are large, which is where they matter. Softmax is invariant to a
    shift of a row, so an estimate of the row's maximum is subtracted inside the multiplication, before rounding: the
    scores that matter are then small. This takes an additional column: minus the estimate for the queries, one for the
    keys.

    With this estimate, softmax needs neither the maximum nor the division of all scores, and powers of two are cheaper
    than powers of e.
    """
    size = q.shape[1]
    # Two columns, because bfloat16 multiplications process elements in pairs.
    queries, keys = q.new_zeros(len(q), size + 2), k.new_ones(len(k), size + 2)
    queries[:, :size], keys[:, :size] = q, k
    probe, values = k[::_PROBE].contiguous(), v.contiguous()
    torch.neg((probe @ queries[:, :size].T).amax(0), out=queries[:, size])
    rows = max(1, _BLOCK * torch.get_num_threads() // len(keys))
    # Allocating memory at every step would take 10 % longer.
    buffer = q.new_empty(min(rows, len(q)), len(keys))
    for start in range(0, len(q), rows):
        part = queries[start : start + rows]
        scores = buffer[: len(part)]
        sums = _exponentials(part, keys, scores)
        if not (sums < _MOST).all():  # a maximum far above its estimate
            torch.mm(part[:, :size], keys[:, :size].T, out=scores)
            torch.neg(scores.amax(-1), out=part[:, size])
            sums = _exponentials(part, keys, scores)
        torch.div(scores @ values, sums, out=out[start : start + rows])


def _exponentials(queries: Tensor, keys: Tensor, out: Tensor) -> Tensor:
    """Write the exponentials of all scores, shifted by the last two columns, to out (n, Lk).

    Returns:
        Sums over the keys, (n, 1) in float32.
    """
    scale = (queries.shape[1] - 2) ** -0.5 / math.log(2)
    torch.addmm(out, queries, keys.T, beta=0, alpha=scale, out=out)
    return _row_sums(torch.exp2(out, out=out))


def _row_sums(x: Tensor) -> Tensor:
    """Return the sums (n, 1), in float32, of the rows of x (n, L) in bfloat16.

    PyTorch sums fastest in the dtype of x. Summing in a few pieces limits the rounding error.
    """
    pieces = next(count for count in range(8, 0, -1) if x.shape[1] % count == 0)
    return x.unflatten(1, (pieces, -1)).sum(-1).sum(-1, keepdim=True, dtype=torch.float32)


def _in_float32(q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> None:
    """Attend like `_in_bfloat16`, for scores that are precise enough without a shift."""
    keys, values = k * q.shape[1] ** -0.5, v.T.contiguous()
    rows = max(1, _BLOCK // 8 * torch.get_num_threads() // len(keys))
    for start in range(0, len(q), rows):
        scores = product(q[start : start + rows].contiguous(), keys)
        torch.softmax(scores, -1, out=scores)
        out[start : start + rows] = product(scores, values)
