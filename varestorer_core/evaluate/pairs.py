"""Pairs of an original and its low-quality version, reproducible from the settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..degradation import degrade, picture_generator
from ..errors import ImageError
from ..pictures import read_picture
from .photographs import cut_square


@dataclass(frozen=True)
class Pair:
    """One photograph to measure on."""

    name: str
    original: Tensor
    """(3, H, W) in [0, 1]."""
    lq: Tensor
    """(3, H / scale, W / scale) in [0, 1]."""


def make_pair(
    path: Path,
    index: int,
    *,
    preset: str,
    scale: int,
    size: int,
    seed: int,
    whole: bool = False,
) -> Pair:
    """Read a photograph, cut it to a square of `size` and degrade it.

    Args:
        index: of the photograph in its set, from 0; with the seed it determines the degradation.
        whole: leave a photograph unchanged if its shorter side is `size` already.

    Raises:
        ImageError: if it cannot be read, or is too small.
    """
    original = cut_square(read_picture(path).rgb, size, whole=whole)
    height, width = original.shape[-2:]
    if height % scale or width % scale:
        raise ImageError(
            f"Sides must be multiples of the scale, {scale}, got {width} x {height} pixels."
        )
    lq = degrade(original, preset, picture_generator(seed, index), scale=scale)
    return Pair(path.name, original, lq)
