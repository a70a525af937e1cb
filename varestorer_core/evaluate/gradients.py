"""Metrics on brightness gradients: GMSD, and how much gradient there is at all.

GMSD (Xue et al. 2014) compares gradient magnitudes at half size and takes the standard deviation of their
similarity: 0 for equal pictures, larger is worse. Gradient energy needs no reference: blur lowers it, noise and
false detail raise it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .metrics import check_alike

_C = 170 / 255**2
"""The paper's constant, 170 for values up to 255, for values in [0, 1]."""
_SMALLEST = 6
"""Halved, it still holds the 3 x 3 filter."""


def gmsd(picture: Tensor, reference: Tensor) -> float:
    """Return the gradient magnitude similarity deviation of two pictures (3, H, W) in [0, 1].

    On brightness (ITU-R BT.601), which the means of 2 x 2 pixels halve, with Prewitt's filter. Only
    positions count where the filter lies inside the picture; the authors' program also counts the
    border, against black.
    """
    check_alike(picture, reference, least=_SMALLEST)
    first, second = (_magnitude(F.avg_pool2d(luma(x)[None], 2)[0]) for x in (picture, reference))
    similarity = (2 * first * second + _C) / (first.square() + second.square() + _C)
    return similarity.std(correction=0).item()


def gradient_energy(picture: Tensor) -> float:
    """Return the mean squared difference of neighbouring brightnesses of a picture (3, H, W) in
    [0, 1].

    The sum of a horizontal and a vertical mean; 0 for a flat picture.
    """
    brightness = luma(picture)
    energy = torch.zeros((), dtype=torch.float64)
    for dim in (-2, -1):
        if brightness.shape[dim] > 1:
            energy = energy + brightness.diff(dim=dim).square().mean().cpu()
    return energy.item()


def luma(picture: Tensor) -> Tensor:
    """Return the brightness (1, H, W) float64 of a picture (3, H, W), by ITU-R BT.601."""
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64, device=picture.device)
    return (picture.double() * weights[:, None, None]).sum(dim=0, keepdim=True)


def _magnitude(brightness: Tensor) -> Tensor:
    """Return the gradient magnitude (H - 2, W - 2) of a brightness (1, H, W)."""
    edge = torch.tensor([1.0, 0.0, -1.0], dtype=brightness.dtype, device=brightness.device) / 3
    across = edge.expand(3, 3)
    filters = torch.stack([across, across.T])[:, None]
    return F.conv2d(brightness[None], filters)[0].square().sum(dim=0).sqrt()
