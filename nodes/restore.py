"""The one pass of the transformer."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from . import sockets
from .host import stages
from .schema import (
    CATEGORY,
    conditioning_input,
    detail_input,
    fidelity_input,
    seed_input,
    tile_batch_input,
    where_known,
)


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
                sockets.Model.Input(
                    "model", tooltip="The transformer that restores, from Load VARestorer Model."
                ),
                sockets.Pyramid.Input(
                    "pyramid", tooltip="The encoded tiles, from VARestorer Encode Pyramid."
                ),
                seed_input(),
                detail_input(),
                fidelity_input(),
                conditioning_input(),
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
