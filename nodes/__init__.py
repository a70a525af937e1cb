"""The nodes of the pack, and the entry point for ComfyUI."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .color_match import ColorMatch
from .compare import Compare
from .convert import ConvertModel
from .decode import DecodeTiled
from .degrade import Degrade
from .encode import EncodePyramid
from .example import ExampleImage
from .generate import Generate
from .host.error_names import shorten_error_names
from .loaders import LoadAdapter, LoadModel, LoadTextEncoder, LoadVAE
from .restore import Restore
from .restore_image import RestoreImage


class VARestorerExtension(ComfyExtension):
    """All nodes of the pack."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Return the node classes in workflow order."""
        return [
            ExampleImage,
            Degrade,
            LoadModel,
            LoadVAE,
            LoadTextEncoder,
            LoadAdapter,
            RestoreImage,
            EncodePyramid,
            Restore,
            DecodeTiled,
            ColorMatch,
            Compare,
            Generate,
            ConvertModel,
        ]


async def comfy_entrypoint() -> VARestorerExtension:
    """Return the extension."""
    shorten_error_names()
    return VARestorerExtension()
