"""Linear layers fused with bias and activation, on CPUs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.utils import _pair
from torch.overrides import TorchFunctionMode

from .onednn import product, uses_products


def fused_linear(
    layer: nn.Module, x: Tensor, *, bias: Tensor | None = None, gelu: bool = False
) -> tuple[Tensor, bool]:
    """Return GELU(layer(x) + bias) and True, or layer(x) and False if fusion is not possible.

    Args:
        layer: any linear layer, including a host's (with weights moved, cast or patched at use), as long as it ends in
            `F.linear`.
        x: (..., in) in the compute dtype of the layer.
        bias: (out,) float32, besides the layer's own.
        gelu: whether to apply the tanh form of GELU.
    """
    # A layer with further operations, such as an adapter, would be computed in vain.
    is_single = next(layer.children(), None) is None and "forward" not in vars(layer)
    if not (is_single and uses_products(x) and x.is_contiguous()):
        return layer(x), False
    fused = _FusedLinear(bias, gelu)
    with fused:
        out = layer(x)
    if fused.result is None or out is fused.result:
        return out, fused.result is not None
    # The layer continued after the matrix multiplication, so the activation came too early.
    return layer(x), False


def linear(layer: nn.Module, x: Tensor) -> Tensor:
    """Return layer(x), with the faster matrix multiplication if possible."""
    return fused_linear(layer, x)[0]


def linear_weights(layer: nn.Module, x: Tensor) -> tuple[Tensor, Tensor | None] | None:
    """Return the weight (out, in) and the bias that a linear layer applies to x.

    The multiplication itself is not computed. Returns None if the layer does anything else.
    """
    watched = _Watched(F.linear, _linear_shape)
    with watched:
        out = layer(x)
    if not watched.is_all_of(out):
        return None
    weight, *bias = watched.arguments
    return weight, bias[0] if bias else None


def convolution_weights(layer: nn.Module, x: Tensor) -> tuple[Tensor, Tensor | None] | None:
    """Return the weight (K, C, h, w) and the bias that an `nn.Conv2d` convolves x with; see `linear_weights`."""
    watched = _Watched(F.conv2d, _convolved_shape)
    with watched:
        out = layer(x)
    expected = (layer.stride, layer.padding, layer.dilation, layer.groups)
    if not watched.is_all_of(out) or watched.arguments[2:] != expected:
        return None
    return watched.arguments[0], watched.arguments[1]


def group_norm_weights(layer: nn.Module, x: Tensor) -> tuple[int, Tensor, Tensor, float] | None:
    """Return groups, weight (C,), bias (C,) and epsilon of a layer that is one GroupNorm of x; see `linear_weights`."""
    watched = _Watched(F.group_norm, _same_shape)
    with watched:
        out = layer(x)
    if (
        not watched.is_all_of(out)
        or len(watched.arguments) != 4
        or any(a is None for a in watched.arguments)
    ):
        return None
    groups, weight, bias, eps = watched.arguments
    return groups, weight, bias, eps


class FastLayers(TorchFunctionMode):
    """Context in which layers on CPUs run faster: linear layers by `product`, convolutions in channels-last format.

    For third-party networks. The output of a convolution also stays in channels-last format, which saves a copy at
    every step in networks that use pixels as tokens.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is F.linear and not kwargs and _fits(*args[:2]):
            return product(*args)
        if func is F.conv2d and args and args[0].device.type == "cpu" and args[0].ndim == 4:
            args = (args[0].contiguous(memory_format=torch.channels_last), *args[1:])
        return func(*args, **(kwargs or {}))


class _Watched(TorchFunctionMode):
    """Records the arguments of an operator and returns an uninitialised result of the right shape.

    Args:
        shape: returns the result's shape from the operator's arguments. The operator itself on the meta device takes a
            millisecond or two, as long as a small layer.
    """

    def __init__(self, operator: Any, shape: Callable[..., tuple[int, ...]]):
        super().__init__()
        self._operator, self._shape = operator, shape
        self._calls = 0
        self._result: Tensor | None = None
        self.arguments: tuple[Any, ...] = ()
        """All but the input, in order."""

    def is_all_of(self, out: Tensor) -> bool:
        """Return whether the operator was called once and its result was returned unchanged."""
        return self._calls == 1 and out is self._result

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is not self._operator:
            return func(*args, **(kwargs or {}))
        # F.group_norm is written in Python and hands its last arguments over by name, in their order.
        x, *rest = args = (*args, *(kwargs or {}).values())
        self.arguments = tuple(rest)
        self._calls += 1
        self._result = x.new_empty(self._shape(*args))
        return self._result


def _linear_shape(x: Tensor, weight: Tensor, *_: Any) -> tuple[int, ...]:
    return (*x.shape[:-1], weight.shape[0])


def _same_shape(x: Tensor, *_: Any) -> tuple[int, ...]:
    return tuple(x.shape)


def _convolved_shape(
    x: Tensor,
    weight: Tensor,
    _bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    *_: Any,
) -> tuple[int, ...]:
    reach = [d * (k - 1) for d, k in zip(_pair(dilation), weight.shape[2:], strict=True)]
    named = {"same": reach, "valid": [0, 0]}
    added = named[padding] if isinstance(padding, str) else [2 * p for p in _pair(padding)]
    sides = (
        (side + more - far - 1) // step + 1
        for side, more, far, step in zip(x.shape[-2:], added, reach, _pair(stride), strict=True)
    )
    return (*x.shape[:-3], weight.shape[0], *sides)


class _FusedLinear(TorchFunctionMode):
    """Fuses the first `F.linear` within it with bias and activation."""

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
        return product(x, weight, bias, gelu=self._gelu)


def _fits(x: Tensor, weight: Tensor) -> bool:
    return uses_products(x, weight.detach()) and x.is_contiguous() and weight.is_contiguous()
