"""Pairs of an original and its low-quality version, the same for everyone who names the same settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..degradation import degrade, picture_generator
from ..pictures import read_picture
from .photographs import cut_square


@dataclass(frozen=True)
class Pair:
    """One photograph to measure on."""

    name: str
    original: Tensor
    """(3, S, S) in [0, 1]."""
    lq: Tensor
    """(3, S / scale, S / scale) in [0, 1]."""


def make_pair(path: Path, index: int, *, preset: str, scale: int, size: int, seed: int) -> Pair:
    """Read a photograph, cut it to a square of `size` and degrade it.

    Args:
        index: of the photograph in its set, from 0; with the seed it decides the degradation.

    Raises:
        ImageError: if it cannot be read, or is too small.
    """
    original = cut_square(read_picture(path).rgb, size)
    lq = degrade(original, preset, picture_generator(seed, index), scale=scale)
    return Pair(path.name, original, lq)
