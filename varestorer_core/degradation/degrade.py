"""The entry point: one picture, one preset, one generator."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..errors import ImageError, SettingError
from .presets import Preset, get_preset
from .resizing import resize
from .steps import Size, Sizes


def degrade(
    image: Tensor,
    preset: str | Preset,
    generator: np.random.Generator,
    *,
    scale: float = 1,
    on_step: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Return a degraded version of a picture.

    How strongly it is degraded does not depend on `scale`, which only decides the size of the
    result: what the preset's steps leave is resized to it (with antialiasing where it shrinks).
    Presets whose damage sits in single pixels of the result (rain, low light, salt and pepper,
    heavy JPEG) reduce the picture first.

    Args:
        image: (3, H, W) float in [0, 1], any size from 1 x 1.
        preset: name or value.
        generator: source of everything random; see `picture_generator`.
        scale: by how much both sides become shorter, at least 1.
        on_step: called with (steps done, steps in all) before each step and at the end; raising in it cancels.

    Returns:
        (3, max(1, round(H / scale)), max(1, round(W / scale))) float32 on the CPU; its values are
        whole 255ths, as in a picture file with 8 bits.

    Raises:
        ImageError: for another shape, or NaN or infinite values.
        SettingError: for an unknown preset or a scale below 1.
    """
    if isinstance(preset, str):
        preset = get_preset(preset)
    if image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:
        raise ImageError(
            f"expected a picture (3, height, width) with positive sides, got {tuple(image.shape)}."
        )
    if not torch.isfinite(image).all():
        raise ImageError("the picture holds NaN or infinite values. An earlier step failed.")
    original = (image.shape[-2], image.shape[-1])
    sizes = Sizes(original, reduced_size(original, scale))
    image = image.detach().float().cpu().clamp(0, 1)
    count = len(preset.steps) + 1  # with the resizing
    tell = on_step or (lambda *_: None)
    for number, step in enumerate(preset.steps):
        tell(number, count)
        image = step(image, generator, sizes)
    tell(count - 1, count)
    image = resize(image.clamp(0, 1), sizes.output, preset.final_filter, antialias=True)
    tell(count, count)
    return image.clamp(0, 1).mul(255).round().div(255)


def reduced_size(size: Size, scale: float) -> Size:
    """Return (height, width) divided by `scale`, halves to even, at least 1."""
    if not (math.isfinite(scale) and scale >= 1):
        raise SettingError(f"scale must be a number of at least 1, got {scale}.")
    return max(1, round(size[0] / scale)), max(1, round(size[1] / scale))


def picture_generator(seed: int, index: int) -> np.random.Generator:
    """Return the generator of one picture of a run: PCG64 seeded with numpy's hash of both numbers.

    A picture's degradation depends on the seed and its index alone, not on what else is in the run.

    Args:
        seed, index: from 0 up.
    """
    return np.random.default_rng([seed, index])
