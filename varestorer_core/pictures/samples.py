"""Samples as a decoder returns them, before they become tensors."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass
class Samples:
    """One decoded picture. Arrays hold unsigned integers over their full range, or float32 in [0, 1]."""

    color: NDArray
    """(H, W, 3)."""
    alpha: NDArray | None = None
    """(H, W)."""
    grey: bool = False
    bit_depth: int = 8
    icc_profile: bytes | None = None
    orientation: int = 1
    """EXIF or TIFF orientation, 1 to 8, still to be applied."""
    notes: list[str] = field(default_factory=list)
    converted: bool = False
    """Whether the colours were converted to sRGB, so that the colour tags of the file are no longer theirs."""
    page: int | None = 0
    """Index of the page of a file that was read; None for one inside another page, such as a raw picture."""

    def upright(self) -> None:
        """Apply the orientation."""
        self.color = _turned(self.color, self.orientation)
        self.alpha = None if self.alpha is None else _turned(self.alpha, self.orientation)
        self.orientation = 1


def grey_as_rgb(samples: NDArray) -> NDArray:
    """Return grey samples (H, W) as three equal channels (H, W, 3)."""
    return np.repeat(samples[..., None], 3, axis=2)


def to_unit(samples: NDArray) -> NDArray[np.float32]:
    """Return samples as float32 in [0, 1]."""
    if samples.dtype == np.float32:
        return samples
    # The same division in the same precision as ComfyUI's loader, so that both return the same values.
    values = samples.astype(np.float32)
    values /= np.float32(np.iinfo(samples.dtype).max)
    return values


def to_tensor(samples: NDArray) -> Tensor:
    """Return (channels, H, W) float32 in [0, 1] of (H, W, channels) samples."""
    return torch.from_numpy(np.ascontiguousarray(to_unit(samples).transpose(2, 0, 1)))


def _turned(array: NDArray, orientation: int) -> NDArray:
    """Turn an array (H, W, ...) upright; orientations 1 to 8 are those of the EXIF standard."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return array
