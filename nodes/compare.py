"""Comparison of two pictures: slider and metrics."""

from __future__ import annotations

import torch
from comfy_api.latest import io, ui
from torch import Tensor

from .host.images import to_pictures
from .host.scores import describe
from .schema import CATEGORY, where_known


class Compare(io.ComfyNode):
    """Before and after; the slider itself is web/js/compare.js."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VARestorerCompare",
            display_name="VARestorer Compare",
            category=CATEGORY,
            description="Compares two pictures with a slider, and measures how close the second "
            "one is to the original, or to the first if their sizes match.",
            inputs=[
                io.Image.Input(
                    "image_a",
                    tooltip="Left of the slider: the picture before. You can page through a batch.",
                ),
                io.Image.Input(
                    "image_b",
                    tooltip="Right of the slider: the picture after. If the sizes differ, the "
                    "first picture is shown at the size of this one.",
                ),
                io.Image.Input(
                    "original",
                    optional=True,
                    tooltip="The undegraded picture, if available, of the size of image_b. The "
                    "scores then measure how close image_b is to it.",
                ),
            ],
            outputs=[
                io.String.Output(
                    "scores",
                    tooltip="PSNR in dB (higher is closer), SSIM (up to 1, higher is closer) and "
                    "GMSD (from 0, lower is closer) as text, or the reason why there are "
                    "none.",
                )
            ],
            is_output_node=True,
            **where_known(
                search_aliases=["before after", "image comparer", "slider", "psnr", "ssim", "gmsd"]
            ),
        )

    @classmethod
    def execute(
        cls, image_a: Tensor, image_b: Tensor, original: Tensor | None = None
    ) -> io.NodeOutput:
        first, second = to_pictures(image_a), to_pictures(image_b)
        reference = first if original is None else to_pictures(original)
        scores = describe(reference, second, has_original=original is not None)
        shown = {
            "a_images": _save(first),
            "b_images": _save(second),
            "original_images": [] if original is None else _save(reference),
            "scores": [scores],
        }
        return io.NodeOutput(scores, ui=shown)


def _save(pictures: list[Tensor]) -> list:
    """Save pictures (3, H, W) in the host's temporary folder and return their references."""
    return ui.PreviewImage(torch.stack(pictures).movedim(1, -1)).values
