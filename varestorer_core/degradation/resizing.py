"""Resizing with a random factor and filter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from ..resize import resize_lanczos
from .steps import Range, Size, Sizes, draw

Filter = Literal["area", "bilinear", "bicubic", "lanczos"]


@dataclass(frozen=True)
class ResizeBy:
    """Multiplies both sides by a factor, rounded, at least 1 pixel."""

    factor: Range
    """Below 1 shrinks."""
    filters: tuple[Filter, ...]
    """Filters, one of which is drawn uniformly. Only "area" averages when it shrinks; the others alias, as in
    careless software."""
    of: Literal["current", "original"] = "current"
    """The size that the factor is relative to."""

    def __call__(self, image: Tensor, generator: np.random.Generator, sizes: Sizes) -> Tensor:
        """Return the resized image."""
        factor = draw(self.factor, generator)
        choice = self.filters[int(generator.integers(len(self.filters)))]
        size = (image.shape[-2], image.shape[-1]) if self.of == "current" else sizes.original
        return resize(image, _times(size, factor), choice)


@dataclass(frozen=True)
class ShrinkBy:
    """Divides both sides by a uniformly distributed number, rounded, at least 1 pixel."""

    divisor: Range
    """Above 1 shrinks."""
    filter: Filter = "bilinear"

    def __call__(self, image: Tensor, generator: np.random.Generator, _sizes: Sizes) -> Tensor:
        """Return the smaller image."""
        size = (image.shape[-2], image.shape[-1])
        return resize(image, _times(size, 1 / draw(self.divisor, generator)), self.filter)


@dataclass(frozen=True)
class ResizeToOutput:
    """Resizes to the size of the result, so that the following steps act on its pixels."""

    filter: Filter = "area"

    def __call__(self, image: Tensor, _generator: np.random.Generator, sizes: Sizes) -> Tensor:
        """Return the image at output size."""
        return resize(image, sizes.output, self.filter)


def resize(image: Tensor, size: Size, choice: Filter, *, antialias: bool = False) -> Tensor:
    """Resize an image (3, H, W).

    Args:
        choice: "area" averages when shrinking; when enlarging it is replaced by "bilinear", since averaging
            over less than a pixel only repeats it. "lanczos" always uses antialiasing.
    """
    if tuple(image.shape[-2:]) == size:
        return image
    if choice == "lanczos":
        return resize_lanczos(image, size)
    if choice == "area":
        if size[0] <= image.shape[-2] and size[1] <= image.shape[-1]:
            return F.interpolate(image[None], size, mode="area")[0]
        choice = "bilinear"
    return F.interpolate(image[None], size, mode=choice, antialias=antialias)[0]


def _times(size: Size, factor: float) -> Size:
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))
