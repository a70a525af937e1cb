"""Pictures side by side, with a label above each."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_GAP = 4


def side_by_side(panels: list[tuple[str, Tensor]]) -> Tensor:
    """Join pictures (3, H, W) in [0, 1] of one size from left to right.

    Args:
        panels: pairs (label, picture); a label that is too wide for its picture is truncated.

    Returns:
        (3, H + label, total width) in [0, 1], on white.
    """
    import torch

    _, height, width = panels[0][1].shape
    # Readable when the whole picture is scaled to a screen, and never smaller than legible.
    text_height = max(12, (width * len(panels)) // 80)
    strip = 2 * text_height
    total = len(panels) * (width + _GAP) - _GAP
    result = torch.ones(3, strip + height, total)
    for index, (label, picture) in enumerate(panels):
        left = index * (width + _GAP)
        result[:, :strip, left : left + width] = _label(label, strip, width, text_height)
        result[:, strip:, left : left + width] = picture
    return result


def _label(text: str, height: int, width: int, text_height: int) -> Tensor:
    """Return a strip (1, height, width) with black text on white."""
    import numpy as np
    import torch
    from PIL import Image, ImageDraw, ImageFont

    strip = Image.new("L", (width, height), 255)
    position = (text_height // 2, text_height // 2)
    ImageDraw.Draw(strip).text(position, text, fill=0, font=ImageFont.load_default(text_height))
    return torch.from_numpy(np.asarray(strip, dtype=np.float32) / 255)[None]
