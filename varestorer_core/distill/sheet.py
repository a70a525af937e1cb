"""Sample sheets: rows of pictures side by side, to be looked at while training runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def save_sheet(path: Path, rows: Sequence[Tensor], limit: int = 8) -> None:
    """Write a PNG with one row per tensor (B, 3, H, W) in [-1, 1]; columns belong together."""
    path.parent.mkdir(parents=True, exist_ok=True)
    strips = [torch.cat(list(row[:limit]), dim=2) for row in rows]
    sheet = torch.cat(strips, dim=1).detach().float().cpu()
    values = ((sheet.clamp(-1, 1) + 1) * 127.5).round().permute(1, 2, 0).numpy().astype(np.uint8)
    Image.fromarray(values).save(path)
