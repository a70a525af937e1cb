"""Colours under transparent pixels, which nobody is meant to see: black, or what a cut-out left there.

Resizing and restoring mix neighbours, so a hidden colour would show as a fringe. Visible colours are spread over the
hidden pixels first; then resizing colours and alpha apart has no fringe.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def fill_hidden(rgb: Tensor, alpha: Tensor) -> Tensor:
    """Return a picture whose wholly transparent pixels have the colours of their visible neighbours.

    The means of visible pixels over squares of 2, 4, 8, ... pixels a side; a hidden pixel takes the mean of the
    smallest square that has visible pixels, interpolated.

    Args:
        rgb: (3, H, W) float.
        alpha: (1, H, W) in [0, 1], not multiplied into `rgb`.

    Returns:
        (3, H, W): `rgb` itself where nothing, or everything, is hidden.
    """
    hidden = alpha <= 0
    if not bool(hidden.any()) or bool(hidden.all()):
        return rgb
    levels = [(rgb * alpha, alpha)]
    while max(levels[-1][1].shape[-2:]) > 1 and bool((levels[-1][1] <= 0).any()):
        levels.append((_halved(levels[-1][0]), _halved(levels[-1][1])))
    filled: Tensor | None = None
    for color, weight in reversed(levels):
        known = color / weight.clamp_min(1e-12)
        if filled is not None:
            spread = F.interpolate(filled[None], size=color.shape[-2:], mode="bilinear")[0]
            known = torch.where(weight > 0, known, spread)
        filled = known
    assert filled is not None
    return torch.where(hidden, filled.clamp(0, 1), rgb)


def _halved(planes: Tensor) -> Tensor:
    """Return the sums over squares of two pixels a side, (C, ceil(H / 2), ceil(W / 2)), scaled to stay in range."""
    return F.avg_pool2d(planes[None], 2, ceil_mode=True)[0]
