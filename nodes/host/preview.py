"""Previews of the picture on the progress bar, tile by tile, if they are enabled in the host's settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from comfy.cli_args import LatentPreviewMethod, args
from PIL import Image
from torch import Tensor

from ...varestorer_core.tiles.tiling import inside

if TYPE_CHECKING:
    from ...varestorer_core.tiles.geometry import TileGeometry

MOST_PREVIEWS = 20
"""Maximum number of previews per run, so that a run of many tiles is not slowed down."""


class TilePreview:
    """Progress callback of a decoding run: forwards (done, total) with a preview.

    A picture starts as its source, and each finished tile replaces its region, before blending and colour matching,
    which need all tiles. The preview only reads the tiles, so the result does not depend on it.

    Args:
        geometry: the core's TileGeometry of the run.
        on_progress: called with (done, total, preview), where preview is the host's preview tuple or None.
    """

    def __init__(self, geometry: TileGeometry, on_progress: Callable[..., None]):
        self._geometry, self._on_progress = geometry, on_progress
        self._places = geometry.places()
        self._wanted = args.preview_method != LatentPreviewMethod.NoPreviews
        self._longest = args.preview_size
        self._tiles: Tensor | None = None
        self._seen = 0
        self._shown: int | None = None
        self._canvas = torch.empty(0)  # (h, w, 3) uint8
        self._mask: Tensor | None = None

    def watch(self, decode: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """Return a function that decodes tiles, (B, d, h, w) to (B, 3, T, T), and remembers them."""
        if not self._wanted:
            return decode

        def watched(codes: Tensor) -> Tensor:
            self._tiles = decode(codes)
            return self._tiles

        return watched

    def __call__(self, done: int, total: int) -> None:
        before, self._seen = self._seen, done
        tiles, self._tiles = self._tiles, None
        if tiles is None or len(tiles) != done - before:
            self._on_progress(done, total)
            return
        for (picture, number), tile in zip(self._places[before:done], tiles, strict=True):
            self._paste(picture, number, tile)
        # Not after the last tile: the result follows immediately.
        due = done < total and done * MOST_PREVIEWS // total > before * MOST_PREVIEWS // total
        self._on_progress(done, total, self._preview() if due else None)

    def _paste(self, picture: int, number: int, tile: Tensor) -> None:
        """Put a tile (3, T, T) in [-1, 1] on the canvas of its picture."""
        layout = self._geometry.layouts[picture]
        scale = min(1.0, self._longest / max(layout.height, layout.width))
        if picture != self._shown:
            self._start(picture, scale)
        y, x = layout.positions[number]
        rows, above = inside(y, layout.height, layout.tile)
        columns, before = inside(x, layout.width, layout.tile)
        edges = (rows.start, columns.start, rows.stop, columns.stop)
        top, left, low, far = (round(edge * scale) for edge in edges)
        if low == top or far == left:
            return  # too thin to be visible
        part = tile[:, above, before]
        place = self._canvas[top:low, left:far]
        small = _shrink(part, (low - top, far - left)).add(1).div(2)
        if self._mask is None:
            place.copy_(_samples(small))
        else:
            old = place.movedim(-1, 0).div(255)
            place.copy_(_samples(old.lerp(small.to(old), self._mask[top:low, left:far])))

    def _start(self, picture: int, scale: float) -> None:
        source, masks = self._geometry.sources[picture], self._geometry.masks
        size = (max(1, round(source.shape[-2] * scale)), max(1, round(source.shape[-1] * scale)))
        self._shown, self._canvas = picture, _samples(_shrink(source, size)).contiguous()
        self._mask = None if masks is None else _shrink(masks[picture][None], size)[0]

    def _preview(self) -> tuple[str, Image.Image, None]:
        """Return the canvas as a preview tuple of the host; a size instead of None would enlarge small canvases."""
        # Copied, because the host encodes it later, in another thread.
        return "JPEG", Image.fromarray(self._canvas.numpy().copy()), None


def _shrink(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Return an image (C, H, W) reduced to a size by area averaging."""
    if image.shape[-2:] == size:
        return image
    if image.device.type == "mps":  # MPS does not support all sizes
        image = image.cpu()
    return F.interpolate(image[None], size, mode="area")[0]


def _samples(image: Tensor) -> Tensor:
    """Return an image (3, H, W), clamped to [0, 1], as uint8 (H, W, 3) on the CPU."""
    return image.clamp(0, 1).mul(255).add(0.5).byte().movedim(0, -1).cpu()
