"""Inputs of a block other than the tokens, computed once per prompt instead of once per tile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor


@dataclass(frozen=True)
class TextKV:
    """Keys and values (B, H, T, c) of the text for the cross-attention of one block."""

    keys: Tensor
    values: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> TextKV:
        """Apply `change` to keys and values, for example to expand the batch."""
        return TextKV(change(self.keys), change(self.values))


@dataclass(frozen=True)
class HeadConstants:
    """Constants that self-attention applies to queries, keys and values."""

    bias: Tensor
    """(3, H, c) float32 for q, k and v; zero for k."""
    v_bias: Tensor
    """(H, c), the bias of v in the compute dtype."""
    length: Tensor
    """(2, H, 1) float32 for q and k."""


@dataclass(frozen=True)
class BlockContext:
    """Inputs of one block other than the tokens; they depend only on the prompt and the weights."""

    modulation: Tensor
    """(B or 1, 1, 6, C): gates, scales and shifts, the shared part and the block's own."""
    heads: HeadConstants
    text: TextKV

    def map(self, change: Callable[[Tensor], Tensor]) -> BlockContext:
        """Apply `change` to everything with a batch dimension, for example to expand it."""
        return replace(self, modulation=change(self.modulation), text=self.text.map(change))
