"""Decoding of codes to pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import io

from ..varestorer_core.settings import RestoreSettings
from .automatic import chosen, color_match_input
from .host.latent import recommended_by_latent
from .host.stages import HostStages, decode_latent
from .schema import CATEGORY, tile_batch_input, where_known

if TYPE_CHECKING:
    from .host.vae import VARestorerVAE


class DecodeTiled(io.ComfyNode):
    """Decode and blend tiles, then match the colours."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VARestorerDecodeTiled",
            display_name="VARestorer Decode (Tiled)",
            category=CATEGORY,
            description="Decodes restored tiles, blends them into pictures of the final size, and "
            "then matches the colours to the source.",
            inputs=[
                io.Latent.Input(
                    "samples",
                    tooltip="Codes from VARestorer Restore Tiles. For other latents of this VAE, "
                    "each sample becomes a separate picture.",
                ),
                io.Vae.Input(
                    "vae",
                    tooltip=("The visual tokenizer used for encoding, from Load VARestorer VAE."),
                ),
                color_match_input(),
                tile_batch_input(),
            ],
            outputs=[
                io.Image.Output("image", tooltip="The restored pictures, RGB, of the final size.")
            ],
            **where_known(search_aliases=["varestorer decode", "tiled vae decode", "color match"]),
        )

    @classmethod
    def execute(
        cls, samples: dict, vae: VARestorerVAE, color_match: str, tile_batch: int = 0
    ) -> io.NodeOutput:
        automatic = chosen(recommended_by_latent(samples), color_match=color_match)
        settings = RestoreSettings(tile_batch=tile_batch, **automatic)
        return io.NodeOutput(decode_latent(samples, HostStages(vae=vae), settings))
