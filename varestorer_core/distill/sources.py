"""Sources of training pictures: a protocol, and equal squares in memory or in a memory-mapped file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from .data import random_crops


class PictureSource(Protocol):
    """Training pictures of any kind. Worker processes receive a copy, so a source must be picklable."""

    def draw(self, batch: int, crop: int, generator: torch.Generator) -> NDArray[np.uint8]:
        """Return (batch, crop, crop, 3) uint8 pictures that only depend on the generator."""
        ...


class Squares:
    """Equal squares (n, S, S, 3) uint8, from which random crops are drawn."""

    def __init__(self, pictures: NDArray[np.uint8]):
        self.pictures = pictures

    def draw(self, batch: int, crop: int, generator: torch.Generator) -> NDArray[np.uint8]:
        """Return (batch, crop, crop, 3) uint8 crops, each flipped and transposed half the time.

        Raises:
            ImageError: if the squares are smaller than a crop.
        """
        return random_crops(self.pictures, batch, crop, generator)

    def __getstate__(self) -> Any:
        # A worker process opens the file again instead of receiving hundreds of megabytes.
        filename = getattr(self.pictures, "filename", None)
        if isinstance(self.pictures, np.memmap) and filename is not None:
            return Path(filename)
        return self.pictures

    def __setstate__(self, state: Any) -> None:
        self.pictures = np.load(state, mmap_mode="r") if isinstance(state, Path) else state
