"""Text conditioning of the transformer, computed once per run (VARestorer and Infinity, "text conditioning")."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from .block_context import BlockContext


@dataclass(frozen=True)
class TextContext:
    """Conditioning of all blocks on a prompt; computed once per run, not per tile."""

    cond: Tensor
    """(B, C) pooled condition vector."""
    modulation: Tensor
    """(B, 1, 6, C) shared part of the adaptive norms."""
    blocks: Sequence[BlockContext]
    """Per block."""
    mask: Tensor | None = None
    """(B, 1, 1, T) additive; None if no row is padding."""

    @property
    def batch(self) -> int:
        """B."""
        return self.cond.shape[0]

    def expand(self, batch: int) -> TextContext:
        """Repeat a context of one prompt for a batch of pictures, without copying memory."""
        if self.batch == batch:
            return self
        if self.batch != 1:
            raise ValueError(
                f"Only a context of one prompt can be expanded, got {self.batch} prompts."
            )
        context = self._map(lambda t: t.expand(batch, *t.shape[1:]))
        # With the modulation of one prompt, norm and modulation are fused for any batch size.
        blocks = [
            replace(new, modulation=old.modulation)
            for new, old in zip(context.blocks, self.blocks, strict=True)
        ]
        return replace(context, blocks=blocks)

    def repeat_each(self, times: int) -> TextContext:
        """Repeat every prompt, keeping the repeats of one together: a, a, b, b."""
        return self if times == 1 else self._map(lambda t: t.repeat_interleave(times, dim=0))

    def _map(self, change: Callable[[Tensor], Tensor]) -> TextContext:
        return replace(
            self,
            cond=change(self.cond),
            modulation=change(self.modulation),
            blocks=[block.map(change) for block in self.blocks],
            mask=None if self.mask is None else change(self.mask),
        )
