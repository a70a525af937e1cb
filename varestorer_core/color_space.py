"""The sRGB curve (IEC 61966-2-1) and CIELAB under D65."""

from __future__ import annotations

import torch
from torch import Tensor

# Linear sRGB to XYZ, rows scaled by the D65 white (2 degree observer), so that white is (1, 1, 1).
_RGB_TO_XYZ = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
_WHITE = (0.95047, 1.0, 1.08883)
_LAB_KNEE = 6 / 29


def srgb_to_linear(values: Tensor) -> Tensor:
    """Return the linear intensities of sRGB values in [0, 1]."""
    return torch.where(values > 0.04045, ((values + 0.055) / 1.055) ** 2.4, values / 12.92)


def linear_to_srgb(intensities: Tensor) -> Tensor:
    """Return the sRGB values of linear intensities in [0, 1]."""
    # The power must not be NaN where the linear part is used.
    curve = 1.055 * intensities.clamp(min=1e-12) ** (1 / 2.4) - 0.055
    return torch.where(intensities > 0.0031308, curve, intensities * 12.92)


def rgb_to_lab(image: Tensor) -> Tensor:
    """Convert sRGB (3, H, W) in [0, 1] to CIELAB under D65: L in [0, 100], a and b around 0."""
    linear = srgb_to_linear(image)
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
    return linear_to_srgb(linear).clamp_(0, 1)


def _matrix(like: Tensor) -> Tensor:
    """Return the (3, 3) matrix from linear sRGB to XYZ relative to white."""
    return like.new_tensor(_RGB_TO_XYZ) / like.new_tensor(_WHITE)[:, None]
