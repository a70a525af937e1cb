"""The stages of a restoration with networks that are loaded on their device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from .checks import check_bits
from .errors import SettingError
from .models.text_conditioning import TextContext
from .models.tokenizer import VisualTokenizer
from .models.transformer import VARTransformer
from .pipeline import (
    LQPyramid,
    decode_tiles,
    encode_pyramid,
    restore_codes,
)
from .schedule import ScaleSchedule, get_schedule
from .settings import RestoreSettings
from .tiles.batching import ProgressCallback, tiles_at_once
from .tiles.geometry import TileGeometry
from .tiles.tile_bits import TileCodes
from .wording import shown


@dataclass(frozen=True)
class LoadedStages:
    """See `restorer.Stages`. All networks are on `device`."""

    transformer: VARTransformer
    tokenizer: VisualTokenizer
    cleaner: Callable[[Tensor], Tensor] | None = None
    """Maps tiles (B, 3, T, T) in [-1, 1] to cleaned tiles."""
    text: TextContext | None = None
    """Context of the prompt, from `transformer.encode_text`; None means the learned "no prompt"."""
    device: torch.device | str = "cpu"
    prompts: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Features and mask of further prompts, on the CPU: their contexts would take many times the memory."""

    @property
    def schedule(self) -> ScaleSchedule:
        """The scales of a tile."""
        return get_schedule(1.0, self.transformer.config.pixel_class)

    @property
    def tile(self) -> int:
        """Side of a tile in pixels."""
        return self.schedule.pixel_size(self.tokenizer.config.patch_size)[0]

    @torch.inference_mode()
    def prompted(self, prompt: str) -> LoadedStages:
        """See `Stages.prompted`."""
        if prompt not in self.prompts:
            raise SettingError(
                f"The prompt {shown(repr(prompt))} was not encoded. Pass it to load_restorer(prompts=[...])."
            )
        features, mask = (tensor.to(self.device) for tensor in self.prompts[prompt])
        return replace(self, text=self.transformer.encode_text(features, mask, device=self.device))

    def check(self) -> None:
        """See `Stages.check`."""
        check_bits(self.tokenizer.config.codebook_dim, self.transformer.config)

    def encode(
        self,
        pictures: Sequence[Tensor],
        settings: RestoreSettings,
        *,
        masks: Sequence[Tensor] | None = None,
        clean: bool = True,
        on_progress: ProgressCallback | None = None,
    ) -> LQPyramid:
        """See `Stages.encode`."""
        return encode_pyramid(
            pictures,
            lambda tiles: self.tokenizer.encode(tiles.to(self.device)),
            settings,
            schedule=self.schedule,
            patch_size=self.tokenizer.config.patch_size,
            masks=masks,
            clean=self.cleaner if clean else None,
            **self._run(settings, on_progress),
        )

    def restore(
        self,
        pyramid: LQPyramid,
        settings: RestoreSettings,
        *,
        on_progress: ProgressCallback | None = None,
    ) -> TileCodes:
        """See `Stages.restore`."""
        text = self._unconditional() if self.text is None else self.text
        return restore_codes(
            self.transformer,
            pyramid,
            text,
            settings,
            device=self.device,
            **self._run(settings, on_progress),
        )

    def decode(
        self,
        codes: TileCodes,
        geometry: TileGeometry,
        settings: RestoreSettings,
        *,
        on_progress: ProgressCallback | None = None,
    ) -> list[Tensor]:
        """See `Stages.decode`."""
        return decode_tiles(
            lambda part: self.tokenizer.decode(part.to(self.device)),
            codes,
            geometry,
            color_match=settings.color_match,
            **self._run(settings, on_progress),
        )

    def _run(
        self, settings: RestoreSettings, on_progress: ProgressCallback | None
    ) -> dict[str, Any]:
        tile_batch = tiles_at_once(self.device, settings.tile_batch, tile=self.tile)
        return {"tile_batch": tile_batch, "on_progress": on_progress}

    @torch.inference_mode()
    def _unconditional(self) -> TextContext:
        return self.transformer.encode_text()
