"""Low light: fewer photons in a linear sensor, with the resulting noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..color_space import linear_to_srgb, srgb_to_linear
from .steps import Range, Sizes, draw


@dataclass(frozen=True)
class LowLight:
    """An under-exposed photograph."""

    exposure: Range
    """Fraction of the original's light, in linear intensity."""
    full_well: Range
    """Photons of a white pixel at the original's exposure; fewer cause more shot noise."""
    read_noise: Range
    """Standard deviation of the sensor's own noise, in photons."""

    def __call__(self, image: Tensor, generator: np.random.Generator, _sizes: Sizes) -> Tensor:
        """Return the dark, noisy image in [0, 1]."""
        exposure, full_well = draw(self.exposure, generator), draw(self.full_well, generator)
        read_noise = draw(self.read_noise, generator)
        light = exposure * srgb_to_linear(image.double().clamp(0, 1)).numpy()
        photons = generator.poisson(light * full_well)
        photons = photons + read_noise * generator.standard_normal(photons.shape)
        return linear_to_srgb(torch.from_numpy(photons / full_well).clamp(0, 1)).float()
