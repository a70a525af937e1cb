"""Comparison of two pictures: slider and metrics."""

from __future__ import annotations

import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ..varestorer_core.metrics import WINDOW, gmsd, psnr, ssim
from .host.images import to_pictures
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


def describe(first: list[Tensor], second: list[Tensor], *, has_original: bool) -> str:
    """Return the mean scores of pictures (3, H, W) against the references at the same index, or what scores need.

    Args:
        has_original: whether `first` are originals, instead of the pictures before.
    """
    sizes = [(len(pictures), pictures[0].shape) for pictures in (first, second)]
    if sizes[0] != sizes[1] and has_original:
        expected, got = (f"{n} of {shape[-1]} x {shape[-2]} pixels" for n, shape in reversed(sizes))
        return f"Scores need an original of the size of image_b: {expected}, got {got}."
    if sizes[0] != sizes[1]:
        return "Scores need pictures of one size, or the original as a third input."
    if min(first[0].shape[-2:]) < WINDOW:
        return f"Scores need pictures of at least {WINDOW} x {WINDOW} pixels."
    decibels, structure, gradients = (
        sum(metric(a.double(), b.double()) for a, b in zip(first, second, strict=True)) / len(first)
        for metric in (psnr, ssim, gmsd)
    )
    return f"PSNR {decibels:.2f} dB   SSIM {structure:.4f}   GMSD {gradients:.4f}"


def _save(pictures: list[Tensor]) -> list:
    """Save pictures (3, H, W) in the host's temporary folder and return their references."""
    return ui.PreviewImage(torch.stack(pictures).movedim(1, -1)).values
