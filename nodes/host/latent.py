"""The pack's additions to a LATENT, and checks of incoming ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...varestorer_core.errors import SettingError
from .tile_codes import CHANGED

if TYPE_CHECKING:
    from ...varestorer_core.tiles.geometry import TileGeometry

GEOMETRY_KEY = "varestorer"
"""Key of the tile geometry and the source pictures in a LATENT."""

RECOMMENDED_KEY = "varestorer_recommended"
"""Key of the settings in a LATENT that the model and its adapters recommend."""


def recommended_by_latent(latent: dict[str, Any]) -> dict[str, Any]:
    """Return the recommended settings of a LATENT by name; empty if another node made it."""
    return latent.get(RECOMMENDED_KEY, {})


def check_tiles(codes: Tensor, geometry: TileGeometry, patch_size: int) -> None:
    """Raise SettingError if another node has resized, cropped or split a LATENT after its restoration."""
    side, count = geometry.layouts[0].tile // patch_size, len(geometry.places())
    if tuple(codes.shape[2:]) != (side, side) or len(codes) != count:
        raise SettingError(
            f"The restoration made {count} tiles of {side} x {side} tokens, got {len(codes)} of "
            f"{codes.shape[3]} x {codes.shape[2]}. A node in between resized, cropped or split the "
            f"latent: {CHANGED}"
        )


def check_codes(codes: Tensor, channels: int) -> None:
    """Raise SettingError if a LATENT was made for another VAE, is empty, or has NaN or infinite values."""
    if codes.ndim != 4 or codes.shape[1] != channels:
        raise SettingError(
            f"This VAE decodes latents (N, {channels}, h, w), got {tuple(codes.shape)}. The latent "
            "was made by another kind of model."
        )
    if 0 in codes.shape:
        raise SettingError(
            f"Expected a latent with at least one tile, got an empty one of shape {tuple(codes.shape)}. "
            "Check the node that makes it."
        )
    if not bool(torch.isfinite(codes).all()):
        raise SettingError(
            "The latent holds NaN or infinite values, so an earlier node failed. Load the model in "
            "bf16 or fp32 instead of fp16."
        )
