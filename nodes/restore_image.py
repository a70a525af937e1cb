"""The whole restoration in one node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ..varestorer_core.settings import RestoreSettings
from . import sockets
from .automatic import automatic_number, chosen, color_match_input
from .host.adapter import recommended_for
from .host.notices import EMPTY_MASK, notice
from .host.stages import HostStages, restore_image
from .schema import (
    CATEGORY,
    chosen_upscale,
    cleaner_input,
    conditioning_input,
    seed_input,
    setting_input,
    size_inputs,
    tile_batch_input,
    where_known,
)

if TYPE_CHECKING:
    from torch import Tensor

    from .host.model import ModelPatcher
    from .host.vae import VARestorerVAE


class RestoreImage(io.ComfyNode):
    """Restore pictures."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VARestorerRestoreImage",
            display_name="VARestorer Restore & Upscale",
            category=CATEGORY,
            description="Restores and upscales photos in one node: removes blur, noise and JPEG "
            "artifacts from low-quality pictures and enlarges them (super "
            "resolution). Optionally restores only a masked region.",
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip="The degraded pictures, of any size; a batch, or a list of different "
                    "sizes. Grey pictures become RGB; an alpha channel is resized and "
                    "kept.",
                ),
                sockets.Model.Input(
                    "model", tooltip="The transformer that restores, from Load VARestorer Model."
                ),
                io.Vae.Input(
                    "vae",
                    tooltip=(
                        "The visual tokenizer that matches the model, from Load VARestorer VAE."
                    ),
                ),
                setting_input("upscale"),
                seed_input(),
                automatic_number("detail"),
                automatic_number("fidelity"),
                setting_input("overlap"),
                color_match_input(),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Restores only where the mask is 1; elsewhere the resized source is "
                    "kept. Any size, one for all pictures or one for each. Tiles outside "
                    "the mask are skipped.",
                ),
                setting_input("feather", optional=True),
                conditioning_input(),
                cleaner_input(),
                tile_batch_input(),
                *size_inputs(),
            ],
            outputs=[
                io.Image.Output(
                    "image",
                    tooltip="The restored pictures, in exactly the size that upscale or size_by "
                    "sets; RGBA if the input was RGBA.",
                )
            ],
            **where_known(
                search_aliases=[
                    "varestorer",
                    "upscale",
                    "super resolution",
                    "enhance",
                    "enlarge",
                    "restore photo",
                    "old photo",
                    "image restoration",
                    "deblur",
                    "unblur",
                    "denoise",
                    "jpeg",
                    "artifact",
                    "compression",
                    "low quality",
                    "face",
                    "SeedVR2",
                    "SUPIR",
                ]
            ),
        )

    @classmethod
    def execute(
        cls,
        image: Tensor,
        model: ModelPatcher,
        vae: VARestorerVAE,
        upscale: float,
        seed: int,
        detail: float,
        fidelity: float,
        overlap: int,
        color_match: str,
        mask: Tensor | None = None,
        feather: int = 16,
        conditioning: list | None = None,
        cleaner: Any = None,
        tile_batch: int = 0,
        size_by: str = "factor",
        megapixels: float = 4.0,
        longer_side: int = 2048,
    ) -> io.NodeOutput:
        upscale = chosen_upscale(image, size_by, upscale, megapixels, longer_side)
        automatic = chosen(
            recommended_for(model), detail=detail, fidelity=fidelity, color_match=color_match
        )
        settings = RestoreSettings(
            upscale, seed, overlap=overlap, feather=feather, tile_batch=tile_batch, **automatic
        )
        stages = HostStages(model=model, vae=vae, conditioning=conditioning, cleaner=cleaner)
        restored = restore_image(image, stages, settings, mask)
        if mask is not None and not bool((mask > 0).any()):
            return io.NodeOutput(restored, ui=notice(EMPTY_MASK))
        return io.NodeOutput(restored)
