"""Attention masks over the scales of a schedule."""

from __future__ import annotations

import torch
from torch import Tensor

from ..schedule import ScaleSchedule


def block_causal_mask(schedule: ScaleSchedule, device: torch.device | str | None = None) -> Tensor:
    """Return the teacher's mask (1, 1, L, L): a scale sees itself and the coarser ones.

    Additive float32, 0 where visible and -inf elsewhere, because that is what every attention
    backend agrees on.
    """
    scale_of_token = torch.cat(
        [torch.full((size,), k, device=device) for k, size in enumerate(schedule.sizes)]
    )
    hidden = scale_of_token[None, :] > scale_of_token[:, None]
    mask = torch.zeros(hidden.shape, device=device).masked_fill_(hidden, float("-inf"))
    return mask[None, None]
