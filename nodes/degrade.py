"""Low-quality test pictures from good ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import io

from .host.degrading import PRESET_NAMES, degrade_images
from .schema import CATEGORY, fixed_seed, where_known

if TYPE_CHECKING:
    from torch import Tensor


class Degrade(io.ComfyNode):
    """What `varestorer degrade` does."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VARestorerDegrade",
            display_name="VARestorer Degrade",
            category=CATEGORY,
            description="Makes low-quality test pictures from good ones, to see what a restoration "
            "gives back. The same seed gives the same pictures as the command varestorer degrade.",
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip="Good pictures: one, a batch, or a list of different sizes. Each is "
                    "damaged in its own way. An alpha channel is resized and kept.",
                ),
                io.Combo.Input(
                    "preset",
                    options=list(PRESET_NAMES),
                    default="x4",
                    tooltip="Kind of damage. official: what the official model was trained on; "
                    "real: two rounds of everything; mild: slight; social: 2 to 3 times smaller and "
                    "compressed, as social networks do; x4: blur, 4 times smaller, noise, JPEG; "
                    "rain, low_light, salt_and_pepper (white and black pixels), heavy_jpeg and "
                    "motion_blur: that alone.",
                ),
                io.Float.Input(
                    "scale",
                    default=1.0,
                    min=1.0,
                    max=8.0,
                    step=0.5,
                    round=0.001,
                    tooltip="How many times smaller the result is, 1 to 8: round(width / scale) by "
                    "round(height / scale) pixels. 1 keeps the size. Changes the size, not how "
                    "strong the damage is.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=fixed_seed(),
                    tooltip="Seed of all that is drawn (strength, noise, places), a whole number from "
                    "0 up. Picture i of a batch or list draws by seed and i, whatever else is in "
                    "it.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "image",
                    is_output_list=True,
                    tooltip="The degraded pictures, in values of 8 bits; RGBA if the input was. A "
                    "list of as many batches as came in.",
                )
            ],
            # As lists, so that pictures count through them and no two are damaged alike.
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
