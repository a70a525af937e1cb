"""The luma on which super-resolution papers compute metrics."""

from __future__ import annotations

from torch import Tensor


def studio_luma(picture: Tensor) -> Tensor:
    """Return Y (H, W) of (3, H, W) in [0, 1] by ITU-R BT.601 in studio range, 16 to 235, like MATLAB's rgb2ycbcr."""
    weights = picture.new_tensor([65.481, 128.553, 24.966])[:, None, None]
    return (picture * weights).sum(-3) + 16
