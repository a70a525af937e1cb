"""Encoding of pictures to the transformer's input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ..varestorer_core.settings import RestoreSettings
from . import sockets
from .host.stages import TILE_SIZES, HostStages, encode_image
from .schema import (
    CATEGORY,
    chosen_upscale,
    cleaner_input,
    expert,
    setting_input,
    size_inputs,
    tile_batch_input,
    where_known,
)

if TYPE_CHECKING:
    from torch import Tensor

    from .host.vae import VARestorerVAE


class EncodePyramid(io.ComfyNode):
    """Resize, clean, tile, encode and quantise pictures."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VARestorerEncodePyramid",
            display_name="VARestorer Encode Pyramid",
            category=CATEGORY,
            description="Resizes pictures to their final size, cuts them into overlapping tiles, "
            "and encodes each tile into the bits of a scale pyramid, coarse to fine.",
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip="The degraded pictures, of any size. Grey pictures become RGB; an "
                    "alpha channel is dropped.",
                ),
                io.Vae.Input(
                    "vae",
                    tooltip=(
                        "The visual tokenizer that matches the model, from Load VARestorer VAE."
                    ),
                ),
                setting_input("upscale"),
                setting_input("overlap"),
                cleaner_input(),
                expert(
                    io.Combo.Input,
                    "tile_size",
                    options=list(TILE_SIZES),
                    default="auto",
                    tooltip="Side of a tile in pixels. auto is the size that the VAE was trained "
                    "on: 512 for the official files.",
                ),
                tile_batch_input(),
                *size_inputs(),
            ],
            outputs=[
                sockets.Pyramid.Output(
                    "pyramid", tooltip="Bits of all tiles, for VARestorer Restore Tiles."
                ),
                io.Image.Output(
                    "prepared",
                    tooltip="The pictures as the model receives them: resized to the final size, "
                    "and cleaned if a cleaner is connected.",
                ),
            ],
            **where_known(search_aliases=["varestorer encode", "lq pyramid", "restore stages"]),
        )

    @classmethod
    def execute(
        cls,
        image: Tensor,
        vae: VARestorerVAE,
        upscale: float,
        overlap: int,
        cleaner: Any = None,
        tile_size: str = "auto",
        tile_batch: int = 0,
        size_by: str = "factor",
        megapixels: float = 4.0,
        longer_side: int = 2048,
    ) -> io.NodeOutput:
        upscale = chosen_upscale(image, size_by, upscale, megapixels, longer_side)
        settings = RestoreSettings(upscale=upscale, overlap=overlap, tile_batch=tile_batch)
        stages = HostStages(vae=vae, cleaner=cleaner, tile_size=tile_size)
        return io.NodeOutput(*encode_image(image, stages, settings))
