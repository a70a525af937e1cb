"""Colour matching as a separate node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import io

from .host.recolor import recolor
from .schema import CATEGORY, setting_input, where_known

if TYPE_CHECKING:
    from torch import Tensor


class ColorMatch(io.ComfyNode):
    """Apply the colours of one picture to another."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VARestorerColorMatch",
            display_name="VARestorer Color Match",
            category=CATEGORY,
            description="Applies the colours of one picture to another, for example after an "
            "upscale model or a sampler shifted them.",
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip="The pictures to recolour, one or a batch. An alpha channel is kept.",
                ),
                io.Image.Input(
                    "source",
                    tooltip="The pictures that provide the colours: one for all, or one for each. "
                    "They are resized (Lanczos) to the size of image.",
                ),
                setting_input("color_match", "method"),
            ],
            outputs=[io.Image.Output("image", tooltip="The recoloured pictures.")],
            **where_known(search_aliases=["color transfer", "colour fix", "wavelet", "adain"]),
        )

    @classmethod
    def execute(cls, image: Tensor, source: Tensor, method: str) -> io.NodeOutput:
        return io.NodeOutput(recolor(image, source, method))
