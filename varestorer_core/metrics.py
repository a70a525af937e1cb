"""Full-reference image metrics for training, evaluation and the nodes: batched and differentiable.

Pictures are (..., 3, H, W); the metric of one picture is a scalar tensor, of a batch a tensor of the batch's shape.
Values are computed in the dtype of the pictures: pass float64 to compare methods, as `evaluate.score` does.

Sources: SSIM, Wang et al. 2004; MS-SSIM, Wang, Simoncelli and Bovik 2003; GMSD, Xue et al. 2014.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

GAUSSIAN, UNIFORM = "gaussian", "uniform"
"""Windows of SSIM: the paper's 11 x 11 Gaussian, and a uniform 7 x 7 window, which is faster in training."""
WINDOW = 11
"""Side of the Gaussian window in pixels."""

_UNIFORM_WINDOW = 7
_SIGMA = 1.5
_K1, _K2 = 0.01, 0.03  # Wang et al. 2004, section III-B
_MS_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of MS-SSIM from full size down to a sixteenth."""
_GMS_C = 170 / 255**2
"""GMSD's constant, 170 for values up to 255, converted for values in [0, 1]."""
_GMS_SIDE = 6
"""Shortest side for GMSD: at half size it still fits the 3 x 3 filter."""


def psnr(picture: Tensor, reference: Tensor, *, data_range: float = 1.0) -> Tensor:
    """Return the peak signal-to-noise ratio in dB over all values; infinite for equal pictures."""
    check_alike(picture, reference)
    error = (picture - reference).square().mean(dim=(-3, -2, -1))
    return -10 * torch.log10(error / data_range**2)


def decibels(squared_error: float, *, data_range: float = 1.0) -> float:
    """Return the peak signal-to-noise ratio in dB of a mean squared error; infinite for 0."""
    return 10 * math.log10(data_range**2 / squared_error) if squared_error > 0 else math.inf


def ssim(picture: Tensor, reference: Tensor) -> Tensor:
    """Return the mean structural similarity of pictures in [0, 1] with sides of at least 11 pixels.

    Computed per channel with the Gaussian window and averaged over the channels and all positions of the window
    inside the picture.
    """
    check_alike(picture, reference, least=WINDOW)
    luminance, structure = ssim_maps(picture, reference)
    return (luminance * structure).mean(dim=(-3, -2, -1))


def ssim_maps(
    x: Tensor, y: Tensor, *, window: str = GAUSSIAN, data_range: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Return the two factors of SSIM at every position of the window.

    Returns:
        Luminance, and contrast times structure: (..., 3, H - w + 1, W - w + 1) for a window of side w.
    """
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    mean = _gaussian_mean if window == GAUSSIAN else _uniform_mean
    mean_x, mean_y = mean(x), mean(y)
    var_x, var_y = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2
    covariance = mean(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (var_x + var_y + c2)
    return luminance, structure


def ms_ssim(picture: Tensor, reference: Tensor) -> Tensor:
    """Return the multi-scale structural similarity of pictures in [0, 1] with sides of at least 11 pixels.

    Contrast and structure are compared at five sizes, each half the one before, luminance at the smallest only.
    All five need a shorter side of at least 176 pixels. A smaller picture is compared at the sizes that still hold
    the window, with their weights divided by their sum; such a value is not comparable with one of a larger picture.
    Below 22 pixels it is SSIM.
    """
    check_alike(picture, reference, least=WINDOW)
    x, y = picture, reference
    sizes = num_sizes(min(x.shape[-2:]))
    total = sum(_MS_WEIGHTS[:sizes])
    product = x.new_ones(x.shape[:-2])
    for index, weight in enumerate(_MS_WEIGHTS[:sizes]):
        luminance, structure = ssim_maps(x, y)
        last = index == sizes - 1
        factor = (luminance * structure if last else structure).mean(dim=(-2, -1))
        # Negative structure is clamped to 0, since a negative number has no real power. With one size
        # no power is taken, so the value equals SSIM.
        product = product * (factor if sizes == 1 else factor.clamp(min=0) ** (weight / total))
        if not last:
            x, y = _halved(x), _halved(y)
    return product.mean(dim=-1)


def num_sizes(side: int) -> int:
    """Return at how many sizes, 1 to 5, MS-SSIM compares a picture with this shorter side."""
    sizes = 1
    while sizes < len(_MS_WEIGHTS) and side // 2**sizes >= WINDOW:
        sizes += 1
    return sizes


def gmsd(picture: Tensor, reference: Tensor) -> Tensor:
    """Return the gradient magnitude similarity deviation of pictures in [0, 1] with sides of at least 6 pixels.

    0 for equal pictures; larger is worse. Only positions of the filter inside the picture count; the authors' program
    also counts the border, padded with black.
    """
    check_alike(picture, reference, least=_GMS_SIDE)
    return gradient_similarity(picture, reference).flatten(-2).std(dim=-1, correction=0)


def gradient_similarity(
    a: Tensor, b: Tensor, *, data_range: float = 1.0, tiny: float = 0.0
) -> Tensor:
    """Return the gradient magnitude similarity (..., h, w), from 0 to 1, of the luma at half size.

    With Prewitt's filter: (2 g h + c) / (g^2 + h^2 + c). Unlike a difference of gradients, it does not favour a blurred
    compromise between two possible positions of an edge.

    Args:
        tiny: added under the square root, whose slope is infinite at zero, if gradients are needed.
    """
    g, h = (_gradient_magnitude(x, data_range, tiny) for x in (a, b))
    return (2 * g * h + _GMS_C) / (g * g + h * h + _GMS_C)


def gradient_energy(picture: Tensor) -> Tensor:
    """Return the mean squared horizontal plus the mean squared vertical difference of the luma; 0 for a flat picture.

    It needs no reference: blur lowers it, noise and false detail raise it.
    """
    brightness = luma(picture)
    energy = brightness.new_zeros(brightness.shape[:-3])
    for dim in (-2, -1):
        if brightness.shape[dim] > 1:
            energy = energy + brightness.diff(dim=dim).square().mean(dim=(-3, -2, -1))
    return energy


def luma(picture: Tensor, *, data_range: float = 1.0) -> Tensor:
    """Return the luma (..., 1, H, W) by ITU-R BT.601, divided by the range of the values."""
    weights = picture.new_tensor([0.299, 0.587, 0.114])[:, None, None] / data_range
    return (picture * weights).sum(-3, keepdim=True)


def check_alike(picture: Tensor, reference: Tensor, *, least: int = 1) -> None:
    """Reject pictures that cannot be compared, or have a side shorter than `least`.

    Raises:
        ValueError: for such shapes.
    """
    if picture.shape != reference.shape or picture.ndim < 3:
        raise ValueError(
            "The pictures must both be (..., channels, height, width) of the same size, "
            f"got {tuple(picture.shape)} and {tuple(reference.shape)}."
        )
    if min(picture.shape[-2:]) < least:
        raise ValueError(
            f"This metric needs pictures of at least {least} x {least} pixels, "
            f"got {picture.shape[-1]} x {picture.shape[-2]}."
        )


def _gaussian_mean(x: Tensor) -> Tensor:
    """Return (..., 3, H - 10, W - 10): means of x under the Gaussian window."""
    offsets = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    kernel = torch.exp(-offsets.square() / (2 * _SIGMA**2))
    kernel = kernel / kernel.sum()
    planes = x.reshape(-1, 1, *x.shape[-2:])
    planes = F.conv2d(planes, kernel.view(1, 1, -1, 1))
    planes = F.conv2d(planes, kernel.view(1, 1, 1, -1))
    return planes.reshape(*x.shape[:-2], *planes.shape[-2:])


def _uniform_mean(x: Tensor) -> Tensor:
    """Return (..., 3, H - 6, W - 6): means of x under the uniform window."""
    # One axis after the other: the box window is separable, and 14 additions are fewer than 49.
    rows = F.avg_pool2d(x, (1, _UNIFORM_WINDOW), stride=1)
    return F.avg_pool2d(rows, (_UNIFORM_WINDOW, 1), stride=1)


def _halved(x: Tensor) -> Tensor:
    planes = F.avg_pool2d(x.reshape(-1, *x.shape[-3:]), 2)
    return planes.reshape(*x.shape[:-2], *planes.shape[-2:])


def _gradient_magnitude(pictures: Tensor, data_range: float, tiny: float) -> Tensor:
    brightness = luma(pictures, data_range=data_range)
    planes = F.avg_pool2d(brightness.reshape(-1, *brightness.shape[-3:]), 2)
    across = (planes.new_tensor([1.0, 0.0, -1.0]) / 3).expand(3, 3)
    steps = F.conv2d(planes, torch.stack([across, across.T])[:, None])
    magnitude = (steps.square().sum(1) + tiny).sqrt()
    return magnitude.reshape(*pictures.shape[:-3], *magnitude.shape[-2:])
