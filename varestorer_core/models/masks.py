"""Additive attention masks: over the scales of a schedule, and over the rows of a prompt."""

from __future__ import annotations

import torch
from torch import Tensor

from ..schedule import ScaleSchedule


def block_causal_mask(schedule: ScaleSchedule, device: torch.device | str | None = None) -> Tensor:
    """Return the teacher's block-causal mask (1, 1, L, L): a scale attends to itself and the coarser ones.

    Float32, 0 where attention is allowed and -inf elsewhere, which every attention backend supports.
    """
    scale_of_token = torch.cat(
        [torch.full((size,), k, device=device) for k, size in enumerate(schedule.sizes)]
    )
    hidden = scale_of_token[None, :] > scale_of_token[:, None]
    mask = torch.zeros(hidden.shape, device=device).masked_fill_(hidden, float("-inf"))
    return mask[None, None]


def additive_mask(valid: Tensor | None) -> Tensor | None:
    """Turn a (B, T) mask of valid rows into an additive (B, 1, 1, T); None if all rows are valid."""
    if valid is None or bool(valid.all()):
        return None
    mask = torch.zeros(valid.shape, device=valid.device)
    return mask.masked_fill_(~valid.bool(), float("-inf"))[:, None, None]
