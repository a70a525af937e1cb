"""The loaders: transformer, visual tokenizer, text encoder, adapter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import io

from ..varestorer_core.official_files import FLAN_T5_XL, INFINITY_2B, TOKENIZER, VARESTORER
from . import sockets
from .host import files
from .host.adapter import ADAPTER_FOLDER, BUNDLED_ADAPTERS, clone_with_adapter, recommendation_text
from .host.model import MODEL_FOLDER, WEIGHT_DTYPES, load_model
from .host.notices import remark
from .host.text_encoder import TEXT_ENCODER_FOLDER, load_clip
from .host.vae import BUNDLED_VAES, VAE_FOLDER, load_vae
from .schema import CATEGORY, expert, where_known

if TYPE_CHECKING:
    from .host.model import ModelPatcher


class LoadModel(io.ComfyNode):
    """Load the one-step transformer."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VARestorerLoadModel",
            display_name="Load VARestorer Model",
            category=CATEGORY,
            description="Loads the transformer that restores a picture in one pass: the official "
            "file, a converted .safetensors, or the tiny model included in the pack.",
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=files.file_names(MODEL_FOLDER, VARESTORER, bundled=(files.BUNDLED,)),
                    default=files.BUNDLED,
                    tooltip="A file in models/diffusion_models. Files are identified by content, "
                    "not by name. The bundled tiny model needs no download and is for "
                    f"trying the nodes; the official model is {VARESTORER.source}.",
                ),
                expert(
                    io.Combo.Input,
                    "weight_dtype",
                    options=list(WEIGHT_DTYPES),
                    default="default",
                    tooltip="Dtype of the weights. default: chosen for the device. bf16 halves "
                    "the memory of fp32, and the model was trained in it; fp16 is for "
                    "GPUs without bf16 and may overflow; fp8_e4m3fn halves the memory of "
                    "bf16 and is less precise.",
                ),
                expert(
                    io.Boolean.Input,
                    "compile",
                    default=False,
                    tooltip="Compiles the model, and in VARestorer Restore & Upscale also the VAE, "
                    "with torch.compile: the first tiles take a minute or more longer, all others "
                    "less. Needs an NVIDIA GPU of compute capability 7.0 or newer with Triton, or a "
                    "C++ compiler on a CPU.",
                ),
            ],
            outputs=[
                sockets.Model.Output(
                    "model",
                    tooltip="The transformer, for VARestorer Restore & Upscale. Not a diffusion model.",
                )
            ],
            **where_known(search_aliases=["varestorer", "restoration model", "super resolution"]),
        )

    @classmethod
    def validate_inputs(cls, model_name: str | None = None) -> bool | str:
        return (
            files.missing_reason(MODEL_FOLDER, model_name, VARESTORER, bundled=(files.BUNDLED,))
            or True
        )

    @classmethod
    def execute(
        cls,
        model_name: str,
        weight_dtype: str = "default",
        compile: bool = False,  # noqa: A002 (the input's name)
    ) -> io.NodeOutput:
        return io.NodeOutput(load_model(model_name, weight_dtype, compiling=compile))


class LoadVAE(io.ComfyNode):
    """Load the visual tokenizer."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VARestorerLoadVAE",
            display_name="Load VARestorer VAE",
            category=CATEGORY,
            description="Loads the visual tokenizer, which encodes pictures into bits and decodes "
            "them, as a VAE that also works with the native VAE nodes.",
            inputs=[
                io.Combo.Input(
                    "vae_name",
                    options=files.file_names(VAE_FOLDER, TOKENIZER, bundled=tuple(BUNDLED_VAES)),
                    default=files.BUNDLED,
                    tooltip="A file in models/vae. It must match the model: use the bundled VAEs "
                    f"with the bundled model, {TOKENIZER.source} with the official one. The crisp one "
                    "makes sharper pictures, with more invented detail.",
                ),
            ],
            outputs=[
                io.Vae.Output(
                    "vae",
                    tooltip="The tokenizer. Its latents are codes for VARestorer, not for "
                    "KSampler.",
                )
            ],
            **where_known(
                search_aliases=["varestorer vae", "visual tokenizer", "infinity vae", "bsq"]
            ),
        )

    @classmethod
    def validate_inputs(cls, vae_name: str | None = None) -> bool | str:
        return (
            files.missing_reason(VAE_FOLDER, vae_name, TOKENIZER, bundled=tuple(BUNDLED_VAES))
            or True
        )

    @classmethod
    def execute(cls, vae_name: str) -> io.NodeOutput:
        return io.NodeOutput(load_vae(vae_name))


class LoadTextEncoder(io.ComfyNode):
    """Load the text encoder, flan-t5-xl."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VARestorerLoadTextEncoder",
            display_name="Load VARestorer Text Encoder",
            category=CATEGORY,
            description="Loads flan-t5-xl as a CLIP for the native CLIP Text Encode node. Only "
            "needed for prompts; without one, the model uses its learned "
            "unconditional embedding.",
            inputs=[
                io.Combo.Input(
                    "clip_name",
                    options=files.file_names(TEXT_ENCODER_FOLDER, FLAN_T5_XL),
                    tooltip=f"A file in models/text_encoders: {FLAN_T5_XL.source}. For a sharded "
                    "model, choose any shard; the others are read from the same folder. "
                    "The native CLIP loader mistakes this file for another model, so use "
                    "this node.",
                ),
            ],
            outputs=[
                io.Clip.Output("clip", tooltip="The text encoder, for CLIP Text Encode (Prompt).")
            ],
            **where_known(search_aliases=["flan t5", "t5 xl", "varestorer clip", "prompt"]),
        )

    @classmethod
    def validate_inputs(cls, clip_name: str | None = None) -> bool | str:
        return files.missing_reason(TEXT_ENCODER_FOLDER, clip_name, FLAN_T5_XL) or True

    @classmethod
    def execute(cls, clip_name: str) -> io.NodeOutput:
        return io.NodeOutput(load_clip(clip_name))


class LoadAdapter(io.ComfyNode):
    """Add a low-rank adapter to a loaded transformer."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VARestorerLoadAdapter",
            display_name="Load VARestorer Adapter",
            category=CATEGORY,
            description="Adds a low-rank adapter (LoRA) to a loaded VARestorer model, with a "
            f"strength. Also reads the adapter inside {VARESTORER.name}. Chain several "
            "nodes to combine adapters. Settings that an adapter recommends are used by nodes that "
            "are set to automatic.",
            inputs=[
                sockets.Model.Input(
                    "model",
                    tooltip="From Load VARestorer Model: the base that the adapter was trained "
                    f"on, such as {INFINITY_2B.name}. {VARESTORER.name} already contains "
                    "its adapter.",
                ),
                io.Combo.Input(
                    "adapter_name",
                    options=files.file_names(
                        ADAPTER_FOLDER, VARESTORER, bundled=tuple(BUNDLED_ADAPTERS)
                    ),
                    tooltip="A bundled adapter, each for one kind of damage and for the bundled "
                    "model; an adapter in models/loras, such as those written by varestorer "
                    "distill, or a file in models/diffusion_models that contains an "
                    f"adapter, such as {VARESTORER.name}. LoRAs for diffusion models are "
                    "not compatible.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    round=0.001,
                    tooltip="Strength of the adapter, 0 to 2. 0 is exactly the input model, 1 the "
                    "adapter as trained; higher values exaggerate it.",
                ),
            ],
            outputs=[
                sockets.Model.Output(
                    "model", tooltip="The adapted transformer. The input model is unchanged."
                )
            ],
            **where_known(search_aliases=["varestorer lora", "lora", "adapter", "student"]),
        )

    @classmethod
    def validate_inputs(cls, adapter_name: str | None = None) -> bool | str:
        return (
            files.missing_reason(
                ADAPTER_FOLDER, adapter_name, VARESTORER, bundled=tuple(BUNDLED_ADAPTERS)
            )
            or True
        )

    @classmethod
    def execute(cls, model: ModelPatcher, adapter_name: str, strength: float) -> io.NodeOutput:
        adapted = clone_with_adapter(model, adapter_name, strength)
        recommended = recommendation_text(adapted)
        if not recommended:
            return io.NodeOutput(adapted)
        return io.NodeOutput(adapted, ui=remark(f"Automatic settings: {recommended}"))
