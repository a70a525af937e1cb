"""Full-reference picture metrics, on RGB.

PSNR over all values of the three channels; SSIM (Wang et al. 2004) with the paper's Gaussian
window, per channel, averaged over the channels and over the positions where the window lies inside
the picture.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW = 11
"""Side of the window of SSIM in pixels."""

_SIGMA = 1.5
# Wang et al. 2004, section III-B, for values in [0, 1].
_C1, _C2 = 0.01**2, 0.03**2


def psnr(picture: Tensor, reference: Tensor) -> float:
    """Return the peak signal-to-noise ratio in dB of two pictures (3, H, W) in [0, 1].

    Infinite for equal pictures.
    """
    check_alike(picture, reference)
    error = (picture.double() - reference.double()).square().mean().item()
    return math.inf if error == 0 else -10 * math.log10(error)


def ssim(picture: Tensor, reference: Tensor) -> float:
    """Return the mean structural similarity of two pictures (3, H, W) in [0, 1], at least 11 x
    11."""
    check_alike(picture, reference, least=WINDOW)
    luminance, structure = similarity_maps(picture.double(), reference.double())
    return (luminance * structure).mean().item()


def similarity_maps(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the two factors of SSIM at every position of the window.

    Args:
        x, y: (3, H, W) float64 in [0, 1].

    Returns:
        Luminance, and contrast times structure; (3, H - 10, W - 10) each.
    """
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = _blur(torch.stack([x, y, x * x, y * y, x * y]))
    var_x, var_y = mean_xx - mean_x.square(), mean_yy - mean_y.square()
    covariance = mean_xy - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x.square() + mean_y.square() + _C1)
    structure = (2 * covariance + _C2) / (var_x + var_y + _C2)
    return luminance, structure


def check_alike(picture: Tensor, reference: Tensor, *, least: int = 1) -> None:
    """Refuse pictures that cannot be compared, or have a side shorter than `least`."""
    if picture.shape != reference.shape or picture.ndim != 3:
        raise ValueError(
            "the pictures must both be (channels, height, width) of the same size, "
            f"got {tuple(picture.shape)} and {tuple(reference.shape)}."
        )
    if min(picture.shape[-2:]) < least:
        raise ValueError(
            f"this metric needs pictures of at least {least} x {least} pixels, "
            f"got {picture.shape[-1]} x {picture.shape[-2]}."
        )


def _blur(images: Tensor) -> Tensor:
    """Return (n, 3, H - 10, W - 10): images (n, 3, H, W) under the Gaussian window."""
    offsets = torch.arange(WINDOW, dtype=images.dtype, device=images.device) - WINDOW // 2
    kernel = torch.exp(-offsets.square() / (2 * _SIGMA**2))
    kernel = kernel / kernel.sum()
    planes = images.flatten(0, 1)[:, None]
    planes = F.conv2d(planes, kernel.view(1, 1, -1, 1))
    planes = F.conv2d(planes, kernel.view(1, 1, 1, -1))
    return planes[:, 0].unflatten(0, images.shape[:2])
