"""From a mask of any size to soft-edged masks of the output's size.

The edge is blurred by three box filters in a row, whose widths add up to the asked feather: close to
a Gaussian, but with an end. So what lies further than the feather from an edge stays exactly 0 or 1,
and tiles that need no work are seen to need none.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import SettingError

_BOXES = 3


def output_masks(
    mask: Tensor, pictures: int, size: tuple[int, int], feather: int = 0
) -> list[Tensor]:
    """Return one mask per picture at the output's size.

    Args:
        mask: (h, w) or (B, h, w), of any size and any real type, 1 where to restore; B is 1 or the
            number of pictures.
        pictures: number of pictures, which all have the output size.
        size: (height, width) of the output.
        feather: how far the soft edge reaches to either side, in output pixels.

    Returns:
        Masks (height, width), float32 in [0, 1] on the CPU.

    Raises:
        SettingError: for another shape or number of masks, values that are no numbers, or a
            negative feather.
    """
    if mask.ndim == 2:
        mask = mask[None]
    if mask.ndim != 3 or 0 in mask.shape or mask.shape[0] not in (1, pictures):
        raise SettingError(
            f"expected one mask, or one for each of the {pictures} pictures, as (masks, height, "
            f"width), got {tuple(mask.shape)}."
        )
    if feather < 0:
        raise SettingError(f"feather must be 0 or more pixels, got {feather}.")
    planes = mask.detach().to(device="cpu", dtype=torch.float32)[:, None]
    if not bool(torch.isfinite(planes).all()):
        raise SettingError("the mask holds NaN or infinite values. Check the node that made it.")
    planes = F.interpolate(planes, size=size, mode="bilinear", antialias=True).clamp(0, 1)
    masks = [feathered(plane, feather) for plane in planes[:, 0]]
    return masks * pictures if len(masks) == 1 else masks


def feathered(mask: Tensor, feather: int) -> Tensor:
    """Return a mask (H, W) in [0, 1] whose edges fade over `feather` pixels to either side.

    Beyond the picture's border the mask is continued, so a region that touches it keeps its value.
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
