"""Matrix multiplication on a CPU by oneDNN, fused with bias and activation.

TorchInductor compiles to the same operator. `F.linear` is slower: in bfloat16 it first copies the bias into the whole
result, and a separate activation reads and writes the result again, at full size a third of the multiplication's time;
in float32 it calls MKL, which is half as fast on some AMD processors.

The operator is internal to PyTorch and may be missing: `has_products` tests it once.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .speed import Trial, is_faster, name_of, ramp


@lru_cache(maxsize=8)
def multiplies(dtype: torch.dtype) -> bool:
    """Return whether the operator exists, supports a dtype on this processor, and returns correct results."""
    if dtype not in (torch.float32, torch.bfloat16) or not torch.backends.mkldnn.is_available():
        return False
    with torch.inference_mode():
        x, weight = (torch.linspace(-1, 1, 96).reshape(6, 16).to(dtype) for _ in range(2))
        bias = torch.linspace(-1, 1, 6)
        try:
            if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
                return False
            out = product(x, weight, bias, gelu=True).float()
        except (AttributeError, RuntimeError, NotImplementedError):
            return False
        expected = F.gelu(F.linear(x.float(), weight.float(), bias), approximate="tanh")
        return torch.allclose(out, expected, rtol=2**-7, atol=1e-3)


def has_products(*tensors: Tensor) -> bool:
    """Return whether `product` currently accepts tensors of this kind."""
    first = tensors[0]
    return (
        first.device.type == "cpu"
        and all(type(t) is Tensor and t.dtype == first.dtype and t.numel() > 0 for t in tensors)
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.enabled
        and multiplies(first.dtype)
    )


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, gelu: bool = False) -> Tensor:
    """Return x weight^T + bias, optionally followed by the tanh form of GELU.

    Args:
        x: (..., in) contiguous, float32 or bfloat16.
        weight: (out, in) contiguous, of the same type.
        bias: (out,), float32 or of the same type.
    """
    activation = ("gelu", [], "tanh") if gelu else ("none", [], "")
    return _operator()(x, weight, bias, *activation)


def uses_products(*tensors: Tensor) -> bool:
    """Return whether `product` is available and faster than `F.linear`."""
    return has_products(*tensors) and is_faster(
        "linear layers", name_of(tensors[0].dtype), lambda: _trials(tensors[0].dtype)
    )


def _trials(dtype: torch.dtype) -> tuple[Trial, Trial]:
    """Return a layer without and one with GELU, in both variants; only one layer in four of a block has the GELU."""
    x, weight = ramp(128, 512, dtype=dtype), ramp(512, 512, dtype=dtype)
    bias = ramp(512, dtype=dtype)

    def ours() -> Tensor:
        product(x, weight, bias)
        return product(x, weight, bias, gelu=True)

    def theirs() -> Tensor:
        F.linear(x, weight, bias)
        return F.gelu(F.linear(x, weight, bias), approximate="tanh")

    return ours, theirs


def _operator() -> Any:
    return torch.ops.mkldnn._linear_pointwise
