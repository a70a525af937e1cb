"""The output size of a picture, and antialiased Lanczos resampling in float precision.

The official code uses Pillow's Lanczos filter on 8-bit data. Here Pillow resizes each channel as
float values, so 16-bit input keeps its precision and intermediate results are not rounded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from .errors import SettingError

_WORTH_THREADS = 2**16
"""Pixels of a result below which threads cost more time than they save."""


def target_size(height: int, width: int, upscale: float) -> tuple[int, int]:
    """Return the output (height, width): sides times `upscale`, rounded half to even, at least 1."""
    if not (math.isfinite(upscale) and upscale > 0):
        raise SettingError(f"upscale must be a positive number, got {upscale}.")
    return max(1, round(height * upscale)), max(1, round(width * upscale))


SIZE_MODES = ("factor", "megapixels", "longer side")
"""Ways to specify the size of the result."""


def upscale_for(
    height: int, width: int, mode: str, *, megapixels: float, longer_side: int
) -> float:
    """Return the scale factor for a picture of that size in pixels.

    Args:
        mode: one of `SIZE_MODES` except "factor"; it selects one of the following.
        megapixels: millions of pixels of the result; met up to rounding of its sides.
        longer_side: exact number of pixels of the longer side of the result.

    Raises:
        SettingError: for another mode.
    """
    if mode == "megapixels":
        return math.sqrt(megapixels * 1e6 / (height * width))
    if mode == "longer side":
        return longer_side / max(height, width)
    raise SettingError(f"size_by must be one of {', '.join(SIZE_MODES)}, got {mode!r}.")


def resize_lanczos(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resample an image with an antialiased Lanczos filter.

    Args:
        image: (C, H, W) in [0, 1], any number of channels.
        size: (height, width) to resample to.

    Returns:
        (C, height, width) in [0, 1], same type and device; `image` itself if it has that size.
    """
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    height, width = size
    resized = torch.empty((image.shape[0], height, width), dtype=torch.float32)

    # One channel at a time: Pillow's float pictures have a single channel. It resizes without holding the GIL.
    def resize(channel: int) -> None:
        plane = image[channel].detach().float().cpu().contiguous().numpy()
        picture = Image.fromarray(plane).resize((width, height), Image.Resampling.LANCZOS)
        resized[channel].copy_(torch.from_numpy(np.array(picture)))

    threads = min(image.shape[0], torch.get_num_threads())
    if threads == 1 or height * width < _WORTH_THREADS:
        for channel in range(image.shape[0]):
            resize(channel)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(resize, range(image.shape[0])))
    return resized.clamp_(0, 1).to(image)


def enlarge_bicubic(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """Return a picture (3, H, W) in [0, 1] resampled to (height, width) by the bicubic filter."""
    resized = F.interpolate(picture[None], size, mode="bicubic", antialias=True)
    return resized[0].clamp(0, 1)


class ResizedPictures(Sequence[Tensor]):
    """Pictures that another thread resizes in order; accessing one waits for it."""

    def __init__(self, futures: list[Future[Tensor]]):
        self._futures = futures

    def __len__(self) -> int:
        return len(self._futures)

    def __getitem__(self, index: Any) -> Any:
        return self._futures[index].result()


@contextmanager
def resized_ahead(
    pictures: Sequence[Tensor], sizes: Sequence[tuple[int, int]]
) -> Iterator[ResizedPictures]:
    """Resize pictures (3, h, w) to (height, width) each in a background thread.

    Yields:
        The resized pictures in order, (3, H, W) float32 on the CPU.
    """
    with ThreadPoolExecutor(1) as pool:
        try:
            yield ResizedPictures(
                [
                    pool.submit(lambda p=p, size=size: resize_lanczos(p.float().cpu(), size))
                    for p, size in zip(pictures, sizes, strict=True)
                ]
            )
        finally:
            pool.shutdown(cancel_futures=True)
