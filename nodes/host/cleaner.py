"""The cleaner (SwinIR) from a native UPSCALE_MODEL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.model_management as mm
import torch

from ...varestorer_core.errors import SettingError


def cleaner_bytes(pixels: int) -> int:
    """Return the memory in bytes for cleaning that many pixels."""
    # Window attention after pixel unshuffling by 8: about 400 floats a pixel.
    return pixels * 400 * 4


@contextmanager
def ready_cleaner(
    upscale_model: Any, tile_bytes: int, dtype: torch.dtype
) -> Iterator[tuple[Any, Any]]:
    """Keep a cleaner loaded during a `with` block that loads other models.

    Newer ComfyUI versions manage upscale models: load the returned patcher together with the other model, so that
    neither is unloaded for the other. Older versions do not: the cleaner is moved to the device first, as by their
    own node.

    Args:
        upscale_model: UPSCALE_MODEL, or None for no cleaner.
        tile_bytes: memory that one tile needs besides the weights.
        dtype: dtype of the VAE's decoder, used by the cleaner's matrix multiplications.

    Yields:
        The core's Cleaner or None, and its ModelPatcher or None.

    Raises:
        SettingError: if the model enlarges, or does not map RGB to RGB.
    """
    if upscale_model is None:
        yield None, None
        return
    from ...varestorer_core.cleaner import Cleaner

    if upscale_model.scale != 1:
        raise SettingError(
            "A cleaner must keep the picture's size, got a model that enlarges "
            f"{upscale_model.scale} times. Use general_swinir_v1, or enlarge after the "
            "restoration with Upscale Image (using Model)."
        )
    channels = upscale_model.input_channels, upscale_model.output_channels
    if channels != (3, 3):
        raise SettingError(
            f"A cleaner must read and return 3 channels (RGB), got a model that reads {channels[0]} and returns "
            f"{channels[1]}. Use general_swinir_v1."
        )
    network = upscale_model.model
    patcher = getattr(upscale_model, "patcher", None)
    if patcher is not None:
        yield Cleaner(network, dtype), patcher
        return
    device = mm.get_torch_device()
    mm.free_memory(mm.module_size(network) + tile_bytes, device)
    try:
        yield Cleaner(network.to(device), dtype), None
    finally:
        network.to("cpu")
