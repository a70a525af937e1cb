"""A linear layer, its bias and its activation as one pass over memory.

PyTorch's CPU kernels for bfloat16 (oneDNN) can add a bias and apply GELU to sums that are still in float32 and in
the cache. `F.linear` lets them do neither: it copies the bias into the whole result first, and GELU reads and writes
the result again, which at full size takes a third of the product's own time. The operator used here is the one that
TorchInductor compiles to. It is internal to PyTorch, so all rests on its being there: without it, with another type,
on another device or where gradients are recorded, layers run as they are.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


def fused_linear(
    layer: nn.Module, x: Tensor, *, bias: Tensor | None = None, gelu: bool = False
) -> tuple[Tensor, bool]:
    """Return GELU(layer(x) + bias) and True, or where that cannot be had in one pass layer(x) and False.

    Args:
        layer: a linear layer of any origin. A host's own (weights moved, cast, patched at use) is as good, as long
            as it ends in `F.linear`.
        x: (..., in) in the type that the layer multiplies in.
        bias: (out,) float32, besides the layer's own.
        gelu: whether to apply the tanh form of GELU.
    """
    # A layer with more to it, as one with an adapter, would be done in vain.
    is_single = next(layer.children(), None) is None and "forward" not in vars(layer)
    if not is_single or not _is_available(x):
        return layer(x), False
    fused = _FusedLinear(bias, gelu)
    with fused:
        out = layer(x)
    if fused.result is None or out is fused.result:
        return out, fused.result is not None
    # It went on after its product, behind the activation.
    return layer(x), False


def linear(layer: nn.Module, x: Tensor) -> Tensor:
    """Return layer(x), with the layer's bias added in the same pass where that can be had."""
    return fused_linear(layer, x)[0]


class _FusedLinear(TorchFunctionMode):
    """Does the first `F.linear` within it together with what follows."""

    def __init__(self, bias: Tensor | None, gelu: bool):
        super().__init__()
        self._bias, self._gelu = bias, gelu
        self.result: Tensor | None = None

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is F.linear and self.result is None and not kwargs and _fits(*args[:2]):
            self.result = self._run(*args)
            return self.result
        return func(*args, **(kwargs or {}))

    def _run(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if self._bias is not None:
            bias = self._bias if bias is None else self._bias + bias
        activation = ("gelu", [], "tanh") if self._gelu else ("none", [], "")
        return _operator()(x, weight, bias, *activation)


def _is_available(x: Tensor) -> bool:
    fits = x.device.type == "cpu" and x.dtype == torch.bfloat16 and type(x) is Tensor
    return (
        fits
        and x.numel() > 0
        and x.is_contiguous()
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and _operator() is not None
    )


def _fits(x: Tensor, weight: Tensor) -> bool:
    return (
        x.dtype == weight.dtype == torch.bfloat16 and x.is_contiguous() and weight.is_contiguous()
    )


@lru_cache(maxsize=1)
def _operator() -> Any:
    """Return PyTorch's operator, or None where it is missing or the processor has no bfloat16 for it."""
    try:
        supported = torch.ops.mkldnn._is_mkldnn_bf16_supported()
        return torch.ops.mkldnn._linear_pointwise if supported else None
    except (AttributeError, RuntimeError):
        return None
