"""The whole restoration, from pictures to restored pictures of exactly the requested size.

`Restorer` handles the order of the stages, the progress and the kinds of pictures. Its `Stages` handle the networks and
their devices: `LoadedStages` for networks in memory, and the host's own in `nodes/host/stages.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

from .checks import check_pictures
from .errors import SettingError
from .host_memory import check_results
from .pictures.conversion import Pictures, as_masks, as_pictures
from .pipeline import DEFAULTS, LQPyramid
from .resize import target_size
from .settings import RestoreSettings
from .tiles.batching import ProgressCallback
from .tiles.geometry import TileGeometry
from .tiles.masking import output_mask
from .tiles.tile_bits import TileCodes
from .wording import shown

_NUM_STAGES = 3


class Stages(Protocol):
    """The three stages of a restoration, each over all tiles."""

    def check(self) -> None:
        """Raise SettingError for problems of later stages before the first stage runs."""
        ...

    def prompted(self, prompt: str) -> Stages:  # noqa: ARG002
        """Return the stages with one of their further prompts.

        Raises:
            SettingError: if they have no such prompt.
        """
        raise SettingError(
            "These networks use one prompt for all pictures. Specify it where they are loaded."
        )

    def encode(
        self,
        pictures: Sequence[Tensor],
        settings: RestoreSettings,
        *,
        masks: Sequence[Tensor] | None = None,
        clean: bool = True,
        on_progress: ProgressCallback | None = None,
    ) -> LQPyramid:
        """Return the LQ pyramid of pictures (3, H, W) in [0, 1]; masks have the output size.

        Args:
            clean: whether to apply the cleaner, if there is one, first.
        """
        ...

    def restore(
        self,
        pyramid: LQPyramid,
        settings: RestoreSettings,
        *,
        on_progress: ProgressCallback | None = None,
    ) -> TileCodes:
        """Return the restored codes of every tile."""
        ...

    def decode(
        self,
        codes: TileCodes,
        geometry: TileGeometry,
        settings: RestoreSettings,
        *,
        on_progress: ProgressCallback | None = None,
    ) -> list[Tensor]:
        """Return the pictures (3, H, W) in [0, 1], blended, with their colours matched."""
        ...


class Restorer:
    """Restores pictures with the three stages of a model.

    Example:
        >>> restorer = load_restorer()
        >>> larger = restorer.restore(Image.open("photo.jpg"), RestoreSettings(upscale=4))
    """

    def __init__(self, stages: Stages, defaults: RestoreSettings = DEFAULTS):
        self.stages = stages
        self.defaults = defaults
        """Settings of calls without any: the usual ones, changed by what adapters recommend."""

    def restore(
        self,
        pictures: Any,
        settings: RestoreSettings | None = None,
        *,
        masks: Any = None,
        prompt: str | None = None,
        on_progress: ProgressCallback | None = None,
        **changes: Any,
    ) -> Any:
        """Restore one picture or several to exactly round(side * upscale) pixels a side.

        Args:
            pictures: a PIL image; a NumPy array (H, W), (H, W, 3) or (H, W, 4), uint8 or uint16 in their
                full range, or floating point in [0, 1]; a tensor (3, H, W) or (B, 3, H, W) in [0, 1]; or a
                list of them. Sizes may differ.
            settings: see `RestoreSettings`; None means `defaults`.
            masks: a tensor, NumPy array or PIL image (h, w) of any size, a tensor or array (B, h, w), or a
                list: 1 where to restore, or 255 in 8 bits; one for all pictures or one each. The resized
                picture is kept elsewhere; tiles outside a mask are skipped.
            prompt: one of the prompts of `load_restorer(prompts=...)`, for these pictures; None means the prompt of
                the restorer, or "no prompt".
            on_progress: called with (steps done, steps), three steps per tile; an exception raised in it
                cancels the run.
            **changes: single settings by name, which replace those of `settings` or of `defaults`.

        Returns:
            The restored pictures, of the same kind as the input. Grey pictures stay grey, and an alpha channel is
            resized with a Lanczos filter. Tensors are float32 on the CPU.

        Raises:
            ImageError: for input that is not a picture, is empty, or holds NaN or infinite values.
            SettingError: for a setting, a mask or a prompt that does not fit.
        """
        settings = _changed(self.defaults if settings is None else settings, changes)
        given = as_pictures(pictures)
        self.stages.check()
        one = self if prompt is None else Restorer(self.stages.prompted(prompt), self.defaults)
        return given.like_the_input(one._restore_rgb(given, settings, masks, on_progress))

    def _restore_rgb(
        self,
        given: Pictures,
        settings: RestoreSettings,
        masks: Any,
        on_progress: ProgressCallback | None,
    ) -> list[Tensor]:
        check_pictures(given.rgb)
        pyramid = self.stages.encode(
            given.rgb,
            settings,
            masks=_sized_masks(masks, given.rgb, settings),
            on_progress=_part(on_progress, 0),
        )
        if not len(pyramid.bits):  # masks that touch nothing
            return [source.clone() for source in pyramid.sources]
        codes = self.stages.restore(pyramid, settings, on_progress=_part(on_progress, 1))
        geometry = pyramid.geometry
        del pyramid  # its bits and cleaned pictures, which decoding does not need
        return self.stages.decode(codes, geometry, settings, on_progress=_part(on_progress, 2))

    def reconstruct(
        self,
        pictures: Any,
        settings: RestoreSettings | None = None,
        *,
        clean: bool = True,
        **changes: Any,
    ) -> Any:
        """Encode pictures to bits and decode them with the tokenizer alone, without the transformer.

        For low-quality pictures, this is the input of the transformer; for clean ones, the best that any
        restoration with these bits can reach.

        Args:
            clean: whether to apply the cleaner, if there is one, first.

        The other arguments, the result and the errors are those of `restore`.
        """
        settings = _changed(self.defaults if settings is None else settings, changes)
        given = as_pictures(pictures)
        check_pictures(given.rgb)
        pyramid = self.stages.encode(given.rgb, settings, clean=clean)
        return given.like_the_input(self.stages.decode(pyramid.codes, pyramid.geometry, settings))


def _changed(settings: Any, changes: Mapping[str, Any]) -> RestoreSettings:
    if not isinstance(settings, RestoreSettings):
        raise SettingError(
            f"Expected RestoreSettings, got {shown(repr(settings))}. Give single settings by name, such as upscale=4."
        )
    return settings.with_changes(changes)


def _sized_masks(
    masks: Any, pictures: Sequence[Tensor], settings: RestoreSettings
) -> list[Tensor] | None:
    """Return a soft-edged mask of output size for each picture."""
    if masks is None:
        return None
    each = as_masks(masks)
    if len(each) not in (1, len(pictures)):
        raise SettingError(
            f"Expected one mask, or one for each of the {len(pictures)} pictures, got {len(each)}."
        )
    sizes = [target_size(p.shape[-2], p.shape[-1], settings.upscale) for p in pictures]
    check_results(sizes)  # masks of that size would take as long as pictures
    # Pictures of the same size share one mask.
    keys = [(index % len(each), size) for index, size in enumerate(sizes)]
    sized = {key: output_mask(each[key[0]], key[1], settings.feather) for key in set(keys)}
    return [sized[key] for key in keys]


def _part(on_progress: ProgressCallback | None, stage: int) -> Any:
    """Turn the progress of one of three stages into that of the whole; previews pass through."""
    if on_progress is None:
        return None
    return lambda done, total, *preview: on_progress(
        stage * total + done, _NUM_STAGES * total, *preview
    )
