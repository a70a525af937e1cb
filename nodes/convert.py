"""Official files to safetensors, without a command line."""

from __future__ import annotations

from comfy_api.latest import io

from ..varestorer_core.official_files import official_file
from ..varestorer_core.wording import shown
from .host.converting import DTYPES, convert_file, convertible_files, locate
from .schema import CATEGORY, expert, where_known


class ConvertModel(io.ComfyNode):
    """What `varestorer convert` does."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VARestorerConvertModel",
            display_name="VARestorer Convert Model",
            category=CATEGORY,
            description="Writes an official file (.pth, .ckpt) as .safetensors into the folder it came "
            "from: half the size, faster to load, and safe to pass on. The original stays.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=convertible_files(),
                    tooltip="The file to convert, with its folder of models. Files that are safetensors "
                    "already are not listed.",
                ),
                io.Combo.Input(
                    "part",
                    options=["model", "adapter"],
                    default="model",
                    tooltip="What to write. model: everything, into the folder of the file; adapter: only "
                    "the adapter that is inside, into models/loras, for Load VARestorer Adapter.",
                ),
                expert(
                    io.Combo.Input,
                    "dtype",
                    options=list(DTYPES),
                    default="auto",
                    tooltip="Number type of the weights. auto: bf16 for transformers and adapters, keep for "
                    "the others; bf16 and fp16 halve fp32; keep: as they are.",
                ),
            ],
            outputs=[
                io.String.Output("written", tooltip="Folder and name of the file that was written.")
            ],
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
    def execute(cls, file: str, part: str, dtype: str = "auto") -> io.NodeOutput:
        written = convert_file(file, dtype, adapter_only=part == "adapter")
        return io.NodeOutput(written, ui={"varestorer_notice": [f"Written: models/{written}"]})
