"""Text-to-image generation with the teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import io

from . import sockets
from .host.generation import PIXELS, RATIO_NAMES, generate_latent
from .schema import CATEGORY, expert, fixed_seed, where_known

if TYPE_CHECKING:
    from .host.model import ModelPatcher


class Generate(io.ComfyNode):
    """Generate pictures scale by scale, coarse to fine."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VARestorerGenerate",
            display_name="VARestorer Generate",
            category=CATEGORY,
            description="Generates pictures from text, scale by scale, with the multi-step model "
            "that VARestorer was distilled from. Needs its weights, "
            "infinity_2b_reg.pth; restoration weights are not suitable.",
            inputs=[
                sockets.Model.Input(
                    "model",
                    tooltip="From Load VARestorer Model: infinity_2b_reg.pth, with or without an "
                    "adapter at strength 0. varestorer.pth and the bundled model are "
                    "trained to restore, and produce only texture here.",
                ),
                io.Combo.Input(
                    "ratio",
                    options=list(RATIO_NAMES),
                    default="1:1",
                    tooltip=(
                        "Aspect ratio (width : height) of the picture, one of those the model "
                        "was trained on."
                    ),
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=fixed_seed(),
                    tooltip="Random seed, an integer from 0 up; picture i of a batch uses seed + "
                    "i. Results are the same on every device up to rounding.",
                ),
                io.Float.Input(
                    "cfg",
                    default=3.0,
                    min=1.0,
                    max=20.0,
                    step=0.1,
                    round=0.01,
                    tooltip="Classifier-free guidance scale, 1 to 20. 1 disables guidance and "
                    "takes half the time; 3 to 5 is typical; higher values increase "
                    "contrast and reduce variety.",
                ),
                io.Float.Input(
                    "tau",
                    default=0.5,
                    min=0.05,
                    max=2.0,
                    step=0.05,
                    round=0.001,
                    tooltip="Sampling temperature, 0.05 to 2. 1 is the model's own distribution; "
                    "lower values are cleaner and less varied.",
                ),
                io.Float.Input(
                    "top_p",
                    default=0.97,
                    min=0.5,
                    max=1.0,
                    step=0.01,
                    round=0.001,
                    tooltip="Nucleus sampling, 0.5 to 1: the less likely value of a bit is "
                    "dropped if the other has at least this probability. 1 drops none, "
                    "0.5 always uses the likelier value.",
                ),
                io.Int.Input(
                    "batch_size",
                    default=1,
                    min=1,
                    max=64,
                    tooltip="Number of pictures, 1 to 64, generated one after the other.",
                ),
                io.Conditioning.Input(
                    "conditioning",
                    optional=True,
                    tooltip="The prompt, from CLIP Text Encode with Load VARestorer Text Encoder. "
                    "Without it, generation is unconditional.",
                ),
                io.Conditioning.Input(
                    "negative",
                    optional=True,
                    tooltip="The negative prompt, from the same text encoder. Without it, the "
                    "model's learned unconditional embedding is used. No effect at cfg 1.",
                ),
                expert(
                    io.Combo.Input,
                    "pixels",
                    options=list(PIXELS),
                    default="auto",
                    tooltip="Approximate number of pixels of the picture at 16 pixels per token: "
                    "0.06M is 256 x 256, 0.25M 512 x 512, 0.60M 768 x 768, 1M 1024 x "
                    "1024. auto is the size at which the model restores.",
                ),
                expert(
                    io.Int.Input,
                    "top_k",
                    default=0,
                    min=0,
                    max=2,
                    tooltip="Number of values of a bit to sample from, 0 to 2: 1 always uses the "
                    "likelier value, so the seed has no effect; 0 and 2 sample from both.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    "samples",
                    tooltip="Codes for VAE Decode with the VAE of Load VARestorer VAE.",
                )
            ],
            **where_known(
                search_aliases=["infinity", "text to image", "varestorer generate", "teacher"]
            ),
        )

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        ratio: str,
        seed: int,
        cfg: float,
        tau: float,
        top_p: float,
        batch_size: int,
        conditioning: list | None = None,
        negative: list | None = None,
        pixels: str = "auto",
        top_k: int = 0,
    ) -> io.NodeOutput:
        samples = generate_latent(
            model,
            conditioning,
            negative,
            ratio=ratio,
            pixels=pixels,
            cfg=cfg,
            tau=tau,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
            batch_size=batch_size,
        )
        return io.NodeOutput(samples)
