"""Entry point: degrade one picture with one preset and one generator."""

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

    The strength of the degradation does not depend on `scale`, which only sets the size of the
    result: after the preset's steps, the picture is resized to it (with antialiasing if it shrinks).
    Presets that damage single pixels of the result (rain, low light, salt and pepper, heavy JPEG)
    reduce the picture first.

    Args:
        image: (3, H, W) float in [0, 1], any size from 1 x 1.
        preset: a preset or its name.
        generator: source of all random numbers; see `picture_generator`.
        scale: factor by which both sides become shorter, at least 1.
        on_step: called with (steps done, steps in total) before each step and at the end; an exception in it cancels.

    Returns:
        (3, max(1, round(H / scale)), max(1, round(W / scale))) float32 on the CPU; its values are
        multiples of 1/255, as in a picture file with 8 bits.

    Raises:
        ImageError: for another shape, or NaN or infinite values.
        SettingError: for an unknown preset or a scale below 1.
    """
    if isinstance(preset, str):
        preset = get_preset(preset)
    if image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:
        raise ImageError(
            f"Expected a picture (3, height, width) with positive sides, got {tuple(image.shape)}."
        )
    if not torch.isfinite(image).all():
        raise ImageError("The picture holds NaN or infinite values. An earlier step failed.")
    original = (image.shape[-2], image.shape[-1])
    sizes = Sizes(original, reduced_size(original, scale))
    image = image.detach().float().cpu().clamp(0, 1)
    count = len(preset.steps) + 1  # including the final resize
    tell = on_step or (lambda *_: None)
    for number, step in enumerate(preset.steps):
        tell(number, count)
        image = step(image, generator, sizes)
    tell(count - 1, count)
    image = resize(image.clamp(0, 1), sizes.output, preset.final_filter, antialias=True)
    tell(count, count)
    return image.clamp(0, 1).mul(255).round().div(255)


def reduced_size(size: Size, scale: float) -> Size:
    """Return (height, width) divided by `scale`, rounded half to even, at least 1."""
    if not (math.isfinite(scale) and scale >= 1):
        raise SettingError(f"scale must be a number of at least 1, got {scale}.")
    return max(1, round(size[0] / scale)), max(1, round(size[1] / scale))


def picture_generator(seed: int, index: int) -> np.random.Generator:
    """Return the generator for one picture of a run: PCG64 seeded with numpy's hash of both numbers.

    A picture's degradation depends only on the seed and its index, not on the other pictures of the run.

    Args:
        seed, index: at least 0.
    """
    return np.random.default_rng([seed, index])
