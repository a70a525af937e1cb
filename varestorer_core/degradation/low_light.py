"""Low light: fewer photons in a linear sensor, and the noise that comes with them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .steps import Range, Sizes, draw


@dataclass(frozen=True)
class LowLight:
    """An under-exposed photograph."""

    exposure: Range
    """Share of the light of the original, in linear intensity."""
    full_well: Range
    """Photons of a white pixel of the original's exposure; fewer make more shot noise."""
    read_noise: Range
    """Standard deviation of the sensor's own noise, in photons."""

    def __call__(self, image: Tensor, generator: np.random.Generator, _sizes: Sizes) -> Tensor:
        """Return the dark, noisy image in [0, 1]."""
        exposure, full_well = draw(self.exposure, generator), draw(self.full_well, generator)
        read_noise = draw(self.read_noise, generator)
        light = exposure * to_linear(image.double().clamp(0, 1)).numpy()
        photons = generator.poisson(light * full_well)
        photons = photons + read_noise * generator.standard_normal(photons.shape)
        return to_srgb(torch.from_numpy(photons / full_well).clamp(0, 1)).float()


def to_linear(values: Tensor) -> Tensor:
    """Return the linear intensities of sRGB values in [0, 1] (IEC 61966-2-1)."""
    return torch.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def to_srgb(intensities: Tensor) -> Tensor:
    """Return the sRGB values of linear intensities in [0, 1]."""
    curve = 1.055 * intensities.clamp(min=1e-12) ** (1 / 2.4) - 0.055
    return torch.where(intensities <= 0.0031308, intensities * 12.92, curve)
