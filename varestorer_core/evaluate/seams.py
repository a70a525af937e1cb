"""Visibility of tile borders in a picture that was restored tile by tile.

The seam score is a ratio of two mean steps, with

    step(x) = mean over channels and rows of |p[:, :, x] - p[:, :, x - 1]|

for the boundary between the pixel columns x - 1 and x, and likewise for rows:

    score = mean of step over the boundaries at tile borders
            / mean of step over all other boundaries

A tile border is where a tile begins or ends inside the picture; one mean covers columns and rows.
A score of 1 means that the steps at borders are like those elsewhere; more means that borders are
visible. A photograph may have edges of its own at these places: with a `reference`, a picture of the
same content without borders there, the score is divided by the reference's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..metrics import check_alike
from ..tiles.tiling import TileLayout


def seam_score(picture: Tensor, layout: TileLayout, reference: Tensor | None = None) -> float:
    """Return the seam score of a picture (C, H, W) that was restored in tiles.

    Args:
        layout: layout of the tiles.
        reference: (C, H, W), the same content without tile borders at these places: the resized
            source, or better a restoration with tiles at other places.

    Returns:
        At least 0; 1 if steps at borders are like those elsewhere (or those of the reference), and for a
        picture without any step; infinite if there are steps only at borders.

    Raises:
        ValueError: for a picture of another size, or a layout without borders.
    """
    if tuple(picture.shape[1:]) != (layout.height, layout.width):
        raise ValueError(
            f"The tile layout is for {layout.height} x {layout.width} pixels, got a picture of "
            f"{tuple(picture.shape)}."
        )
    score = _ratio(picture, layout)
    if reference is None:
        return score
    check_alike(picture, reference)
    return score / _ratio(reference, layout)


def tile_borders(starts: Sequence[int], length: int, tile: int) -> list[int]:
    """Return where tiles begin or end along an axis: x is the boundary between pixels x - 1 and x."""
    ends = (start + tile for start in starts)
    return sorted({x for x in (*starts, *ends) if 0 < x < length})


def _ratio(picture: Tensor, layout: TileLayout) -> float:
    at_borders: list[Tensor] = []
    elsewhere: list[Tensor] = []
    for dim, starts in ((1, layout.rows), (2, layout.columns)):
        steps = picture.double().diff(dim=dim).abs().mean(dim=(0, 3 - dim))
        is_border = torch.zeros(len(steps), dtype=torch.bool, device=steps.device)
        borders = tile_borders(starts, picture.shape[dim], layout.tile)
        is_border[[x - 1 for x in borders]] = True
        at_borders.append(steps[is_border])
        elsewhere.append(steps[~is_border])
    border_steps, other_steps = torch.cat(at_borders), torch.cat(elsewhere)
    if not len(border_steps) or not len(other_steps):
        raise ValueError(
            f"A seam score needs tile borders and other places, got {len(layout)} tiles of "
            f"{layout.tile} pixels on {layout.height} x {layout.width}."
        )
    border, other = border_steps.mean().item(), other_steps.mean().item()
    if other == 0:
        return 1.0 if border == 0 else float("inf")
    return border / other
