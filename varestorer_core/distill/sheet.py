"""Sample sheets: labelled rows of pictures side by side, for inspection during training."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..atomic import write_atomically
from ..errors import VARestorerError

_log = logging.getLogger(__name__)

SHOWN = 8
"""Maximum number of pictures in a row."""
_MARGIN = 4


def save_sheet(path: Path, rows: Mapping[str, Tensor]) -> None:
    """Write a PNG with one row per label of pictures (B, 3, H, W) in [-1, 1]; columns belong together.

    On a full disk, the sheet is lost but the run continues.
    """
    strips = [torch.cat(list(row[:SHOWN]), dim=2) for row in rows.values()]
    sheet = torch.cat(strips, dim=1).detach().float().cpu()
    values = ((sheet.clamp(-1, 1) + 1) * 127.5).round().permute(1, 2, 0).numpy().astype(np.uint8)
    font = ImageFont.load_default()
    width = int(max(font.getlength(label) for label in rows)) + 2 * _MARGIN
    page = Image.new("RGB", (width + values.shape[1], values.shape[0]), "white")
    page.paste(Image.fromarray(values), (width, 0))
    draw, top = ImageDraw.Draw(page), 0
    for label, strip in zip(rows, strips, strict=True):
        draw.text((_MARGIN, top + _MARGIN), label, fill="black", font=font)
        top += strip.shape[1]
    file = io.BytesIO()
    page.save(file, "PNG")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, file.getvalue())
    except (OSError, VARestorerError) as error:
        _log.warning("the sheet %s is missing: %s", path.name, error)
