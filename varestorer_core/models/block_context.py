"""What a block uses besides the tokens: computed once for a prompt, not for every tile."""

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
        """Return `change` of keys and of values, such as a larger batch."""
        return TextKV(change(self.keys), change(self.values))


@dataclass(frozen=True)
class HeadConstants:
    """What the heads of one self-attention do to queries, keys and values, whatever the tokens."""

    bias: Tensor
    """(3, H, c) float32 of q, k and v; that of k is zero."""
    v_bias: Tensor
    """(H, c), the last of them in the type of the products."""
    length: Tensor
    """(2, H, 1) float32 of q and k."""


@dataclass(frozen=True)
class BlockContext:
    """What one block uses besides the tokens: it depends on the prompt and the weights alone."""

    modulation: Tensor
    """(B or 1, 1, 6, C): gates, scales and shifts, the shared part and the block's own."""
    heads: HeadConstants
    text: TextKV

    def map(self, change: Callable[[Tensor], Tensor]) -> BlockContext:
        """Return `change` of all that has a batch, such as a larger one."""
        return replace(self, modulation=change(self.modulation), text=self.text.map(change))
