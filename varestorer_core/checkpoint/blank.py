"""The layers of `torch.nn`, ready to be built on the meta device in no time.

Filling an embedding with random values there makes PyTorch import its compiler, which takes two
seconds, for values that the file replaces anyway.
"""

from __future__ import annotations

from torch import nn


class _Embedding(nn.Embedding):
    def reset_parameters(self) -> None:
        """Leave the values open."""


class BlankLayers:
    """Namespace of layer classes, as the networks' `operations`."""

    Linear = nn.Linear
    Conv2d = nn.Conv2d
    GroupNorm = nn.GroupNorm
    LayerNorm = nn.LayerNorm
    Embedding = _Embedding
