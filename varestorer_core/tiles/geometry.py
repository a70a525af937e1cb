"""The tiles of all pictures of a run: layouts, sources, and masks that exclude tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..errors import SettingError
from ..host_memory import check_results
from ..resize import target_size
from ..settings import RestoreSettings
from .tiling import TileLayout, TileMerger, plan_tiles, touched_tiles


@dataclass(frozen=True)
class TileGeometry:
    """The tiles of all pictures of a run, numbered consecutively."""

    layouts: tuple[TileLayout, ...]
    """One per picture."""
    sources: tuple[Tensor, ...]
    """(3, H, W) in [0, 1] per picture: the input at output size, whose colours can be matched."""
    masks: tuple[Tensor, ...] | None = None
    """(H, W) in [0, 1] per picture: where to restore; None restores everywhere."""

    @cached_property
    def tiles(self) -> tuple[tuple[int, ...], ...]:
        """Per picture, the tiles that are processed: with a mask, those that it touches."""
        if self.masks is None:
            return tuple(tuple(range(len(layout))) for layout in self.layouts)
        return tuple(map(touched_tiles, self.masks, self.layouts))

    def places(self) -> list[tuple[int, int]]:
        """Return (picture, tile of the picture) of every tile that is processed."""
        return [(p, t) for p, tiles in enumerate(self.tiles) for t in tiles]

    def mergers(self) -> list[TileMerger]:
        """Return a fresh merger per picture."""
        return list(map(TileMerger, self.layouts, self.tiles))

    def joined(self, picture: int, merger: TileMerger) -> Tensor:
        """Return the blended picture, with the source where a mask excluded tiles."""
        if self.masks is None:
            return merger.result().clamp_(0, 1)
        source = self.sources[picture]
        if not self.tiles[picture]:
            return source.clone()
        # Where the mask is positive, all tiles that cover the pixel were processed.
        blended = merger.result().clamp_(0, 1)
        return torch.where(self.masks[picture] > 0, blended, source, out=blended)


def check_masks(
    masks: Sequence[Tensor] | None, sizes: Sequence[tuple[int, int]]
) -> tuple[Tensor, ...] | None:
    """Return masks as the geometry keeps them: (H, W) float32 in [0, 1], one per output size."""
    if masks is None:
        return None
    shapes = [tuple(mask.shape) for mask in masks]
    if shapes != list(sizes):
        raise SettingError(
            f"Expected a mask (height, width) per picture at output size, {list(sizes)}, got {shapes}."
        )
    return tuple(mask.float().cpu().clamp(0, 1) for mask in masks)


def planned_layouts(
    pictures: Sequence[Tensor], settings: RestoreSettings, tile: int
) -> tuple[TileLayout, ...]:
    """Return where the tiles of pictures (3, H, W) lie at output size.

    The overlap is at most a quarter of a tile: half a tile needs twice as many tiles and gains little, 0.03 dB on the
    demonstration picture (docs/tiny-model.md).

    Raises:
        ImageError: if the results do not fit into memory.
    """
    sizes = [target_size(p.shape[-2], p.shape[-1], settings.upscale) for p in pictures]
    check_results(sizes)
    overlap = min(settings.overlap, tile // 4)
    return tuple(plan_tiles(*size, tile, overlap) for size in sizes)
