"""The whole restoration in one call: encode, restore, decode, with a mask and with alpha."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ...varestorer_core.resize import target_size
from ...varestorer_core.schedule import get_schedule
from ...varestorer_core.tiles.masking import output_masks
from . import stages
from .images import join_alpha, to_alpha, to_image, to_pictures
from .progress import Progress
from .vae import require_tokenizer

_STAGES = 3


def restore_image(
    image: Tensor,
    model: Any,
    vae: Any,
    *,
    upscale: float,
    overlap: int,
    seed: int,
    detail: float,
    fidelity: float,
    color_match: str,
    mask: Tensor | None,
    feather: int,
    conditioning: list | None,
    upscale_model: Any,
    tile_batch: int,
) -> Tensor:
    """Return the restored IMAGE of an IMAGE batch, with alpha if that had it.

    Args:
        mask: MASK (B or 1, h, w) of any size: 1 where to restore.
        feather: width of the mask's soft edge in output pixels.
    """
    from ...varestorer_core.pipeline import check_bits

    vae, config = require_tokenizer(vae), model.model.config
    # What the later stages would refuse, before the first one works for them.
    check_bits(vae.latent_channels, config)
    stages.text_features(conditioning, config.text_channels)
    pictures, alpha = to_pictures(image), to_alpha(image)
    # The whole batch has one size.
    size = target_size(*pictures[0].shape[-2:], upscale)
    progress = Progress()
    pyramid = stages.encode_pictures(
        pictures,
        vae,
        schedule=get_schedule(1.0, config.pixel_class),
        upscale=upscale,
        overlap=overlap,
        tile_batch=tile_batch,
        upscale_model=upscale_model,
        masks=None if mask is None else output_masks(mask, len(pictures), size, feather),
        on_progress=progress.part(0, _STAGES),
    )
    if len(pyramid.bits):
        codes = stages.restore_codes(
            model,
            pyramid,
            conditioning,
            seed=seed,
            detail=detail,
            fidelity=fidelity,
            tile_batch=tile_batch,
            on_progress=progress.part(1, _STAGES),
        )
        geometry = pyramid.geometry
        del pyramid  # its bits and cleaned pictures, which decoding does not need
        restored = stages.decode_codes(
            codes,
            geometry,
            vae,
            color_match=color_match,
            tile_batch=tile_batch,
            on_progress=progress.part(2, _STAGES),
        )
        # What is as large as the result goes before the IMAGE is made, which is another of that size.
        del geometry, pictures
    else:  # a mask that touches nothing
        restored = list(pyramid.sources)
    return join_alpha(to_image(restored), alpha)
