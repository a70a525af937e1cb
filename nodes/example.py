"""Example pictures, so that a workflow runs before the user has chosen a picture."""

from __future__ import annotations

from comfy_api.latest import io

from ..varestorer_core.assets import DEMO_LQ, DEMO_ORIGINAL
from .host.images import read_asset
from .schema import CATEGORY, where_known

PICTURES = {"degraded": DEMO_LQ, "original": DEMO_ORIGINAL}


class ExampleImage(io.ComfyNode):
    """Load a bundled picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VARestorerExampleImage",
            display_name="VARestorer Example Picture",
            category=CATEGORY,
            description="Loads an example picture included in the pack, so workflows run without "
            "downloads. Replace it with Load Image to restore your own picture.",
            inputs=[
                io.Combo.Input(
                    "picture",
                    options=list(PICTURES),
                    default="degraded",
                    tooltip="degraded: small, blurred and compressed; restore this one. original: "
                    "the same picture before degradation, for comparison.",
                ),
            ],
            outputs=[io.Image.Output("image", tooltip="One RGB picture.")],
            **where_known(search_aliases=["varestorer demo", "sample image", "test picture"]),
        )

    @classmethod
    def execute(cls, picture: str) -> io.NodeOutput:
        return io.NodeOutput(read_asset(PICTURES[picture]))
