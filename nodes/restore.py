"""The transformer's forward pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import io

from ..varestorer_core.settings import RestoreSettings
from . import sockets
from .automatic import automatic_number, chosen
from .host.adapter import recommended_for
from .host.stages import HostStages, restore_pyramid
from .schema import (
    CATEGORY,
    conditioning_input,
    seed_input,
    tile_batch_input,
    where_known,
)

if TYPE_CHECKING:
    from ..varestorer_core.pipeline import LQPyramid
    from .host.model import ModelPatcher


class Restore(io.ComfyNode):
    """Restore the tiles of an LQ pyramid."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VARestorerRestore",
            display_name="VARestorer Restore Tiles",
            category=CATEGORY,
            description="Restores every tile in one forward pass: the transformer attends across "
            "all scales of the pyramid and predicts the bits of all scales at once.",
            inputs=[
                sockets.Model.Input(
                    "model", tooltip="The transformer that restores, from Load VARestorer Model."
                ),
                sockets.Pyramid.Input(
                    "pyramid", tooltip="The encoded tiles, from VARestorer Encode Pyramid."
                ),
                seed_input(),
                automatic_number("detail"),
                automatic_number("fidelity"),
                conditioning_input(),
                tile_batch_input(),
            ],
            outputs=[
                io.Latent.Output(
                    "samples", tooltip="Codes of every tile, for VARestorer Decode (Tiled)."
                )
            ],
            **where_known(search_aliases=["varestorer stages", "one step", "transformer pass"]),
        )

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        pyramid: LQPyramid,
        seed: int,
        detail: float,
        fidelity: float,
        conditioning: list | None = None,
        tile_batch: int = 0,
    ) -> io.NodeOutput:
        automatic = chosen(recommended_for(model), detail=detail, fidelity=fidelity)
        settings = RestoreSettings(seed=seed, tile_batch=tile_batch, **automatic)
        stages = HostStages(model=model, conditioning=conditioning)
        return io.NodeOutput(restore_pyramid(pyramid, stages, settings))
