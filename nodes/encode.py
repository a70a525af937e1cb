"""From a picture to what the transformer reads."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from . import sockets
from .host import stages
from .schema import CATEGORY, expert, tile_batch_input, where_known


class EncodePyramid(io.ComfyNode):
    """Resize, clean, tile, encode, quantise."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VARestorerEncodePyramid",
            display_name="VARestorer Encode Pyramid",
            category=CATEGORY,
            description="Resizes pictures to their final size, cuts them into overlapping "
            "tiles, and encodes each into the bits of a pyramid of scales, coarse to fine.",
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip="The degraded pictures, of any size. Grey becomes RGB; an alpha "
                    "channel is left out.",
                ),
                io.Vae.Input("vae", tooltip="From Load VARestorer VAE."),
                io.Float.Input(
                    "upscale",
                    default=2.0,
                    min=0.25,
                    max=8.0,
                    step=0.05,
                    round=0.001,
                    tooltip="Enlargement, 0.25 to 8 times. The result has exactly round(width x "
                    "upscale) by round(height x upscale) pixels. 1 only restores.",
                ),
                io.Int.Input(
                    "overlap",
                    default=64,
                    min=0,
                    max=512,
                    step=8,
                    tooltip="Pixels that neighbouring tiles share at least, 0 to 512 and less "
                    "than a tile. More hides seams better and takes longer.",
                ),
                io.UpscaleModel.Input(
                    "cleaner",
                    optional=True,
                    tooltip="A model that removes noise and compression first and keeps the "
                    "size, such as general_swinir_v1 from Load Upscale Model. The official "
                    "model expects it; the bundled one does not.",
                ),
                expert(
                    io.Combo.Input,
                    "tile_size",
                    options=list(stages.TILE_SIZES),
                    default="auto",
                    tooltip="Side of a tile in pixels. auto is what the model was trained on: "
                    "512 for the official files, 128 for the bundled ones.",
                ),
                tile_batch_input(),
            ],
            outputs=[
                sockets.Pyramid.Output(
                    "pyramid", tooltip="Bits of all tiles, for VARestorer Restore."
                ),
                io.Image.Output(
                    "prepared",
                    tooltip="The pictures as the model saw them: resized to the final size, and "
                    "cleaned if a cleaner is connected.",
                ),
            ],
            **where_known(search_aliases=["varestorer encode", "lq pyramid", "upscale", "restore"]),
        )

    @classmethod
    def execute(
        cls,
        image: Any,
        vae: Any,
        upscale: float,
        overlap: int,
        cleaner: Any = None,
        tile_size: str = "auto",
        tile_batch: int = 0,
    ) -> io.NodeOutput:
        pyramid, prepared = stages.encode(
            image,
            vae,
            upscale=upscale,
            overlap=overlap,
            tile_size=tile_size,
            tile_batch=tile_batch,
            upscale_model=cleaner,
        )
        return io.NodeOutput(pyramid, prepared)
