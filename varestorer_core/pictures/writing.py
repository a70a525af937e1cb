"""Writing of picture files, complete or not at all.

The bytes go to a temporary file in the same folder, which is renamed only when it is complete and on the disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..atomic import write_atomically
from ..errors import ImageError
from .encoding import encoded
from .picture import Metadata

FORMATS = {
    ".bmp": "BMP",
    ".jpeg": "JPEG",
    ".jpg": "JPEG",
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}
"""File name extensions that can be written, with Pillow's name of the format."""
ALPHA_FORMATS = frozenset({"PNG", "TIFF", "WEBP"})
"""Formats that can hold transparency."""
DEEP_FORMATS = frozenset({"PNG"})
"""Formats that can be written with 16 bits per channel."""

_BAND = 256  # rows converted at a time
MAX_SIDE = {"JPEG": 65500, "WEBP": 16383}
"""Longest side in pixels of formats that have one."""


def check_target(path: str | Path, size: tuple[int, int]) -> str:
    """Return the format of a file name, if it can hold a picture of (height, width).

    Raises:
        ImageError: for a name without a known extension, or a picture too large for the format.
    """
    path = Path(path)
    file_format = FORMATS.get(path.suffix.lower())
    if file_format is None:
        raise ImageError(
            f"{path} cannot be written: the name must end in {', '.join(sorted(FORMATS))}, "
            f"got {path.suffix or 'no ending'!r}."
        )
    limit = MAX_SIDE.get(file_format)
    if limit is not None and max(size) > limit:
        raise ImageError(
            f"{path} cannot be written: {file_format} holds at most {limit} pixels a side, "
            f"got {size[1]} x {size[0]}. Use .png."
        )
    return file_format


def write_picture(
    path: str | Path,
    rgb: Tensor,
    alpha: Tensor | None = None,
    *,
    bit_depth: int = 8,
    icc_profile: bytes | None = None,
    grey: bool = False,
    metadata: Metadata | None = None,
    quality: int | None = None,
    on_encoded: Callable[[memoryview], None] | None = None,
) -> None:
    """Write a picture in the format of its file name, replacing an existing file.

    Args:
        rgb: (3, H, W) in [0, 1]; values outside are clipped.
        alpha: (1, H, W) in [0, 1], for formats that hold transparency.
        bit_depth: 8, or 16 for PNG.
        icc_profile: RGB profile to embed; None writes none, which means sRGB.
        grey: write one channel, the mean of the three, and no profile.
        metadata: further metadata to write, as far as the format can hold it.
        quality: of JPEG and WebP, 1 to 100; None means 95. Other formats are lossless.
        on_encoded: called with the content of the file before it is written.

    Raises:
        ImageError: if the format cannot hold the picture or the file cannot be written.
    """
    path = Path(path)
    file_format = check_target(path, (rgb.shape[-2], rgb.shape[-1]))
    if alpha is not None and file_format not in ALPHA_FORMATS:
        raise ImageError(
            f"{path} cannot be written: {file_format} holds no transparency. Use .png."
        )
    if bit_depth != 8 and not (bit_depth == 16 and file_format in DEEP_FORMATS):
        raise ImageError(
            f"{path} cannot be written with {bit_depth} bits per channel: {file_format} is written "
            f"with 8{', PNG with 8 or 16' if file_format != 'PNG' else ' or 16'}."
        )
    channels = to_grey(rgb) if grey else rgb
    channels = channels if alpha is None else torch.cat([channels, alpha])
    if not all(bool(torch.isfinite(channels[:, rows]).all()) for rows in _bands(channels)):
        raise ImageError(
            f"{path} was not written: the picture has NaN or infinite values. "
            "Try --dtype fp32; if that does not help, the model file is damaged."
        )
    samples = to_uint8(channels) if bit_depth == 8 else to_uint16(channels)
    profile = None if grey else icc_profile
    content = encoded(file_format, samples, profile, metadata or Metadata(), quality)
    if on_encoded is not None:
        on_encoded(content.getbuffer())
    write_atomically(path, content.getbuffer(), ImageError)


def to_grey(rgb: Tensor) -> Tensor:
    """Return the mean (1, H, W) of three channels, computed in float64 so that three equal values stay unchanged."""
    return rgb.double().mean(0, keepdim=True).float()


def to_uint8(picture: Tensor) -> NDArray[np.uint8]:
    """Return samples (H, W, channels) of a picture (channels, H, W) in [0, 1].

    Values are truncated instead of rounded, exactly as in the official script and ComfyUI's Save Image, so that a
    result has the same pixels whichever program saved it. Values k / 255 become k.
    """
    samples = _samples_like(picture, np.uint8)
    for rows in _bands(picture):
        values = picture[:, rows].detach().float().cpu().numpy().transpose(1, 2, 0)
        samples[rows] = np.clip(255.0 * values, 0, 255).astype(np.uint8)
    return samples


def to_uint16(picture: Tensor) -> NDArray[np.uint16]:
    """Return samples (H, W, channels) of a picture (channels, H, W) in [0, 1], rounded to 16 bits."""
    samples = _samples_like(picture, np.uint16)
    for rows in _bands(picture):
        values = picture[:, rows].detach().double().cpu().numpy().transpose(1, 2, 0)
        samples[rows] = np.rint(np.clip(65535 * values, 0, 65535)).astype(np.uint16)
    return samples


def _samples_like(picture: Tensor, dtype: type) -> NDArray:
    """Return an empty array for the samples (H, W, channels) of a picture (channels, H, W)."""
    channels, height, width = picture.shape
    return np.empty((height, width, channels), dtype)


def _bands(picture: Tensor) -> Iterator[slice]:
    """Yield the rows of a picture (channels, H, W) in bands, to avoid a copy of the whole."""
    for start in range(0, picture.shape[-2], _BAND):
        yield slice(start, start + _BAND)
