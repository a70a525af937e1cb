"""Conversion of masks of any size to soft-edged masks of the output's size.

The edge is blurred by three successive box filters whose widths add up to the requested feather: close to
a Gaussian, but of finite extent. Pixels further than the feather from an edge therefore stay exactly 0 or
1, so tiles outside the mask can be skipped.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import SettingError

_BOXES = 3


def output_mask(mask: Tensor, size: tuple[int, int], feather: int = 0) -> Tensor:
    """Return a mask at the output's size, with a soft edge.

    Args:
        mask: (h, w) of any size and any real dtype, 1 where to restore.
        size: (height, width) of the output.
        feather: how far the soft edge reaches to either side, in output pixels.

    Returns:
        (height, width), float32 in [0, 1] on the CPU.

    Raises:
        SettingError: for another shape, NaN or infinite values, or a negative feather.
    """
    if mask.ndim != 2 or 0 in mask.shape:
        raise SettingError(f"Expected a mask (height, width), got {tuple(mask.shape)}.")
    if feather < 0:
        raise SettingError(f"feather must be 0 or more pixels, got {feather}.")
    plane = mask.detach().to(device="cpu", dtype=torch.float32)[None, None]
    if not bool(torch.isfinite(plane).all()):
        raise SettingError("The mask holds NaN or infinite values. Check the node that made it.")
    plane = F.interpolate(plane, size=size, mode="bilinear", antialias=True).clamp(0, 1)
    return feathered(plane[0, 0], feather)


def feathered(mask: Tensor, feather: int) -> Tensor:
    """Return a mask (H, W) in [0, 1] whose edges fade over `feather` pixels to either side.

    The mask is extended beyond the picture's border, so a region that touches the border keeps its value there.
    """
    if feather == 0:
        return mask
    # Running sums in float64 keep constant areas constant to the last bit of float32.
    plane = mask.double()
    for box in range(_BOXES):
        radius = feather // _BOXES + (box < feather % _BOXES)
        plane = _box_mean(_box_mean(plane, radius).T, radius).T
    return plane.float().clamp(0, 1)


def _box_mean(plane: Tensor, radius: int) -> Tensor:
    """Return the mean over `radius` pixels to either side along the last axis of (H, W)."""
    width = 2 * radius + 1
    padded = F.pad(plane[None], (radius + 1, radius), mode="replicate")[0]
    sums = padded.cumsum(-1)
    return (sums[:, width:] - sums[:, :-width]) / width
