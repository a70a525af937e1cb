"""Colours of one picture on another, as a node of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import io

from .host.recolor import recolor
from .schema import CATEGORY, setting_input, where_known

if TYPE_CHECKING:
    from torch import Tensor


class ColorMatch(io.ComfyNode):
    """Give a picture the colours of its source."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VARestorerColorMatch",
            display_name="VARestorer Color Match",
            category=CATEGORY,
            description="Gives pictures the colours of others: of what they were made from, after "
            "an upscale model or a sampler shifted them.",
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip="The pictures to change, one or a batch. An alpha channel is kept.",
                ),
                io.Image.Input(
                    "source",
                    tooltip="The pictures whose colours to take: one for all, or one for each. "
                    "Another size is resized (Lanczos) to that of image.",
                ),
                setting_input("color_match", "method"),
            ],
            outputs=[io.Image.Output("image", tooltip="The pictures in their new colours.")],
            **where_known(search_aliases=["color transfer", "colour fix", "wavelet", "adain"]),
        )

    @classmethod
    def execute(cls, image: Tensor, source: Tensor, method: str) -> io.NodeOutput:
        return io.NodeOutput(recolor(image, source, method))
