"""PNG with 16 bits per channel and more than one channel, which Pillow reads as 8 bits and cannot write.

Reading needs no decoder of our own. Pillow unpacks big-endian 16-bit samples by keeping the first
byte of each; asked to unpack the same bytes as little-endian, it keeps the second. Two passes give
both.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .png_chunks import SIGNATURE

# Pillow's raw mode of a 16-bit file to the raw mode that keeps the low bytes. Grey with alpha has
# four bytes a pixel, so it can be read as plain RGBA: high and low byte of grey, high and low byte
# of alpha.
_LOW_BYTES = {"RGB;16B": "RGB;16L", "RGBA;16B": "RGBA;16L", "LA;16B": "RGBA"}
_COLOR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
_BAND = 256  # rows filtered at a time


def is_deep(image: Image.Image) -> bool:
    """Return whether an opened picture, not loaded yet, is a PNG whose 16 bits Pillow would reduce to 8."""
    return image.format == "PNG" and _raw_mode(image) in _LOW_BYTES


def decode(high: Image.Image, low: Image.Image) -> NDArray[np.uint16]:
    """Return the samples (H, W, channels) of a file that `is_deep`.

    Args:
        high, low: the same file opened twice; neither may be loaded yet.
    """
    raw_mode = _raw_mode(low)
    # Plain tuples: Pillow 11 made the tiles named tuples, older ones do not have that class.
    low.tile = [(*tile[:3], _LOW_BYTES[raw_mode]) for tile in low.tile]  # pyright: ignore
    low_bytes = np.asarray(low).astype(np.uint16)
    if raw_mode == "LA;16B":
        high_bytes, low_bytes = low_bytes[..., 0::2], low_bytes[..., 1::2]
    else:
        high_bytes = np.asarray(high).astype(np.uint16)
    return high_bytes * np.uint16(256) + low_bytes


def encode(
    file: BinaryIO,
    samples: NDArray[np.uint16],
    icc_profile: bytes | None = None,
    chunks: Sequence[tuple[bytes, bytes]] = (),
) -> None:
    """Write samples (H, W, 1 to 4 channels) as a 16-bit PNG.

    Args:
        chunks: (name, content) of further chunks before the pixels.
    """
    height, width, channels = samples.shape
    header = struct.pack(">IIBBBBB", width, height, 16, _COLOR_TYPES[channels], 0, 0, 0)
    file.write(SIGNATURE)
    _write_chunk(file, b"IHDR", header)
    if icc_profile is not None:
        _write_chunk(file, b"iCCP", b"ICC profile\0\0" + zlib.compress(icc_profile))
    for name, content in chunks:
        _write_chunk(file, name, content)
    compressor = zlib.compressobj(6)
    for start in range(0, height, _BAND):
        above = samples[max(0, start - 1) : start]
        filtered = _filtered(samples[start : start + _BAND], above)
        if packed := compressor.compress(filtered):  # empty until a block is complete
            _write_chunk(file, b"IDAT", packed)
    _write_chunk(file, b"IDAT", compressor.flush())
    _write_chunk(file, b"IEND", b"")


def _filtered(samples: NDArray[np.uint16], before: NDArray[np.uint16]) -> bytes:
    """Return rows as bytes, each minus its left or its upper neighbour, whichever leaves less.

    Args:
        before: the row above the first, or no row at the top of the picture.
    """
    height, width, channels = samples.shape
    data = samples.astype(">u2").view(np.uint8).reshape(height, width * channels * 2)
    pixel = channels * 2
    left, above = np.zeros_like(data), np.zeros_like(data)
    left[:, pixel:] = data[:, :-pixel]
    above[1:] = data[:-1]
    if len(before):
        above[0] = before.astype(">u2").view(np.uint8).reshape(-1)
    candidates = np.stack([data - left, data - above])  # (2, H, bytes), modulo 256 as PNG requires
    cost = np.abs(candidates.view(np.int8).astype(np.int16)).sum(axis=2, dtype=np.int64)
    best = cost.argmin(axis=0)  # (H,)
    rows = np.empty((height, data.shape[1] + 1), np.uint8)
    rows[:, 0] = best + 1  # filter types: 1 is Sub, 2 is Up
    rows[:, 1:] = candidates[best, np.arange(height)]
    return rows.tobytes()


def _write_chunk(file: BinaryIO, name: bytes, content: bytes) -> None:
    file.write(struct.pack(">I", len(content)) + name)
    file.write(content)
    file.write(struct.pack(">I", zlib.crc32(content, zlib.crc32(name))))


def _raw_mode(image: Image.Image) -> object:
    tiles = getattr(image, "tile", None)
    return tiles[0][3] if tiles else None
