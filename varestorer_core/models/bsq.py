"""Multi-scale binary spherical quantisation: features <-> bits <-> codes (Infinity, section 3.2; BSQ).

Notable:
- a code is a corner of the unit hypercube inscribed in the sphere: d signs, each 1/sqrt(d);
- an exact zero quantises to -1 (bit 0), so `> 0` decides;
- residuals shrink by area averaging and codes grow by bilinear interpolation, at every scale;
- the running sum of upsampled codes is called `summed_codes`; VAR writes it f_hat.

Bits of all scales travel as one tensor (B, L, d), scales concatenated coarse to fine, each grid row-major.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..schedule import ScaleSchedule

PyramidVariant = Literal["short", "same_scale", "long"]


@dataclass(frozen=True)
class QuantizedPyramid:
    """Result of quantising features at every scale of a schedule."""

    bits: Tensor
    """(B, L, d) bool, True for +."""
    summed_codes: Tensor
    """(B, d, h, w): the input of the decoder."""


def bits_to_codes(bits: Tensor) -> Tensor:
    """Turn bits (..., d) in {0, 1} into codes (..., d) of unit length, +-1/sqrt(d), float32."""
    return (bits.float() * 2 - 1) * bits.shape[-1] ** -0.5


def codes_to_bits(codes: Tensor) -> Tensor:
    """Return the bits (..., d) of codes or of any vectors: True where positive, False at exact zero."""
    return codes > 0


def quantize(
    features: Tensor, schedule: ScaleSchedule, *, straight_through: bool = False
) -> QuantizedPyramid:
    """Quantise features scale by scale; each scale encodes the residual of the coarser ones.

    Args:
        features: (B, d, h, w) raw encoder output at the schedule's last grid.
        straight_through: let gradients of `summed_codes` reach `features` as if quantising were the
            identity at every scale. Residuals are computed from the detached sum; otherwise the gradients of
            consecutive scales cancel.

    Raises:
        ValueError: if the feature grid is not the schedule's last grid.
    """
    if tuple(features.shape[-2:]) != schedule.last_grid:
        raise ValueError(
            f"Features must lie on the schedule's last grid {schedule.last_grid}, got {tuple(features.shape[-2:])}. "
            "Encode a picture of the size schedule.pixel_size(patch_size)."
        )
    d, device = features.shape[1], features.device
    features = where_areas_are_averaged(features)
    summed = torch.zeros_like(features)
    bits = []
    for scale_idx, grid in enumerate(schedule.grids):
        residual = features - summed.detach()
        if scale_idx < schedule.num_scales - 1:
            residual = F.adaptive_avg_pool2d(residual, grid)
        signs = codes_to_bits(residual)
        codes = torch.where(signs, d**-0.5, -(d**-0.5)).to(features.dtype)
        if straight_through:
            unit = F.normalize(residual, dim=1)
            codes = unit + (codes - unit).detach()
        bits.append(signs.flatten(2).transpose(1, 2))
        summed = summed + resize(codes, schedule.last_grid)
    return QuantizedPyramid(torch.cat(bits, dim=1).to(device), summed.to(device))


def where_areas_are_averaged(features: Tensor) -> Tensor:
    """Return features on a device that averages areas with non-integer ratios: the CPU instead of Apple GPUs."""
    return features.cpu() if features.device.type == "mps" else features


def dequantize(bits: Tensor, schedule: ScaleSchedule) -> Tensor:
    """Return the summed codes (B, d, h, w) of the bits (B, L, d) of all scales."""
    *_, summed = running_sums(bits, schedule)
    return summed


def pyramid_tokens(
    bits: Tensor, schedule: ScaleSchedule, variant: PyramidVariant = "long"
) -> Tensor:
    """Return the input tokens of the transformer for the bits of a picture.

    Args:
        bits: (B, L, d) of all scales.
        variant: "short" has, for scales 1..K-1, the sum so far sampled at that scale's grid
            (teacher forcing and next-scale prediction, L - 1 tokens; no prefix for scale 0);
            "same_scale" has, for scales 0..K-1, the sum including that scale (L tokens);
            "long" is "short" followed by the complete sum at the last grid (the input of the
            released one-step model, L - 1 + h*w tokens).

    Returns:
        (B, tokens, d) float32.
    """
    if variant not in ("short", "same_scale", "long"):
        raise ValueError(f"variant must be 'short', 'same_scale' or 'long', got {variant!r}.")
    tokens = []
    last = schedule.num_scales - 1
    for scale_idx, summed in enumerate(running_sums(bits, schedule)):
        if variant == "same_scale":
            tokens.append(resize(summed, schedule.grids[scale_idx]))
        elif scale_idx < last:
            tokens.append(resize(summed, schedule.grids[scale_idx + 1]))
        elif variant == "long":
            tokens.append(summed)
    return torch.cat([t.flatten(2).transpose(1, 2) for t in tokens], dim=1)


def running_sums(bits: Tensor, schedule: ScaleSchedule) -> Iterator[Tensor]:
    """Yield the sum of upsampled codes (B, d, h, w) after each scale, coarse to fine."""
    if bits.ndim != 3 or bits.shape[1] != schedule.num_tokens:
        raise ValueError(
            f"Bits must be (B, {schedule.num_tokens}, d) for this schedule, got {tuple(bits.shape)}."
        )
    summed: Tensor | None = None
    for scale_idx, (start, stop) in enumerate(schedule.spans):
        summed = add_scale(summed, bits_to_codes(bits[:, start:stop]), schedule, scale_idx)
        yield summed


def add_scale(
    summed: Tensor | None, codes: Tensor, schedule: ScaleSchedule, scale_idx: int
) -> Tensor:
    """Return the sum (B, d, h, w), None before scale 0, plus the codes (B, n_k, d) of one scale, upsampled."""
    codes = codes.transpose(1, 2).unflatten(2, schedule.grids[scale_idx])
    upsampled = resize(codes, schedule.last_grid)
    return upsampled if summed is None else summed + upsampled


def resize(features: Tensor, grid: tuple[int, int]) -> Tensor:
    """Sample feature maps (B, d, h, w) bilinearly on another grid, half-pixel centres, no anti-aliasing."""
    if tuple(features.shape[-2:]) == grid:
        return features
    return F.interpolate(features, size=grid, mode="bilinear", align_corners=False)
