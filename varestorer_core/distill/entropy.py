"""The entropy loss of binary spherical quantisation (BSQ-ViT, section 3.2), for confident bits that all are used.

Every component of a unit vector determines the probability of its bit. The entropy of a single bit should be small (the
vector is close to a code), that of a bit's mean over the batch large (both values are used).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.bsq import running_sums, where_areas_are_averaged
from ..schedule import ScaleSchedule

SHARPNESS = 100.0
"""The paper's 1 / tau."""


def residuals(features: Tensor, bits: Tensor, schedule: ScaleSchedule) -> Iterator[Tensor]:
    """Yield the residual (B, d, h, w) of each scale, whose signs are the bits.

    Gradients reach `features`; the codes of the coarser scales are constants, as in `quantize`.

    Args:
        features: (B, d, h, w) at the schedule's last grid.
        bits: (B, L, d), the bits of `features`.
    """
    explained = torch.zeros_like(features)
    last = schedule.num_scales - 1
    for scale_idx, summed in enumerate(running_sums(bits, schedule)):
        residual = features - explained
        if scale_idx < last:
            averaged = where_areas_are_averaged(residual)
            averaged = F.adaptive_avg_pool2d(averaged, schedule.grids[scale_idx])
            residual = averaged.to(residual.device)
        yield residual
        explained = summed


def soft_bit_logits(residual: Tensor) -> Tensor:
    """Return the log-odds of the bits of (B, d, h, w): 2 * SHARPNESS * u / sqrt(d), u of unit length."""
    return 2 * SHARPNESS * residual.shape[1] ** -0.5 * F.normalize(residual, dim=1)


def entropy_loss(
    features: Tensor, bits: Tensor, schedule: ScaleSchedule, gamma: float = 1.0
) -> Tensor:
    """Return the mean over scales of each bit's entropy minus `gamma` times that of its mean, in nats per bit.

    Args:
        features, bits: as for `residuals`.
        gamma: weight of the mean's entropy.
    """
    total = features.new_zeros(())
    for residual in residuals(features, bits, schedule):
        logits = soft_bit_logits(residual)
        probability = logits.sigmoid()
        single = F.binary_cross_entropy_with_logits(logits, probability)
        # Kept away from 0 and 1, where the slope of the entropy is unbounded.
        mean = probability.mean(dim=(0, 2, 3)).clamp(1e-6, 1 - 1e-6)
        together = (torch.special.entr(mean) + torch.special.entr(1 - mean)).mean()
        total = total + single - gamma * together
    return total / schedule.num_scales
