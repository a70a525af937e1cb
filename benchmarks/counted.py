"""Estimate the cost of a pass of the full-size transformer on a GPU from shapes alone, without one.

    python benchmarks/counted.py

The time of an operator is the longer of its memory traffic at 3.35 TB/s and its multiplications at 600 TFLOP/s (an
H100's memory rate, and 0.6 of its bfloat16 rate); views are free, and attention is one fused kernel. This is a count,
not a measurement: launches, caches and the efficiency of kernels are ignored. The last line of the output is one JSON
document.
"""

from __future__ import annotations

import json

import torch
import torch.nn.functional as F
from gpu_networks import FULL_TRANSFORMER
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from varestorer_core.models import block, rope
from varestorer_core.models.transformer import VARTransformer
from varestorer_core.schedule import get_schedule

BYTES_PER_SECOND, FLOP_PER_SECOND = 3.35e12, 600e12
_PRODUCTS = {"aten::mm": 0, "aten::bmm": 0, "aten::addmm": 1, "aten::baddbmm": 1}
"""Matrix products, with the index of their first factor among the arguments."""
_FREE = ("aten::empty", "aten::empty_like", "aten::new_empty", "aten::_unsafe_view")


class Counter(TorchDispatchMode):
    """Adds up kernels, and the seconds of matrix products and of everything else."""

    def __init__(self):
        super().__init__()
        self.kernels, self.products, self.elementwise = 0, 0.0, 0.0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name, returns = func._schema.name, func._schema.returns
        is_view = any(r.alias_info is not None and not r.alias_info.is_write for r in returns)
        tensors = [t for t in tree_leaves((args, kwargs, out)) if isinstance(t, torch.Tensor)]
        if is_view or name in _FREE or not tensors:
            return out
        self.kernels += 1
        seconds = sum(map(_bytes, tensors)) / BYTES_PER_SECOND
        if name in _PRODUCTS:
            left, right = args[_PRODUCTS[name] :][:2]
            self.products += max(seconds, 2 * left.numel() * right.shape[-1] / FLOP_PER_SECOND)
        else:
            self.elementwise += seconds
        return out

    def attention(self, q, k, *_, **__):
        """Count a fused attention, which returns its heads concatenated."""
        self.kernels += 1
        self.products += 4 * q.numel() * k.shape[2] / FLOP_PER_SECOND
        batch, heads, rows, size = q.shape
        return q.new_empty(batch, rows, heads, size).transpose(1, 2)


def _bytes(tensor: torch.Tensor) -> int:
    """Return the bytes of a tensor, counting broadcast elements once."""
    sides = zip(tensor.shape, tensor.stride(), strict=True)
    distinct = [length if stride else 1 for length, stride in sides]
    return torch.Size(distinct).numel() * tensor.element_size()


def _rotate(x, cos, sin):
    """Apply RoPE as `apply_rope` does on a CUDA device; meta tensors would take the CPU's path."""
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * torch.complex(cos, sin)).flatten(-2)


def main() -> None:
    """Print a row for each batch."""
    counter = Counter()
    block.apply_rope = rope.apply_rope = _rotate
    F.scaled_dot_product_attention = counter.attention
    model = VARTransformer(FULL_TRANSFORMER, dtype=torch.bfloat16, device="meta")
    model.eval().requires_grad_(False)
    schedule, rows = get_schedule(1.0, FULL_TRANSFORMER.pixel_class), []
    for batch in (1, 4):
        text = model.encode_text(torch.empty(1, 64, FULL_TRANSFORMER.text_channels, device="meta"))
        tokens = torch.empty(
            batch, schedule.num_tokens_long - 1, FULL_TRANSFORMER.codebook_dim, device="meta"
        )
        model(tokens, text, schedule)  # creates the tables that later passes reuse
        counter.__init__()
        with counter:
            model(tokens, text, schedule)
        row = {"batch": batch, "kernels": counter.kernels}
        row.update(products_ms=counter.products * 1e3, elementwise_ms=counter.elementwise * 1e3)
        rows.append(row)
        print(", ".join(f"{name} {value:.4g}" for name, value in row.items()))
    print(json.dumps({"counted": rows}))


if __name__ == "__main__":
    main()
