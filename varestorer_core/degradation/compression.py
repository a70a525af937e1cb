"""JPEG compression."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import ImageError
from .steps import Sizes


@dataclass(frozen=True)
class Jpeg:
    """One compression, with colour at half resolution as in most software."""

    quality: tuple[int, int]
    """Smallest and largest quality, 1 to 100, both included."""

    def __call__(self, image: Tensor, generator: np.random.Generator, _sizes: Sizes) -> Tensor:
        """Return the decompressed image; its values are multiples of 1/255."""
        return compress(image, int(generator.integers(self.quality[0], self.quality[1] + 1)))


def compress(image: Tensor, quality: int) -> Tensor:
    """Return an image (3, H, W) in [0, 1] after JPEG compression and decompression.

    Raises:
        ImageError: if a side is longer than JPEG allows.
    """
    # Not with this module, which the nodes import when ComfyUI starts.
    from ..pictures.opening import without_pillow_limit
    from ..pictures.writing import MAX_SIDE

    if max(image.shape[-2:]) > MAX_SIDE["JPEG"]:
        raise ImageError(
            f"JPEG holds at most {MAX_SIDE['JPEG']} pixels a side, got {image.shape[-1]} x "
            f"{image.shape[-2]}. Degrade a part of the picture."
        )
    samples = (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()
    file = io.BytesIO()
    Image.fromarray(samples.numpy()).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    with without_pillow_limit():
        compressed = Image.open(file)
    decoded = np.array(compressed)
    return torch.from_numpy(decoded).permute(2, 0, 1).float().div(255).contiguous()
