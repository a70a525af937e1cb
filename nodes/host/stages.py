"""The three stages of a restoration on the host's models: encode, restore, decode.

Each stage runs over all tiles before the next begins, so each model is loaded once per run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ...varestorer_core.errors import SettingError
from ...varestorer_core.schedule import PIXEL_CLASSES, ScaleSchedule, get_schedule
from .cleaner import loaded_cleaner
from .images import to_image, to_intermediate, to_pictures
from .memory import is_oom, load_for_tiles
from .model import tile_bytes
from .preview import TilePreview
from .progress import Progress
from .vae import require_tokenizer

GEOMETRY_KEY = "varestorer"
"""Under which a LATENT carries the tile geometry and the source pictures."""

TILE_SIZES = ("auto", "128", "256", "384", "512", "768", "1024")

_USUAL_PIXEL_CLASS = "0.25M"
"""What the released files and the bundled ones were trained on: tiles of 512 and of 128 pixels."""


def choose_schedule(patch_size: int, tile_size: str) -> ScaleSchedule:
    """Return the schedule whose tile has the asked side in pixels; "auto" fits the known models."""
    schedules = [get_schedule(1.0, pixel_class) for pixel_class in PIXEL_CLASSES]
    sides = {str(schedule.pixel_size(patch_size)[0]): schedule for schedule in schedules}
    if tile_size == "auto":
        return get_schedule(1.0, _USUAL_PIXEL_CLASS)
    if tile_size not in sides:
        raise SettingError(
            f"tile_size {tile_size} does not go with this VAE, which has {patch_size} pixels per "
            f"token. Choose auto or one of {', '.join(sides)}."
        )
    return sides[tile_size]


def encode(
    image: Tensor,
    vae: Any,
    *,
    upscale: float,
    overlap: int,
    tile_size: str,
    tile_batch: int,
    upscale_model: Any = None,
) -> tuple[Any, Tensor]:
    """Return the LQ pyramid of an IMAGE batch, and the pictures that were encoded as IMAGE."""
    vae = require_tokenizer(vae)
    pyramid = encode_pictures(
        to_pictures(image),
        vae,
        schedule=choose_schedule(vae.tokenizer.config.patch_size, tile_size),
        upscale=upscale,
        overlap=overlap,
        tile_batch=tile_batch,
        upscale_model=upscale_model,
        on_progress=Progress(),
    )
    return pyramid, to_image(pyramid.inputs)


def encode_pictures(
    pictures: list[Tensor],
    vae: Any,
    *,
    schedule: ScaleSchedule,
    upscale: float,
    overlap: int,
    tile_batch: int,
    upscale_model: Any = None,
    masks: list[Tensor] | None = None,
    on_progress: Callable[[int, int], None],
) -> Any:
    """Return the LQ pyramid of pictures (3, H, W); for masks see the core's `encode_pyramid`."""
    from ...varestorer_core.pipeline import encode_pyramid

    patch_size = vae.tokenizer.config.patch_size
    tile, _ = schedule.pixel_size(patch_size)
    batch = load_for_tiles(vae.patcher, vae.encode_bytes(tile * tile), tile_batch)
    with loaded_cleaner(upscale_model, tile, batch, vae.vae_dtype) as clean:
        return encode_pyramid(
            pictures,
            vae.encode_tiles,
            schedule=schedule,
            patch_size=patch_size,
            upscale=upscale,
            overlap=overlap,
            tile_batch=batch,
            masks=masks,
            clean=clean,
            is_oom=is_oom,
            on_progress=on_progress,
        )


def restore(
    patcher: Any, pyramid: Any, conditioning: list | None, **settings: Any
) -> dict[str, Any]:
    """Return the LATENT of a pyramid: the codes of every tile, with the geometry to join them.

    As every LATENT it holds numbers that any other node can work on, so codes become tensors here: N d h w values.

    Args:
        settings: those of `restore_codes` but for the progress.
    """
    codes = restore_codes(patcher, pyramid, conditioning, on_progress=Progress(), **settings)
    return {"samples": to_intermediate(codes[:]), GEOMETRY_KEY: pyramid.geometry}


def restore_codes(
    patcher: Any,
    pyramid: Any,
    conditioning: list | None,
    *,
    seed: int,
    detail: float,
    fidelity: float,
    tile_batch: int,
    on_progress: Callable[[int, int], None],
) -> Any:
    """Return the core's TileCodes of a pyramid, which keep bits until they are read."""
    from ...varestorer_core import pipeline

    transformer = patcher.model
    config = transformer.config
    pipeline.check_pyramid(pyramid, config)
    if pyramid.schedule.pixel_class != config.pixel_class:
        wanted = get_schedule(1.0, config.pixel_class).pixel_size(pyramid.patch_size)[0]
        raise SettingError(
            f"this model restores tiles of {wanted} pixels with this VAE, the pyramid has tiles of "
            f"{pyramid.schedule.pixel_size(pyramid.patch_size)[0]}. Set tile_size of VARestorer "
            "Encode Pyramid to auto or to that number."
        )
    features, mask = text_features(conditioning, config.text_channels)
    tokens = pyramid.schedule.num_tokens_long
    batch = load_for_tiles(
        patcher, tile_bytes(transformer, tokens), tile_batch, tiles=len(pyramid.bits)
    )
    device = patcher.load_device
    if features is not None:
        features = features.to(device)
        mask = None if mask is None else mask.to(device)
    return pipeline.restore_codes(
        transformer,
        pyramid,
        transformer.encode_text(features, mask, device=device),
        seed=seed,
        detail=detail,
        fidelity=fidelity,
        tile_batch=batch,
        device=device,
        is_oom=is_oom,
        on_progress=on_progress,
    )


def decode(samples: dict[str, Any], vae: Any, *, color_match: str, tile_batch: int) -> Tensor:
    """Return the IMAGE of a LATENT: tiles decoded, blended, matched in colour to their source."""
    vae = require_tokenizer(vae)
    codes = samples["samples"].float().cpu()
    check_codes(codes, vae.latent_channels)
    geometry = samples.get(GEOMETRY_KEY)
    if geometry is None:  # from the host's own nodes: every sample is a picture of its own
        return to_intermediate(vae.decode(codes))
    pictures = decode_codes(
        codes,
        geometry,
        vae,
        color_match=color_match,
        tile_batch=tile_batch,
        on_progress=Progress(),
    )
    return to_image(pictures)


def decode_codes(
    codes: Any,
    geometry: Any,
    vae: Any,
    *,
    color_match: str,
    tile_batch: int,
    on_progress: Callable[..., None],
) -> list[Tensor]:
    """Return the pictures of codes (N, d, h, w), a tensor or the core's TileCodes, by their geometry.

    Args:
        on_progress: called with (done, total, preview) as `Progress` is.
    """
    from ...varestorer_core.pipeline import decode_tiles

    shown = TilePreview(geometry, on_progress)
    pixels = geometry.layouts[0].tile ** 2
    batch = load_for_tiles(
        vae.patcher, vae.decode_bytes(pixels, vae.vae_dtype), tile_batch, tiles=len(codes)
    )
    return decode_tiles(
        shown.watch(vae.decode_tiles),
        codes,
        geometry,
        color_match=color_match,
        tile_batch=batch,
        is_oom=is_oom,
        on_progress=shown,
    )


def text_features(conditioning: list | None, channels: int) -> tuple[Tensor | None, Tensor | None]:
    """Return features (1, T, channels) and mask (1, T) of a CONDITIONING, or Nones without one."""
    if not conditioning:
        return None, None
    if len(conditioning) > 1 or conditioning[0][0].shape[0] != 1:
        raise SettingError(
            f"one prompt is needed, got {max(len(conditioning), conditioning[0][0].shape[0])}. "
            "Join texts in one CLIP Text Encode instead of combining conditionings."
        )
    features, extra = conditioning[0]
    if features.shape[-1] != channels:
        raise SettingError(
            f"this model reads text features of {channels} channels, the conditioning has "
            f"{features.shape[-1]}. Encode the prompt with the CLIP of Load VARestorer Text "
            "Encoder (flan-t5-xl); the bundled model works without a prompt."
        )
    mask = extra.get("attention_mask")
    return features.float(), None if mask is None else mask.reshape(1, -1).bool()


def check_codes(codes: Tensor, channels: int) -> None:
    """Refuse a LATENT that is not ours, empty, or broken, in one sentence."""
    if codes.ndim != 4 or codes.shape[1] != channels:
        raise SettingError(
            f"this VAE decodes latents (N, {channels}, h, w), got {tuple(codes.shape)}. The latent "
            "was made by another kind of model."
        )
    if 0 in codes.shape:
        raise SettingError(f"the latent is empty, its shape is {tuple(codes.shape)}.")
    if not bool(torch.isfinite(codes).all()):
        raise SettingError(
            "the latent holds NaN or infinite values, so an earlier node failed. Load the model in "
            "bf16 or fp32 instead of fp16."
        )
