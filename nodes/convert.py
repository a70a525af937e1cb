"""Conversion of official files to safetensors."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..varestorer_core.official_files import official_file
from ..varestorer_core.wording import shown
from .host.converting import DTYPES, conversion_state, convert_file, convertible_files, locate
from .schema import CATEGORY, expert, where_known


class ConvertModel(io.ComfyNode):
    """Convert a model file, like `varestorer convert`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VARestorerConvertModel",
            display_name="VARestorer Convert Model",
            category=CATEGORY,
            description="Converts an official file (.pth, .ckpt) to .safetensors, a format that "
            "cannot contain code. Transformers and adapters are written in bf16, half the "
            "size of fp32. The original file is kept.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=convertible_files(),
                    tooltip="The file to convert, with its model folder. Safetensors files are "
                    "not listed.",
                ),
                io.Combo.Input(
                    "part",
                    options=["model", "adapter"],
                    default="model",
                    tooltip="What to write. model: the whole model, into the folder of the file; "
                    "adapter: only the adapter that the file contains, into models/loras, "
                    "for Load VARestorer Adapter.",
                ),
                expert(
                    io.Combo.Input,
                    "dtype",
                    options=list(DTYPES),
                    default="auto",
                    tooltip="Dtype of the weights. auto: bf16 for transformers and adapters, keep "
                    "for other files; bf16 and fp16: half the size of fp32; keep: "
                    "unchanged.",
                ),
            ],
            outputs=[io.String.Output("written", tooltip="Folder and name of the new file.")],
            is_output_node=True,
            **where_known(search_aliases=["convert pth", "safetensors", "extract adapter"]),
        )

    @classmethod
    def validate_inputs(cls, file: str | None = None) -> bool | str:
        if file is None or locate(file):
            return True
        if not isinstance(file, str):  # what scripts send is not checked by the host
            return f"The name of a file of the models folder was expected, got {shown(file)}. Choose one in the menu."
        known = official_file(file)
        source = f" ({known.source})" if known else ""
        return f"{file!r} is not in the models folder{source}. Put it there and press R to refresh the menus."

    @classmethod
    def fingerprint_inputs(cls, file: str | None = None, part: str | None = None, **_: Any) -> str:
        """Run again, instead of an answer from the cache, if the written file was deleted."""
        return conversion_state(file, adapter_only=part == "adapter")

    @classmethod
    def execute(cls, file: str, part: str, dtype: str = "auto") -> io.NodeOutput:
        written = convert_file(file, dtype, adapter_only=part == "adapter")
        return io.NodeOutput(written, ui={"varestorer_notice": [f"Written: models/{written}"]})
