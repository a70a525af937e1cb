"""Rain: slanted streaks of equal direction under a thin bright veil."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from . import kernels
from .blur import convolve
from .steps import Range, Sizes, draw

_SKY = 0.75
"""Brightness of the veil: distant rain scatters the light of an overcast sky."""


@dataclass(frozen=True)
class Rain:
    """One shower."""

    density: Range
    """Streaks per pixel."""
    length: Range
    """In pixels, the same for all streaks of a picture."""
    width: Range
    """Standard deviation across a streak, in pixels."""
    slant: Range
    """In degrees from the vertical."""
    opacity: Range
    """Opacity of the brightest streak."""
    veil: Range
    """Fraction of the sky's brightness that is mixed into the whole picture."""

    def __call__(self, image: Tensor, generator: np.random.Generator, _sizes: Sizes) -> Tensor:
        """Return the image behind the rain."""
        density, length = draw(self.density, generator), draw(self.length, generator)
        width = draw(self.width, generator)
        slant = math.radians(draw(self.slant, generator))
        opacity, veil = draw(self.opacity, generator), draw(self.veil, generator)
        chance = generator.random(image.shape[-2:], dtype=np.float32)
        brightness = generator.uniform(0.3, 1.0, image.shape[-2:]).astype(np.float32)
        drops = torch.from_numpy(np.where(chance < density, brightness, 0.0))[None]
        kernel = kernels.line(length, width, slant)
        # Peak 1: a streak is as bright as its drop, regardless of its length.
        streaks = convolve(drops, kernel / kernel.max()).clamp(0, 1) * opacity
        hazy = image + veil * (_SKY - image)
        return hazy + streaks * (1 - hazy)
