"""Blur kernels (size, size), float32, each with sum 1; `size` is odd and the centre is the origin.

Gaussian, generalised Gaussian and plateau kernels as in Real-ESRGAN (Wang et al. 2021, section 3.2), isotropic or
stretched along an angle; the sinc filter of its section 3.3 (a circular low-pass filter, which causes ringing); a line
for rain streaks; the path of a moving camera.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

Kernel = NDArray[np.float32]


def gaussian(size: int, sigma: tuple[float, float], angle: float = 0.0) -> Kernel:
    """Return a Gaussian kernel.

    Args:
        sigma: standard deviations in pixels along the rotated axes; equal for an isotropic kernel.
        angle: from the x axis to the first of the rotated axes, in radians.
    """
    return generalised_gaussian(size, sigma, angle, beta=1.0)


def generalised_gaussian(
    size: int, sigma: tuple[float, float], angle: float = 0.0, *, beta: float
) -> Kernel:
    """Return exp(-0.5 r^(2 beta)), r in standard deviations: flatter in the centre for beta > 1."""
    return _normalised(np.exp(-0.5 * _squared_distance(size, sigma, angle) ** beta))


def plateau(size: int, sigma: tuple[float, float], angle: float = 0.0, *, beta: float) -> Kernel:
    """Return 1 / (1 + r^(2 beta)), r in standard deviations: a flat top with long tails."""
    return _normalised(1 / (1 + _squared_distance(size, sigma, angle) ** beta))


def sinc(size: int, cutoff: float) -> Kernel:
    """Return the ideal circular low-pass filter, truncated to the window.

    Args:
        cutoff: highest angular frequency that passes, in radians per pixel, at most pi.
    """
    x, y = _grid(size)
    radius = np.hypot(x, y)
    radius[size // 2, size // 2] = 1.0
    # J1 from PyTorch, since SciPy is not a dependency.
    bessel = torch.special.bessel_j1(torch.from_numpy(cutoff * radius)).numpy()
    weights = cutoff * bessel / (2 * math.pi * radius)
    weights[size // 2, size // 2] = cutoff**2 / (4 * math.pi)  # the limit for radius -> 0
    return _normalised(weights)


def line(length: float, width: float, angle: float) -> Kernel:
    """Return a line through the origin with a Gaussian cross-section.

    Args:
        length: in pixels.
        width: standard deviation across the line, in pixels.
        angle: from the downward vertical, in radians.
    """
    size = 2 * math.ceil(length / 2 + 3 * width) + 1
    x, y = _grid(size)
    along = x * math.sin(angle) + y * math.cos(angle)
    across = x * math.cos(angle) - y * math.sin(angle)
    # The ends fade over one pixel, so that the length need not be an integer.
    ends = np.clip(length / 2 + 0.5 - np.abs(along), 0, 1)
    return _normalised(ends * np.exp(-0.5 * (across / width) ** 2))


def path(points: NDArray[np.float64], width: float) -> Kernel:
    """Return the sum of equal Gaussians at points.

    Args:
        points: (n, 2) as (x, y) from the origin, in pixels.
        width: standard deviation of each, in pixels.
    """
    size = 2 * math.ceil(float(np.abs(points).max()) + 3 * width) + 1
    x, y = _grid(size)
    distance = (x[..., None] - points[:, 0]) ** 2 + (y[..., None] - points[:, 1]) ** 2
    return _normalised(np.exp(-0.5 * distance / width**2).sum(axis=-1))


def _squared_distance(size: int, sigma: tuple[float, float], angle: float) -> NDArray[np.float64]:
    """Return the squared distance to the origin, in standard deviations along the rotated axes."""
    x, y = _grid(size)
    u = x * math.cos(angle) + y * math.sin(angle)
    v = y * math.cos(angle) - x * math.sin(angle)
    return (u / sigma[0]) ** 2 + (v / sigma[1]) ** 2


def _grid(size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    half = size // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float64)
    return x, y


def _normalised(weights: NDArray[np.float64]) -> Kernel:
    return (weights / weights.sum()).astype(np.float32)
