"""Layer classes for the networks' `operations`: blank ones to be filled by a file, and ones that cast their weights."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class _Embedding(nn.Embedding):
    def reset_parameters(self) -> None:
        """Leave the values open."""


class BlankLayers:
    """The layers of `torch.nn`, built on the meta device in no time.

    Filling an embedding with random values there makes PyTorch import its compiler, which takes two seconds, for
    values that the file replaces anyway.
    """

    Linear = nn.Linear
    Conv2d = nn.Conv2d
    GroupNorm = nn.GroupNorm
    LayerNorm = nn.LayerNorm
    Embedding = _Embedding


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
