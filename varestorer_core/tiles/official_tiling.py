"""The official release's tiling, on 8-bit pictures. Only for comparison.

`tiling` describes our tiling and its differences. Pictures are NumPy arrays (H, W, 3), uint8, RGB;
the official code reverses the channels of finished tiles, which has no effect here.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import SettingError
from ..resize import target_size
from .tiling import bounce_indices

Picture = NDArray[np.uint8]

_WEIGHT_VARIANCE = 0.01  # of the Gaussian tile weights, in tile sides squared


def restore_official(
    picture: Picture,
    upscale: float,
    restore_tile: Callable[[Picture], Picture],
    *,
    tiled: bool,
    tile: int = 512,
    overlap: int = 128,
) -> Picture:
    """Enlarge and restore a picture like the official entry point.

    Args:
        restore_tile: restores one square tile (tile, tile, 3).
        tiled: if False, the whole picture is resized to one tile, regardless of its aspect ratio,
            and the result is resized back.

    Returns:
        The restored picture, `target_size(H, W, upscale)`.
    """
    height, width = target_size(picture.shape[0], picture.shape[1], upscale)
    picture = _resize(picture, height, width)
    if not tiled:
        return _resize(restore_tile(_resize(picture, tile, tile)), height, width)
    padded = pad_ring(picture, overlap)
    tiles, places = [], []
    for y in tile_positions(padded.shape[0], tile, overlap):
        for x in tile_positions(padded.shape[1], tile, overlap):
            piece, valid = crop_tile(padded, y, x, tile)
            tiles.append(restore_tile(piece))
            places.append((y, x, *valid))
    blended = blend_tiles(tiles, places, (padded.shape[0], padded.shape[1]))
    return blended[overlap : overlap + height, overlap : overlap + width]


def to_8bit(values: NDArray[np.float32]) -> Picture:
    """Map decoder output in [-1, 1] to 8 bits, truncating instead of rounding."""
    return ((values + np.float32(1)) / np.float32(2) * np.float32(255)).astype(np.uint8)


def pad_ring(picture: Picture, pad: int) -> Picture:
    """Extend a picture by `pad` pixels on all sides by reflection, repeatedly if it is small."""
    height, width = picture.shape[:2]
    rows = bounce_indices(-pad, height + 2 * pad, height).numpy()
    columns = bounce_indices(-pad, width + 2 * pad, width).numpy()
    return picture[rows][:, columns]


def tile_positions(length: int, tile: int, overlap: int) -> list[int]:
    """Return the left edges along an axis: a fixed stride, then a tile that ends at the border."""
    if length <= tile:
        return [0]
    if overlap >= tile:
        raise SettingError(
            f"overlap must be smaller than the tile, got overlap={overlap} and tile={tile}."
        )
    positions = list(range(0, length - tile + 1, tile - overlap))
    return positions if positions[-1] == length - tile else [*positions, length - tile]


def crop_tile(picture: Picture, top: int, left: int, tile: int) -> tuple[Picture, tuple[int, int]]:
    """Return a tile and its valid (height, width).

    A tile that extends beyond the picture is padded by reflecting the cropped part, not the whole picture.
    """
    piece = picture[top : top + tile, left : left + tile]
    height, width = piece.shape[:2]
    rows = bounce_indices(0, tile, height).numpy()
    columns = bounce_indices(0, tile, width).numpy()
    return piece[rows][:, columns], (height, width)


def tile_weights(height: int, width: int) -> NDArray[np.float32]:
    """Return the Gaussian blending window (height, width) with a maximum of 1."""

    def axis(length: int) -> NDArray[np.float64]:
        offset = (np.arange(length) - (length - 1) / 2) / length
        return np.exp(-(offset**2) / (2 * _WEIGHT_VARIANCE))

    window = np.outer(axis(height), axis(width)).astype(np.float32)
    return window / window.max()


def blend_tiles(
    tiles: list[Picture], places: list[tuple[int, int, int, int]], size: tuple[int, int]
) -> Picture:
    """Average finished 8-bit tiles with Gaussian weights and round half to even.

    Args:
        tiles: tiles (T, T, 3).
        places: (y, x, valid height, valid width) of each tile.
        size: (height, width) of the result.
    """
    total = np.zeros((*size, 3), np.float32)
    weights = np.zeros((*size, 1), np.float32)
    window = tile_weights(*tiles[0].shape[:2])[..., None]
    for tile, (y, x, height, width) in zip(tiles, places, strict=True):
        weight = window[:height, :width]
        total[y : y + height, x : x + width] += tile[:height, :width].astype(np.float32) * weight
        weights[y : y + height, x : x + width] += weight
    return np.rint(total / np.maximum(weights, 1e-8)).clip(0, 255).astype(np.uint8)


def _resize(picture: Picture, height: int, width: int) -> Picture:
    """Resample with Pillow's 8-bit Lanczos filter, unless the picture already has this size."""
    if picture.shape[:2] == (height, width):
        return picture
    return np.asarray(
        Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS), dtype=np.uint8
    )
