"""Bitwise self-correction: pyramids with random errors and targets that correct them (Infinity, section 3.4).

Some bits of each scale are flipped before its codes are summed. The next scale's residual, and therefore its target
bits, is computed from the sum of the flipped codes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.bsq import add_scale, bits_to_codes, codes_to_bits, where_areas_are_averaged
from ..schedule import ScaleSchedule

MOST_FLIPS = 0.3
"""Largest fraction of flipped bits of a scale, as in the official training."""


def flipped_pyramid(
    features: Tensor,
    schedule: ScaleSchedule,
    generator: torch.Generator,
    most_flips: float = MOST_FLIPS,
) -> tuple[Tensor, Tensor]:
    """Quantise features (B, d, h, w) with random errors.

    Returns:
        (target, seen), each (B, L, d) bool: the bits to predict and the bits of the input.
        Both equal those of `quantize` if `most_flips` is 0.
    """
    batch, device = features.shape[0], features.device
    features = where_areas_are_averaged(features)
    summed = torch.zeros_like(features)
    targets, seen = [], []
    for scale_idx, grid in enumerate(schedule.grids):
        residual = features - summed
        if scale_idx < schedule.num_scales - 1:
            residual = F.adaptive_avg_pool2d(residual, grid)
        bits = codes_to_bits(residual).flatten(2).transpose(1, 2)
        rate = torch.rand(batch, 1, 1, generator=generator) * most_flips
        flips = torch.rand(bits.shape, generator=generator) < rate
        wrong = bits ^ flips.to(bits.device)
        summed = add_scale(summed, bits_to_codes(wrong), schedule, scale_idx)
        targets.append(bits)
        seen.append(wrong)
    return torch.cat(targets, dim=1).to(device), torch.cat(seen, dim=1).to(device)
