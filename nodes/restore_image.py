"""The whole restoration in one node."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..varestorer_core.settings import RestoreSettings
from . import sockets
from .host.stages import HostStages, restore_image
from .schema import (
    CATEGORY,
    cleaner_input,
    conditioning_input,
    seed_input,
    setting_input,
    tile_batch_input,
    where_known,
)


class RestoreImage(io.ComfyNode):
    """Picture in, restored picture out."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VARestorerRestoreImage",
            display_name="VARestorer Restore Image",
            category=CATEGORY,
            description="Restores and enlarges pictures in one node: resize, clean, tile, encode, "
            "one pass of the transformer, decode, blend, match colours. With a mask only there.",
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip="The degraded pictures, of any size; a batch, or a list of different "
                    "sizes. Grey becomes RGB; an alpha channel is resized and kept.",
                ),
                sockets.Model.Input(
                    "model", tooltip="The transformer that restores, from Load VARestorer Model."
                ),
                io.Vae.Input(
                    "vae",
                    tooltip="The visual tokenizer that belongs to the model, from Load VARestorer VAE.",
                ),
                setting_input("upscale"),
                seed_input(),
                setting_input("detail"),
                setting_input("fidelity"),
                setting_input("overlap"),
                setting_input("color_match"),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Restores only where the mask is 1; elsewhere the resized source "
                    "stays. Any size, one for all pictures or one each. Tiles that it does not "
                    "touch cost nothing.",
                ),
                setting_input("feather", optional=True),
                conditioning_input(),
                cleaner_input(),
                tile_batch_input(),
            ],
            outputs=[
                io.Image.Output(
                    "image",
                    tooltip="The restored pictures of exactly round(width x upscale) by "
                    "round(height x upscale) pixels; RGBA if the input was.",
                )
            ],
            **where_known(
                search_aliases=[
                    "varestorer",
                    "restore photo",
                    "upscale",
                    "super resolution",
                    "enhance",
                    "deblur",
                    "denoise",
                ]
            ),
        )

    @classmethod
    def execute(
        cls,
        image: Any,
        model: Any,
        vae: Any,
        upscale: float,
        seed: int,
        detail: float,
        fidelity: float,
        overlap: int,
        color_match: str,
        mask: Any = None,
        feather: int = 16,
        conditioning: list | None = None,
        cleaner: Any = None,
        tile_batch: int = 0,
    ) -> io.NodeOutput:
        settings = RestoreSettings(
            upscale, seed, detail, fidelity, overlap, color_match, feather, tile_batch
        )
        stages = HostStages(model=model, vae=vae, conditioning=conditioning, cleaner=cleaner)
        return io.NodeOutput(restore_image(image, stages, settings, mask))
