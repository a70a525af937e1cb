"""Noise of sensors and of faulty transmission. Standard deviations are in units of 1/255."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .steps import Range, Sizes, draw

_LEVELS = 256.0


@dataclass(frozen=True)
class GaussianNoise:
    """Noise of the same strength everywhere."""

    sigma: Range
    """Standard deviation, in units of 1/255."""
    grey: float = 0.0
    """Probability that the three channels get the same noise."""

    def __call__(self, image: Tensor, generator: np.random.Generator, _sizes: Sizes) -> Tensor:
        """Return the noisy image, clipped to [0, 1]."""
        sigma = draw(self.sigma, generator) / 255
        channels = 1 if generator.random() < self.grey else image.shape[0]
        shape = (channels, *image.shape[-2:])
        noise = torch.from_numpy(generator.standard_normal(shape, dtype=np.float32))
        return (image + sigma * noise).clamp(0, 1)


@dataclass(frozen=True)
class PoissonNoise:
    """Shot noise: a pixel of value v receives Poisson(256 v) photons; bright pixels are noisier."""

    strength: Range
    """Factor of the deviation from the expected count."""
    grey: float = 0.0
    """Probability that the noise is that of the luminance, equal in the three channels."""

    def __call__(self, image: Tensor, generator: np.random.Generator, _sizes: Sizes) -> Tensor:
        """Return the noisy image, clipped to [0, 1]."""
        strength = draw(self.strength, generator)
        expected = image.clamp(0, 1)
        if generator.random() < self.grey:
            expected = expected.mean(dim=0, keepdim=True)
        counts = generator.poisson(expected.double().numpy() * _LEVELS)
        noise = torch.from_numpy(counts / _LEVELS).float() - expected
        return (image + strength * noise).clamp(0, 1)


@dataclass(frozen=True)
class SaltAndPepper:
    """Single pixels that are white or black."""

    density: Range
    """Fraction of the pixels, half of them white."""

    def __call__(self, image: Tensor, generator: np.random.Generator, _sizes: Sizes) -> Tensor:
        """Return the image with impulses in all three channels."""
        density = draw(self.density, generator)
        chance = torch.from_numpy(generator.random(image.shape[-2:]))
        image = torch.where(chance < density / 2, 0.0, image)
        return torch.where(chance >= 1 - density / 2, 1.0, image)
