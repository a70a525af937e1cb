"""Giving the restored picture the colours of its source.

Three methods: `wavelet` swaps the lowest frequencies (what StableSR calls wavelet colour fix),
`adain` matches mean and deviation of each RGB channel, `lab` does so in CIELAB (D65), where
lightness and the two colour axes are apart.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import SettingError

ColorMatch = Literal["none", "wavelet", "adain", "lab"]
COLOR_MATCHES: tuple[str, ...] = get_args(ColorMatch)

_WAVELET_LEVELS = 5
_MIN_STD = 1e-5  # below this a channel counts as flat: dividing by it would only amplify rounding

# Linear sRGB to XYZ, rows scaled by the D65 white (2 degree observer), so that white is (1, 1, 1).
_RGB_TO_XYZ = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
_WHITE = (0.95047, 1.0, 1.08883)
_LAB_KNEE = 6 / 29


def match_color(image: Tensor, source: Tensor, method: str) -> Tensor:
    """Return `image` with the colours of `source`.

    Args:
        image, source: (3, H, W) of the same size, in [0, 1].
        method: one of `COLOR_MATCHES`; "none" returns `image` as it is.

    Returns:
        (3, H, W) float32 in [0, 1] on the device of `image`; the inputs are left alone.
    """
    if method not in COLOR_MATCHES:
        raise SettingError(
            f"colour match must be one of {', '.join(COLOR_MATCHES)}, got {method!r}."
        )
    if method == "none":
        return image
    if image.shape != source.shape:
        raise ValueError(
            f"image and source must have the same shape, got {tuple(image.shape)} and "
            f"{tuple(source.shape)}."
        )
    image, source = image.float(), source.to(image.device, torch.float32)
    if method == "wavelet":
        # The filter is linear: swapping the low bands is adding the low band of the difference.
        return _low_pass(source - image).add_(image).clamp_(0, 1)
    if method == "adain":
        return _match_statistics(image, *_statistics(source)).clamp_(0, 1)
    statistics = _statistics(rgb_to_lab(source))
    return lab_to_rgb(_match_statistics(rgb_to_lab(image), *statistics))


def rgb_to_lab(image: Tensor) -> Tensor:
    """Convert sRGB (3, H, W) in [0, 1] to CIELAB under D65: L in [0, 100], a and b around 0."""
    linear = torch.where(image > 0.04045, ((image + 0.055) / 1.055) ** 2.4, image / 12.92)
    xyz = torch.tensordot(_matrix(linear), linear, dims=1)
    cubic = torch.where(
        xyz > _LAB_KNEE**3, xyz.clamp_min(0) ** (1 / 3), xyz / (3 * _LAB_KNEE**2) + 4 / 29
    )
    x, y, z = cubic
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def lab_to_rgb(lab: Tensor) -> Tensor:
    """Convert CIELAB (3, H, W) under D65 to sRGB, clamped to [0, 1]."""
    lightness, a, b = lab
    y = (lightness + 16) / 116
    cubic = torch.stack([y + a / 500, y, y - b / 200])
    xyz = torch.where(cubic > _LAB_KNEE, cubic**3, (cubic - 4 / 29) * (3 * _LAB_KNEE**2))
    linear = torch.tensordot(torch.linalg.inv(_matrix(xyz)), xyz, dims=1).clamp_(0, 1)
    return torch.where(
        linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, linear * 12.92
    ).clamp_(0, 1)


def _matrix(like: Tensor) -> Tensor:
    """Return the (3, 3) matrix from linear sRGB to XYZ relative to white."""
    return like.new_tensor(_RGB_TO_XYZ) / like.new_tensor(_WHITE)[:, None]


def _statistics(image: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel, (3, 1, 1) each."""
    std, mean = torch.std_mean(image, dim=(-2, -1), keepdim=True, correction=0)
    return mean, std


def _match_statistics(image: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Shift and stretch each channel to the given mean and deviation."""
    own_mean, own_std = _statistics(image)
    return (image - own_mean).mul_(std / own_std.clamp_min(_MIN_STD)).add_(mean)


def _low_pass(image: Tensor) -> Tensor:
    """Blur (C, H, W) with the a-trous cascade of (1, 2, 1)/4 taps 1, 2, 4, ... pixels apart."""
    blurred = torch.empty_like(image)
    for channel, plane in zip(blurred, image, strict=True):  # one channel's temporaries at a time
        for level in range(_WAVELET_LEVELS):
            plane = _smooth(_smooth(plane, 2**level).T, 2**level).T
        channel.copy_(plane)
    return blurred


def _smooth(plane: Tensor, distance: int) -> Tensor:
    """Filter (H, W) along its last axis with (1, 2, 1)/4 taps `distance` pixels apart."""
    width = plane.shape[-1]
    padded = F.pad(plane[None], (distance, distance), mode="replicate")[0]
    return padded[:, :width].add(padded[:, 2 * distance :]).mul_(0.25).add_(plane, alpha=0.5)
