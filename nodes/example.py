"""A picture to try things on, so that a workflow runs before the user has chosen one."""

from __future__ import annotations

from comfy_api.latest import io

from ..varestorer_core.assets import DEMO_LQ, DEMO_ORIGINAL
from .host.images import read_asset
from .schema import CATEGORY, where_known

PICTURES = {"degraded": DEMO_LQ, "original": DEMO_ORIGINAL}


class ExampleImage(io.ComfyNode):
    """The pictures that come with the pack."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VARestorerExampleImage",
            display_name="VARestorer Example Picture",
            category=CATEGORY,
            description="A picture that comes with the pack, so that a workflow runs at once. "
            "Replace it with Load Image to restore your own.",
            inputs=[
                io.Combo.Input(
                    "picture",
                    options=list(PICTURES),
                    default="degraded",
                    tooltip="degraded: small, blurred and compressed, to be restored. original: "
                    "the same picture before the damage, to compare with.",
                ),
            ],
            outputs=[io.Image.Output("image", tooltip="One RGB picture.")],
            **where_known(search_aliases=["varestorer demo", "sample image", "test picture"]),
        )

    @classmethod
    def execute(cls, picture: str) -> io.NodeOutput:
        return io.NodeOutput(read_asset(PICTURES[picture]))
