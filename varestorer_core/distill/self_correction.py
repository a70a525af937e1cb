"""Bitwise self-correction: pyramids with random errors, whose targets repair them (Infinity, section 3.4).

The code sum of each scale is built from bits of which some are flipped; the next scale's residual, and with it
its target bits, is computed from what the flipped codes left unexplained.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.bsq import add_scale, bits_to_codes, codes_to_bits, where_areas_are_averaged
from ..schedule import ScaleSchedule

MOST_FLIPS = 0.3
"""Largest share of flipped bits of a scale, as in the official training."""


def flipped_pyramid(
    features: Tensor,
    schedule: ScaleSchedule,
    generator: torch.Generator,
    most_flips: float = MOST_FLIPS,
) -> tuple[Tensor, Tensor]:
    """Quantise features (B, d, h, w) with random errors on the way.

    Returns:
        (target, seen), each (B, L, d) bool: the bits to predict and the bits that the input is made of.
        They are equal, and equal to those of `quantize`, for `most_flips` 0.
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
