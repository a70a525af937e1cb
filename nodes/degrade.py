"""Synthetic degradation of pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import io

from .host.degrading import PRESET_NAMES, degrade_images
from .schema import CATEGORY, fixed_seed, where_known

if TYPE_CHECKING:
    from torch import Tensor


class Degrade(io.ComfyNode):
    """Degrade pictures, like `varestorer degrade`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VARestorerDegrade",
            display_name="VARestorer Degrade",
            category=CATEGORY,
            description="Creates low-quality test pictures from good ones, to test a restoration. "
            "The same seed produces the same pictures as the command varestorer "
            "degrade.",
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip="High-quality pictures: one, a batch, or a list of different sizes. "
                    "Each is degraded with its own random values. An alpha channel is "
                    "resized and kept.",
                ),
                io.Combo.Input(
                    "preset",
                    options=list(PRESET_NAMES),
                    default="x4",
                    tooltip="Kind of degradation. official: the official model's training data; "
                    "real: two rounds of blur, resizing, noise and JPEG; mild: slight; "
                    "social: 2 to 3 times smaller and compressed, as social networks do; "
                    "x4: blur, 4 times smaller, noise, JPEG; rain, low_light, "
                    "salt_and_pepper (white and black pixels), heavy_jpeg and "
                    "motion_blur: only that.",
                ),
                io.Float.Input(
                    "scale",
                    default=1.0,
                    min=1.0,
                    max=8.0,
                    step=0.5,
                    round=0.001,
                    tooltip="How many times smaller the result is, 1 to 8: round(width / scale) "
                    "by round(height / scale) pixels. 1 keeps the size. Affects only the "
                    "size, not the strength of the degradation.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=fixed_seed(),
                    tooltip="Seed of all random values (strength, noise, positions), an integer "
                    "from 0 up. The result of picture i of a batch or list depends only "
                    "on the seed and i.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "image",
                    is_output_list=True,
                    tooltip="The degraded pictures, quantised to 8 bits; RGBA if the input was "
                    "RGBA. A list with as many batches as the input.",
                )
            ],
            # Lists, so that pictures are numbered across batches and no two are degraded alike.
            is_input_list=True,
            **where_known(
                search_aliases=[
                    "degradation",
                    "add blur",
                    "add noise",
                    "damage picture",
                    "rain",
                    "salt and pepper",
                    "test picture",
                ]
            ),
        )

    @classmethod
    def execute(
        cls, image: list[Tensor], preset: list[str], scale: list[float], seed: list[int]
    ) -> io.NodeOutput:
        return io.NodeOutput(degrade_images(image, preset, scale, seed))
