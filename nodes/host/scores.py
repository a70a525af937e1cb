"""The scores below the slider of VARestorer Compare, as one line of text."""

from __future__ import annotations

from torch import Tensor

from ...varestorer_core.metrics import WINDOW, gmsd, psnr, ssim


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
