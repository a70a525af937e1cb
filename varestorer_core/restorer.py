"""The three networks together: pictures in, restored pictures out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .models.text_conditioning import TextContext
from .models.tokenizer import VisualTokenizer
from .models.transformer import VARTransformer
from .pipeline import LQPyramid, decode_tiles, encode_pyramid, restore_codes
from .schedule import get_schedule
from .tiles.batching import ProgressCallback, tiles_at_once
from .tiles.geometry import TileGeometry
from .tiles.tile_bits import TileCodes


class Restorer:
    """Chains the stages of `pipeline` on networks that are on their device.

    Args:
        transformer, tokenizer: on the device where they run.
        cleaner: tiles in [-1, 1] to cleaned tiles, or None.
    """

    def __init__(
        self,
        transformer: VARTransformer,
        tokenizer: VisualTokenizer,
        cleaner: Callable[[Tensor], Tensor] | None = None,
    ):
        self.transformer = transformer
        self.tokenizer = tokenizer
        self.cleaner = cleaner
        self.schedule = get_schedule(1.0, transformer.config.pixel_class)

    def restore(
        self,
        pictures: Sequence[Tensor],
        upscale: float,
        *,
        text: TextContext | None = None,
        overlap: int = 64,
        seed: int = 0,
        detail: float = 0.0,
        fidelity: float = 0.0,
        color_match: str = "wavelet",
        masks: Sequence[Tensor] | None = None,
        tile_batch: int = 1,
        device: torch.device | str = "cpu",
        on_progress: ProgressCallback | None = None,
    ) -> list[Tensor]:
        """Restore pictures (3, H, W) in [0, 1] to exactly round(side * upscale) pixels a side.

        Args:
            text: None uses the model's learned unconditional embedding.
            tile_batch: tiles at once where `device` is no CPU.
            on_progress: called with (steps done, steps), three steps a tile.

        The other arguments are those of the stages.
        """
        tile_batch = tiles_at_once(device, tile_batch)
        pyramid = self._encode(
            pictures,
            device,
            upscale=upscale,
            overlap=overlap,
            tile_batch=tile_batch,
            masks=masks,
            clean=self.cleaner,
            on_progress=_part(on_progress, 0),
        )
        codes = restore_codes(
            self.transformer,
            pyramid,
            text if text is not None else self._unconditional(),
            seed=seed,
            detail=detail,
            fidelity=fidelity,
            tile_batch=tile_batch,
            device=device,
            on_progress=_part(on_progress, 1),
        )
        geometry = pyramid.geometry
        del pyramid  # its bits and cleaned pictures, which decoding does not need
        return self._decode(
            codes,
            geometry,
            device,
            color_match=color_match,
            tile_batch=tile_batch,
            on_progress=_part(on_progress, 2),
        )

    def reconstruct(
        self,
        pictures: Sequence[Tensor],
        upscale: float = 1.0,
        *,
        overlap: int = 64,
        color_match: str = "none",
        clean: bool = True,
        tile_batch: int = 1,
        device: torch.device | str = "cpu",
    ) -> list[Tensor]:
        """Return pictures as the tokenizer alone gives them: to bits and back, the transformer left out.

        Of low-quality pictures this is what the transformer starts from; of clean ones, the most that any
        restoration through these bits can reach.

        Args:
            clean: whether the cleaner, if there is one, comes first.

        The other arguments are those of `restore`.
        """
        tile_batch = tiles_at_once(device, tile_batch)
        pyramid = self._encode(
            pictures,
            device,
            upscale=upscale,
            overlap=overlap,
            tile_batch=tile_batch,
            clean=self.cleaner if clean else None,
        )
        return self._decode(
            pyramid.codes,
            pyramid.geometry,
            device,
            color_match=color_match,
            tile_batch=tile_batch,
        )

    def _encode(
        self, pictures: Sequence[Tensor], device: torch.device | str, **settings: Any
    ) -> LQPyramid:
        return encode_pyramid(
            pictures,
            lambda tiles: self.tokenizer.encode(tiles.to(device)),
            schedule=self.schedule,
            patch_size=self.tokenizer.config.patch_size,
            **settings,
        )

    def _decode(
        self, codes: TileCodes, geometry: TileGeometry, device: torch.device | str, **settings: Any
    ) -> list[Tensor]:
        return decode_tiles(
            lambda part: self.tokenizer.decode(part.to(device)), codes, geometry, **settings
        )

    @torch.inference_mode()
    def _unconditional(self) -> TextContext:
        return self.transformer.encode_text()


def _part(on_progress: ProgressCallback | None, stage: int) -> ProgressCallback | None:
    """Turn the progress of one of three stages into that of the whole."""
    if on_progress is None:
        return None
    return lambda done, total: on_progress(stage * total + done, 3 * total)
