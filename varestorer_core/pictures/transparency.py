"""Colours of transparent pixels: black, or what a cut-out left there.

Resizing and restoring mix neighbours, so a hidden colour would show as a fringe. Visible colours are therefore spread
over the hidden pixels first; then colours and alpha can be resized separately without a fringe.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_BAND = 256  # rows at a time; even, so that the squares of two pixels a side stay whole


def fill_hidden(rgb: Tensor, alpha: Tensor) -> Tensor:
    """Return a picture whose wholly transparent pixels have the colours of their visible neighbours.

    Averages visible pixels over squares of 2, 4, 8, ... pixels a side; a hidden pixel gets the mean of the smallest
    square that has visible pixels, interpolated.

    Args:
        rgb: (3, H, W) float.
        alpha: (1, H, W) in [0, 1], not multiplied into `rgb`.

    Returns:
        (3, H, W): `rgb` itself if nothing, or everything, is hidden.
    """
    hidden = alpha <= 0
    if not bool(hidden.any()) or bool(hidden.all()):
        return rgb
    # Only half-size and smaller levels are kept, so the memory is a third of the picture's.
    levels = [_weighted_half(rgb, alpha)]
    while max(levels[-1][1].shape[-2:]) > 1 and bool((levels[-1][1] <= 0).any()):
        levels.append((_halved(levels[-1][0]), _halved(levels[-1][1])))
    filled: Tensor | None = None
    for color, weight in reversed(levels):
        known = color / weight.clamp_min(1e-12)
        if filled is not None:
            known = torch.where(weight > 0, known, _spread(filled, color))
        filled = known
    assert filled is not None
    return torch.where(hidden, _spread(filled, rgb).clamp_(0, 1), rgb)


def _weighted_half(rgb: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """Return the halved products of colours and alpha, and the halved alpha."""
    bands = [slice(start, start + _BAND) for start in range(0, rgb.shape[-2], _BAND)]
    return torch.cat([_halved(rgb[:, b] * alpha[:, b]) for b in bands], dim=1), _halved(alpha)


def _spread(filled: Tensor, like: Tensor) -> Tensor:
    """Return colours (3, h, w), enlarged to the size of `like`."""
    return F.interpolate(filled[None], size=like.shape[-2:], mode="bilinear")[0]


def _halved(planes: Tensor) -> Tensor:
    """Return the sums over squares of two pixels a side, (C, ceil(H / 2), ceil(W / 2)), scaled to stay in range."""
    return F.avg_pool2d(planes[None], 2, ceil_mode=True)[0]
