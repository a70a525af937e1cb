"""The whole restoration in one node."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from . import sockets
from .host.whole import restore_image
from .schema import (
    CATEGORY,
    cleaner_input,
    color_match_input,
    conditioning_input,
    detail_input,
    fidelity_input,
    overlap_input,
    seed_input,
    tile_batch_input,
    upscale_input,
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
                upscale_input(),
                seed_input(),
                detail_input(),
                fidelity_input(),
                overlap_input(),
                color_match_input(),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Restores only where the mask is 1; elsewhere the resized source "
                    "stays. Any size, one for all pictures or one each. Tiles that it does not "
                    "touch cost nothing.",
                ),
                io.Int.Input(
                    "feather",
                    default=16,
                    min=0,
                    max=512,
                    optional=True,
                    tooltip="Soft edge of the mask: how far it reaches to either side, in output "
                    "pixels, 0 to 512. Has no effect without a mask.",
                ),
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
        restored = restore_image(
            image,
            model,
            vae,
            upscale=upscale,
            overlap=overlap,
            seed=seed,
            detail=detail,
            fidelity=fidelity,
            color_match=color_match,
            mask=mask,
            feather=feather,
            conditioning=conditioning,
            upscale_model=cleaner,
            tile_batch=tile_batch,
        )
        return io.NodeOutput(restored)
