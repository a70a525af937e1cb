"""Multi-scale structural similarity (Wang, Simoncelli and Bovik 2003), on RGB.

Contrast and structure are compared at five sizes, each half the one before, luminance at the smallest only; the factors
are weighted by the paper's exponents and multiplied, per channel, then averaged over the channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .metrics import WINDOW, check_alike, similarity_maps

_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the paper, from full size to a sixteenth."""


def ms_ssim(picture: Tensor, reference: Tensor) -> float:
    """Return the multi-scale structural similarity of two pictures (3, H, W) in [0, 1].

    All five sizes need a shorter side of at least 176 pixels. A smaller picture, down to 11 x 11,
    is compared at the sizes that still hold the window, with their weights divided by their sum;
    such a value is not comparable with one of a larger picture. Below 22 it is SSIM.
    """
    check_alike(picture, reference, least=WINDOW)
    x, y = picture.double(), reference.double()
    sizes = num_sizes(min(x.shape[-2:]))
    weights = torch.tensor(_WEIGHTS[:sizes], dtype=torch.float64)
    weights = weights / weights.sum()
    product = torch.ones(x.shape[0], dtype=torch.float64, device=x.device)
    for index, weight in enumerate(weights.tolist()):
        luminance, structure = similarity_maps(x, y)
        last = index == sizes - 1
        factor = (luminance * structure if last else structure).mean(dim=(-2, -1))
        # Opposite structure counts as none: a negative number has no real power. With one size
        # there is no power to take, so that the value is SSIM's.
        product = product * (factor if sizes == 1 else factor.clamp(min=0) ** weight)
        if not last:
            x, y = (F.avg_pool2d(image, 2) for image in (x, y))
    return product.mean().item()


def num_sizes(side: int) -> int:
    """Return at how many sizes a picture with this shorter side is compared, 1 to 5."""
    sizes = 1
    while sizes < len(_WEIGHTS) and side // 2**sizes >= WINDOW:
        sizes += 1
    return sizes
