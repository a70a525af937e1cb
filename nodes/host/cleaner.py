"""The cleaner (SwinIR) from a native UPSCALE_MODEL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.model_management as mm
import torch

from ...varestorer_core.errors import SettingError


@contextmanager
def loaded_cleaner(
    upscale_model: Any, tile: int, tile_batch: int, dtype: torch.dtype
) -> Iterator[Any]:
    """Bring a cleaner to its device for the time of a `with` block.

    Args:
        upscale_model: what Load Upscale Model gives, or None for no cleaner.
        tile: side of the tiles in pixels.
        tile_batch: tiles at once, for the memory request.
        dtype: in which the VAE decodes, and the cleaner multiplies.

    Yields:
        The core's Cleaner, or None.

    Raises:
        SettingError: for a model that enlarges.
    """
    if upscale_model is None:
        yield None
        return
    from ...varestorer_core.cleaner import Cleaner

    if upscale_model.scale != 1:
        raise SettingError(
            "a cleaner must keep the picture's size, got a model that enlarges "
            f"{upscale_model.scale} times. Use general_swinir_v1, or enlarge after the "
            "restoration with Upscale Image (using Model)."
        )
    # Attention windows over eight-fold unshuffled pixels: some 400 floats a pixel.
    activations = tile * tile * 400 * 4 * tile_batch
    patcher = getattr(upscale_model, "patcher", None)
    if patcher is not None:
        mm.load_models_gpu([patcher], memory_required=activations, force_full_load=True)
        yield Cleaner(upscale_model.model, dtype)
        return
    # Older hosts do not manage upscale models: their own node moves them there and back, too.
    device = mm.get_torch_device()
    mm.free_memory(mm.module_size(upscale_model.model) + activations, device)
    try:
        yield Cleaner(upscale_model.model.to(device), dtype)
    finally:
        upscale_model.model.to("cpu")
