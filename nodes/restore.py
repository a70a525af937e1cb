"""The one pass of the transformer."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from . import sockets
from .host import stages
from .schema import CATEGORY, tile_batch_input, where_known


class Restore(io.ComfyNode):
    """LQ pyramid in, codes of the restored tiles out."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VARestorerRestore",
            display_name="VARestorer Restore",
            category=CATEGORY,
            description="Restores every tile in one pass: all scales of the pyramid see each "
            "other, and the bits of all scales of the restored tile come out at once.",
            inputs=[
                sockets.Model.Input("model", tooltip="From Load VARestorer Model."),
                sockets.Pyramid.Input("pyramid", tooltip="From VARestorer Encode Pyramid."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="Seed of the sampling noise. The same seed gives the same noise on every "
                    "device. Has no effect while detail is 0.",
                ),
                io.Float.Input(
                    "detail",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    round=0.001,
                    tooltip="Strength of the sampling noise, 0 to 1. 0 takes the most likely "
                    "bits: calm and repeatable. 1 samples as the official code does: more "
                    "texture, less faithful.",
                ),
                io.Float.Input(
                    "fidelity",
                    default=0.0,
                    min=0.0,
                    max=20.0,
                    step=0.1,
                    round=0.001,
                    tooltip="Pull of every bit towards the input's, in log-odds, 0 to 20. 0 leaves "
                    "the model alone; 1 to 4 calm an inventive one; 20 returns the input as the VAE "
                    "sees it.",
                ),
                io.Conditioning.Input(
                    "conditioning",
                    optional=True,
                    tooltip="A description of the picture, from CLIP Text Encode with Load "
                    "VARestorer Text Encoder. Without it the model uses what it has learned for "
                    "no prompt.",
                ),
                tile_batch_input(),
            ],
            outputs=[
                io.Latent.Output(
                    "samples", tooltip="Codes of every tile, for VARestorer Decode (Tiled)."
                )
            ],
            **where_known(
                search_aliases=[
                    "varestorer",
                    "restore photo",
                    "super resolution",
                    "one step",
                    "sharpen",
                ]
            ),
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        pyramid: Any,
        seed: int,
        detail: float,
        fidelity: float,
        conditioning: list | None = None,
        tile_batch: int = 0,
    ) -> io.NodeOutput:
        samples = stages.restore(
            model,
            pyramid,
            conditioning,
            seed=seed,
            detail=detail,
            fidelity=fidelity,
            tile_batch=tile_batch,
        )
        return io.NodeOutput(samples)
