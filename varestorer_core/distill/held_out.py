"""The pictures that a stage measures itself on, the same at every step of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .data import to_tensor
from .degrade import degrade_batch
from .losses import psnr, ssim
from .sheet import save_sheet


class HeldOut:
    """Validation pictures, degraded ones where a stage reads those, and what is said of results."""

    def __init__(
        self,
        folder: Path,
        pictures: NDArray[np.uint8],
        device: str,
        degradation: tuple[str, ...] = (),
    ):
        """Prepare pictures (B, H, W, 3) uint8.

        Args:
            folder: of the stage; sheets go to `sheets` in it.
            degradation: presets; none means that only clean pictures are needed.
        """
        self.folder = folder
        self.clean = to_tensor(pictures).to(device)
        """(B, 3, H, W) in [-1, 1]."""
        self.lq = self.clean
        """The degraded pictures, likewise; the clean ones where nothing degrades."""
        if degradation:
            # Always the same draw: figures of different steps and runs can be compared.
            drawn = torch.Generator().manual_seed(0)
            self.lq = to_tensor(degrade_batch(pictures, degradation, drawn)).to(device)

    def figures(self, restored: Tensor) -> dict[str, float]:
        """Return PSNR (dB) and SSIM of restored pictures, and of the degraded ones beside them."""
        return {
            "val_psnr": psnr(restored, self.clean),
            "val_psnr_lq": psnr(self.lq, self.clean),
            "val_ssim": float(ssim(restored, self.clean)),
            "val_ssim_lq": float(ssim(self.lq, self.clean)),
        }

    def save_sheet(self, step: int, rows: Sequence[Tensor]) -> None:
        """Write the rows, each (B, 3, H, W) in [-1, 1], as the sample sheet of a step."""
        save_sheet(self.folder / "sheets" / f"{step:06d}.png", rows)
