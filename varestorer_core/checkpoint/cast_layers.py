"""Layers that multiply in the type of their input, whatever type their weights are stored in."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .blank import BlankLayers


class _CastLinear(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (the name in torch)
        bias = None if self.bias is None else self.bias.to(input.dtype)
        return F.linear(input, self.weight.to(input.dtype), bias)


class CastLayers(BlankLayers):
    """Namespace of layer classes: those of `torch.nn`, whose matrices are cast at each use.

    What a host's layers do. For weights in float8, which are stored but not multiplied in, and for adapters in float32
    on a base in bfloat16.
    """

    Linear = _CastLinear
