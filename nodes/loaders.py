"""The loaders: transformer, visual tokenizer, text encoder, adapter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import io

from ..varestorer_core.official_files import FLAN_T5_XL, INFINITY_2B, TOKENIZER, VARESTORER
from . import sockets
from .host import files
from .host.adapter import ADAPTER_FOLDER, apply_adapter
from .host.model import MODEL_FOLDER, WEIGHT_DTYPES, load_model
from .host.text_encoder import TEXT_ENCODER_FOLDER, load_text_encoder
from .host.vae import VAE_FOLDER, load_vae
from .schema import CATEGORY, expert, where_known

if TYPE_CHECKING:
    from .host.model import ModelPatcher


class LoadModel(io.ComfyNode):
    """The one-step transformer."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VARestorerLoadModel",
            display_name="Load VARestorer Model",
            category=CATEGORY,
            description="Loads the transformer that restores a picture in one pass: the "
            "official file, a converted .safetensors, or the tiny model that comes with the "
            "pack.",
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=files.file_names(MODEL_FOLDER, VARESTORER, bundled=True),
                    default=files.BUNDLED,
                    tooltip="A file of models/diffusion_models. Its content decides what it is, "
                    "not its name. The bundled tiny model needs no download and shows how "
                    f"things work; for real quality use {VARESTORER.source}.",
                ),
                expert(
                    io.Combo.Input,
                    "weight_dtype",
                    options=list(WEIGHT_DTYPES),
                    default="default",
                    tooltip="Number type of the weights. default: what suits the device. bf16 "
                    "halves the memory of fp32 and is what the model was trained in; fp16 is "
                    "for cards without bf16 and may overflow; fp8_e4m3fn halves the memory of bf16 "
                    "and costs some precision.",
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
        return files.missing_reason(MODEL_FOLDER, model_name, VARESTORER, bundled=True) or True

    @classmethod
    def execute(cls, model_name: str, weight_dtype: str = "default") -> io.NodeOutput:
        return io.NodeOutput(load_model(model_name, weight_dtype))


class LoadVAE(io.ComfyNode):
    """The visual tokenizer."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VARestorerLoadVAE",
            display_name="Load VARestorer VAE",
            category=CATEGORY,
            description="Loads the visual tokenizer that turns pictures into bits and back, as "
            "a VAE that the native VAE nodes work on too.",
            inputs=[
                io.Combo.Input(
                    "vae_name",
                    options=files.file_names(VAE_FOLDER, TOKENIZER, bundled=True),
                    default=files.BUNDLED,
                    tooltip="A file of models/vae. It must belong to the model: the bundled one "
                    f"to the bundled model, {TOKENIZER.source} to the official model.",
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
        return files.missing_reason(VAE_FOLDER, vae_name, TOKENIZER, bundled=True) or True

    @classmethod
    def execute(cls, vae_name: str) -> io.NodeOutput:
        return io.NodeOutput(load_vae(vae_name))


class LoadTextEncoder(io.ComfyNode):
    """flan-t5-xl."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VARestorerLoadTextEncoder",
            display_name="Load VARestorer Text Encoder",
            category=CATEGORY,
            description="Loads flan-t5-xl as a CLIP for the native CLIP Text Encode node. Only "
            "needed for prompts; without one the model uses what it has learned for no prompt.",
            inputs=[
                io.Combo.Input(
                    "clip_name",
                    options=files.file_names(TEXT_ENCODER_FOLDER, FLAN_T5_XL),
                    tooltip=f"A file of models/text_encoders: {FLAN_T5_XL.source}. Of a split model "
                    "choose any part; the others are read from the same folder. The native CLIP "
                    "loader takes this file for another model, so use this node.",
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
        return io.NodeOutput(load_text_encoder(clip_name))


class LoadAdapter(io.ComfyNode):
    """A low-rank adapter on a loaded transformer."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VARestorerLoadAdapter",
            display_name="Load VARestorer Adapter",
            category=CATEGORY,
            description="Adds a low-rank adapter (LoRA) to a loaded VARestorer model, with a "
            f"strength. Reads it out of {VARESTORER.name}, too. Several in a row add up.",
            inputs=[
                sockets.Model.Input(
                    "model",
                    tooltip="From Load VARestorer Model: the base that the adapter was trained "
                    f"on, such as {INFINITY_2B.name}. {VARESTORER.name} holds its adapter already.",
                ),
                io.Combo.Input(
                    "adapter_name",
                    options=files.file_names(ADAPTER_FOLDER, VARESTORER),
                    tooltip="An adapter in models/loras, such as varestorer distill writes, or a file of "
                    f"models/diffusion_models with an adapter inside, such as {VARESTORER.name}. LoRAs "
                    "of diffusion models do not fit.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    round=0.001,
                    tooltip="How much of the adapter, 0 to 2. 0 is exactly the model as it came, "
                    "1 the adapter as it was trained; more exaggerates it.",
                ),
            ],
            outputs=[
                sockets.Model.Output(
                    "model", tooltip="The adapted transformer. The one that came in stays as it is."
                )
            ],
            **where_known(search_aliases=["varestorer lora", "lora", "adapter", "student"]),
        )

    @classmethod
    def validate_inputs(cls, adapter_name: str | None = None) -> bool | str:
        return files.missing_reason(ADAPTER_FOLDER, adapter_name, VARESTORER) or True

    @classmethod
    def execute(cls, model: ModelPatcher, adapter_name: str, strength: float) -> io.NodeOutput:
        return io.NodeOutput(apply_adapter(model, adapter_name, strength))
