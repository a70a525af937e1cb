"""The stages of a restoration on the host's models, and the functions of the nodes that use them.

Each stage runs over all tiles before the next begins, so each model is loaded once per run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ...varestorer_core.errors import SettingError
from ...varestorer_core.schedule import ScaleSchedule, classes_by_side, get_schedule
from ...varestorer_core.settings import RestoreSettings
from .adapter import recommended_for
from .cleaner import cleaner_bytes, ready_cleaner
from .images import join_alpha, to_alpha, to_image, to_intermediate, to_pictures
from .latent import GEOMETRY_KEY, RECOMMENDED_KEY, check_codes, check_tiles
from .memory import is_oom, load_for_tiles
from .model import compile_options, tile_bytes
from .preview import TilePreview
from .progress import Progress
from .tile_codes import geometry_of, mark_tiles, unmarked
from .vae import VARestorerVAE, require_tokenizer

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    from ...varestorer_core.config import TokenizerConfig
    from ...varestorer_core.pipeline import LQPyramid
    from ...varestorer_core.tiles.geometry import TileGeometry
    from .tile_codes import TileCodes

TILE_SIZES = ("auto", "64", "128", "192", "256", "384", "512", "768", "1024")
"""Tile sides in pixels of all pixel classes, at 4, 8 and 16 pixels per token."""


class HostStages:
    """The core's `Stages` on the host's models, which are loaded when a stage begins.

    Args:
        model: MODEL, for `restore` and `check`.
        vae: VAE, for `encode`, `decode` and `check`.
        conditioning: CONDITIONING or None.
        cleaner: UPSCALE_MODEL or None.
        tile_size: one of `TILE_SIZES`, for `encode` without a model.
    """

    def __init__(
        self,
        *,
        model: ModelPatcher | None = None,
        vae: object = None,
        conditioning: list | None = None,
        cleaner: Any = None,
        tile_size: str = "auto",
    ):
        self._model = model
        self._vae = vae
        self._conditioning = conditioning
        self._cleaner = cleaner
        self._tile_size = tile_size

    def prompted(self, prompt: str) -> HostStages:
        """See the core's `Stages.prompted`: CONDITIONING has the only prompt."""
        raise SettingError(
            f"The prompt must come from the conditioning, got {prompt!r} as an argument."
        )

    @property
    def patcher(self) -> ModelPatcher:
        """The MODEL, without which nothing can be restored."""
        assert self._model is not None
        return self._model

    @property
    def vae(self) -> VARestorerVAE:
        """The VAE, which must be a VARestorerVAE."""
        return require_tokenizer(self._vae)

    def check(self) -> None:
        """Raise errors of later stages before the first stage runs."""
        from ...varestorer_core.checks import check_bits

        config = self.patcher.model.config
        check_bits(self.vae.latent_channels, config)
        text_features(self._conditioning, config.text_channels)

    def encode(
        self,
        pictures: Sequence[Tensor],
        settings: RestoreSettings,
        *,
        masks: Sequence[Tensor] | None = None,
        clean: bool = True,
        on_progress: Callable[..., None] | None = None,
    ) -> Any:
        """See the core's `Stages.encode`."""
        from ...varestorer_core.compiling import compiled
        from ...varestorer_core.pipeline import encode_pyramid
        from ...varestorer_core.tiles.geometry import planned_layouts

        vae, schedule = self.vae, self._schedule()
        tile, _ = schedule.pixel_size(self._patch_size())
        tiles = sum(map(len, planned_layouts(pictures, settings, tile)))
        need = vae.encode_bytes(tile * tile)
        cleaner = self._cleaner if clean else None
        if cleaner is not None:  # VAE and cleaner alternate
            need = max(need, cleaner_bytes(tile * tile))
        with (
            ready_cleaner(cleaner, need, vae.vae_dtype) as (cleaning, beside),
            compiled(vae.tokenizer, self._compile_options()),
        ):
            batch = load_for_tiles(
                vae.patcher, need, settings.tile_batch, tile=tile, tiles=tiles, beside=beside
            )
            return encode_pyramid(
                pictures,
                vae.encode_tiles,
                settings,
                schedule=schedule,
                patch_size=self._patch_size(),
                tile_batch=batch,
                masks=masks,
                clean=cleaning,
                is_oom=is_oom,
                on_progress=on_progress,
            )

    def restore(
        self,
        pyramid: LQPyramid,
        settings: RestoreSettings,
        *,
        on_progress: Callable[..., None] | None = None,
    ) -> Any:
        """See the core's `Stages.restore`."""
        from ...varestorer_core.compiling import compiled
        from ...varestorer_core.pipeline import check_pyramid, restore_codes

        patcher, transformer = self.patcher, self.patcher.model
        config = transformer.config
        check_pyramid(pyramid, config)
        if pyramid.schedule.pixel_class != config.pixel_class:
            wanted = get_schedule(1.0, config.pixel_class).pixel_size(pyramid.patch_size)[0]
            raise SettingError(
                f"This model restores tiles of {wanted} pixels with this VAE, the pyramid has tiles of "
                f"{pyramid.schedule.pixel_size(pyramid.patch_size)[0]}. Set tile_size of VARestorer "
                "Encode Pyramid to auto or to that number."
            )
        features, mask = text_features(self._conditioning, config.text_channels)
        need = tile_bytes(patcher, pyramid.schedule.num_tokens_long)
        tile, _ = pyramid.schedule.pixel_size(pyramid.patch_size)
        batch = load_for_tiles(
            patcher, need, settings.tile_batch, tile=tile, tiles=len(pyramid.bits)
        )
        device = patcher.load_device
        if features is not None:
            features = features.to(device)
            mask = None if mask is None else mask.to(device)
        with compiled(transformer, compile_options(patcher)):
            return restore_codes(
                transformer,
                pyramid,
                transformer.encode_text(features, mask, device=device),
                settings,
                tile_batch=batch,
                device=device,
                is_oom=is_oom,
                on_progress=on_progress,
            )

    def decode(
        self,
        codes: Any,
        geometry: TileGeometry,
        settings: RestoreSettings,
        *,
        on_progress: Callable[..., None] | None = None,
    ) -> list[Tensor]:
        """See the core's `Stages.decode`; the progress is called with (done, total, preview)."""
        from ...varestorer_core.compiling import compiled
        from ...varestorer_core.pipeline import decode_tiles

        vae = self.vae
        shown = TilePreview(geometry, on_progress or Progress())
        tile = geometry.layouts[0].tile
        need = vae.decode_bytes(tile * tile, vae.vae_dtype)
        batch = load_for_tiles(vae.patcher, need, settings.tile_batch, tile=tile, tiles=len(codes))
        with compiled(vae.tokenizer, self._compile_options()):
            return decode_tiles(
                shown.watch(vae.decode_tiles),
                codes,
                geometry,
                color_match=settings.color_match,
                tile_batch=batch,
                is_oom=is_oom,
                on_progress=shown,
            )

    def _compile_options(self) -> dict[str, Any] | None:
        """Return the model's options of `torch.compile`, which also apply to the VAE; None without a model."""
        return None if self._model is None else compile_options(self._model)

    def _patch_size(self) -> int:
        return self.vae.tokenizer.config.patch_size

    def _schedule(self) -> ScaleSchedule:
        if self._model is not None:
            return get_schedule(1.0, self._model.model.config.pixel_class)
        return choose_schedule(self.vae.tokenizer.config, self._tile_size)


def restore_image(
    image: Tensor, stages: HostStages, settings: RestoreSettings, mask: Tensor | None
) -> Tensor:
    """Return the restored IMAGE of an IMAGE batch, with alpha if the input has it.

    Args:
        mask: MASK (B or 1, h, w) of any size: 1 where to restore.
    """
    from ...varestorer_core.restorer import Restorer

    restorer = Restorer(stages)
    restored = restorer.restore(to_pictures(image), settings, masks=mask, on_progress=Progress())
    return join_alpha(to_image(restored), to_alpha(image))


def encode_image(
    image: Tensor, stages: HostStages, settings: RestoreSettings
) -> tuple[Any, Tensor]:
    """Return the LQ pyramid of an IMAGE batch, and the pictures that were encoded as IMAGE."""
    pyramid = stages.encode(to_pictures(image), settings, on_progress=Progress())
    return pyramid, to_image(pyramid.inputs)


def restore_pyramid(
    pyramid: LQPyramid, stages: HostStages, settings: RestoreSettings
) -> dict[str, Any]:
    """Return the LATENT of a pyramid: codes (N, d, h, w) of all tiles, the geometry to join them, recommended settings.

    The codes are unpacked into a tensor, because other nodes may operate on a LATENT.
    """
    codes = stages.restore(pyramid, settings, on_progress=Progress())
    samples = mark_tiles(to_intermediate(codes[:]), pyramid.geometry)
    recommended = recommended_for(stages.patcher)
    return {"samples": samples, GEOMETRY_KEY: pyramid.geometry, RECOMMENDED_KEY: recommended}


def decode_latent(samples: dict[str, Any], stages: HostStages, settings: RestoreSettings) -> Tensor:
    """Return the IMAGE of a LATENT: tiles are decoded, blended and colour-matched to their source."""
    vae, geometry = stages.vae, geometry_of(samples["samples"]) or samples.get(GEOMETRY_KEY)
    codes = unmarked(samples["samples"]).float().cpu()
    check_codes(codes, vae.latent_channels)
    if geometry is None:  # made by the host's own nodes: every sample is a separate picture
        return to_intermediate(vae.decode(codes))
    check_tiles(codes, geometry, vae.tokenizer.config.patch_size)
    return to_image(stages.decode(codes, geometry, settings, on_progress=Progress()))


def join_latent(samples: TileCodes, vae: VARestorerVAE) -> Tensor:
    """Return the IMAGE of the tiles of a restoration, without colour matching."""
    settings = RestoreSettings(color_match="none")
    return decode_latent({"samples": samples}, HostStages(vae=vae), settings)


def choose_schedule(config: TokenizerConfig, tile_size: str) -> ScaleSchedule:
    """Return the schedule whose tile has the requested side in pixels; "auto" is the VAE's training size."""
    patch_size = config.patch_size
    classes = {str(side): name for side, name in classes_by_side(patch_size).items()}
    if tile_size == "auto":
        return get_schedule(1.0, config.pixel_class)
    if tile_size not in classes:
        trained, _ = get_schedule(1.0, config.pixel_class).pixel_size(patch_size)
        raise SettingError(
            f"tile_size {tile_size} does not match this VAE, which has {patch_size} pixels per token. Choose "
            f"auto: {trained}, the size that the VAE was trained on."
        )
    return get_schedule(1.0, classes[tile_size])


def text_features(conditioning: list | None, channels: int) -> tuple[Tensor | None, Tensor | None]:
    """Return features (1, T, channels) and mask (1, T) of a CONDITIONING, or (None, None) without one."""
    if not conditioning:
        return None, None
    if len(conditioning) > 1 or conditioning[0][0].shape[0] != 1:
        raise SettingError(
            f"Expected one prompt, got {max(len(conditioning), conditioning[0][0].shape[0])}. "
            "Join texts in one CLIP Text Encode instead of combining conditionings."
        )
    features, extra = conditioning[0]
    if features.shape[-1] != channels:
        raise SettingError(
            f"This model reads text features of {channels} channels, the conditioning has "
            f"{features.shape[-1]}. Encode the prompt with the CLIP of Load VARestorer Text "
            "Encoder (flan-t5-xl); the bundled model works without a prompt."
        )
    mask = extra.get("attention_mask")
    return features.float(), None if mask is None else mask.reshape(1, -1).bool()
