"""The validation pictures of a stage, which are the same at every step of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..metrics import decibels
from .degrade import degrade_batch
from .losses import ssim
from .sheet import SHOWN, save_sheet

ORIGINAL = "original"
"""Label of the clean pictures on a sheet, with which the others are compared."""
RESTORED = "restored"
"""Label of a stage's main result: its metrics are `val_psnr` and `val_ssim`; the names of others end in the label."""

Measured = tuple[dict[str, Tensor], dict[str, Tensor]]
"""Pictures (B, 3, H, W) in [-1, 1] by label, and scalars (means over the batch) by name."""


class HeldOut:
    """Validation pictures, with degraded versions if a stage uses them, and their evaluation."""

    def __init__(
        self,
        pictures: NDArray[np.uint8] | Callable[[], NDArray[np.uint8]],
        device: str = "cpu",
        degradation: tuple[str, ...] = (),
        batch: int = 4,
    ):
        """Set the pictures, which are loaded by `load` or when they are first used.

        Args:
            pictures: (n, H, W, 3) uint8, or a function that returns them, such as one that draws them.
            device: device for evaluation, `batch` pictures at a time.
            degradation: presets; empty if only clean pictures are needed.
        """
        self.device, self.batch = device, batch
        self._pictures, self._degradation = pictures, degradation
        self._loaded: tuple[Tensor, Tensor] | None = None

    def load(self) -> tuple[Tensor, Tensor]:
        """Load and degrade the pictures, unless that has been done; return clean and degraded ones (n, 3, H, W)."""
        if self._loaded is None:
            clean = self._pictures() if callable(self._pictures) else self._pictures
            lq = clean
            if self._degradation:
                # A fixed seed, so that metrics of different steps and runs can be compared.
                lq = degrade_batch(clean, self._degradation, torch.Generator().manual_seed(0))
            first, second = (
                torch.from_numpy(np.ascontiguousarray(p)).permute(0, 3, 1, 2) for p in (clean, lq)
            )
            self._loaded = first, second
        return self._loaded

    def __len__(self) -> int:
        return len(self.load()[0])

    def pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield degraded and clean pictures (B, 3, H, W) in [-1, 1] on the device, batch by batch."""
        clean, lq = self.load()
        for pair in zip(lq.split(self.batch), clean.split(self.batch), strict=True):
            lq, clean = (part.to(self.device).float() / 127.5 - 1 for part in pair)
            yield lq, clean

    def measure(
        self, restore: Callable[[Tensor, Tensor], Measured], sheet: Path | None = None
    ) -> dict[str, float]:
        """Return PSNR (dB, over all pixels) and SSIM of pictures by label, and the scalars.

        Args:
            restore: maps degraded and clean pictures to results.
            sheet: PNG file for a sample sheet of the first pictures, with one row per label.
        """
        sums: dict[str, Tensor | float] = {}
        rows: dict[str, list[Tensor]] = {}
        for lq, clean in self.pairs():
            pictures, scalars = restore(lq, clean)
            for label, picture in pictures.items():
                end = "" if label == RESTORED else f"_{label}"
                error = (picture.float() - clean).square().mean()
                for name, value in ((f"mse{end}", error), (f"val_ssim{end}", ssim(picture, clean))):
                    sums[name] = sums.get(name, 0.0) + value * len(lq)
            for name, value in scalars.items():
                sums[name] = sums.get(name, 0.0) + value * len(lq)
            for label, picture in {**pictures, ORIGINAL: clean}.items():
                row = rows.setdefault(label, [])
                if pictures and len(row) < SHOWN:
                    row.extend(picture.cpu()[: SHOWN - len(row)])
        names = list(sums)
        values = (torch.stack([torch.as_tensor(sums[n]) for n in names]) / len(self)).tolist()
        if sheet is not None and rows.get(ORIGINAL):
            save_sheet(sheet, {label: torch.stack(row) for label, row in rows.items()})
        return dict(_figure(name, value) for name, value in zip(names, values, strict=True))


def sheet_path(folder: Path, step: int) -> Path:
    """Return the path of the sample sheet of a step."""
    return folder / "sheets" / f"{step:06d}.png"


def worse_than_input(figures: Mapping[str, float]) -> str | None:
    """Return a sentence if restored pictures are worse than their degraded inputs; else None."""
    worse = []
    for name, title, digits in (("psnr", "PSNR", 2), ("ssim", "SSIM", 4)):
        got, before = figures.get(f"val_{name}"), figures.get(f"val_{name}_lq")
        if got is not None and before is not None and got < before:
            worse.append(f"{title} {got:.{digits}f} instead of {before:.{digits}f}")
    if not worse:
        return None
    return f"restored pictures are worse than their degraded inputs: {', '.join(worse)}"


def _figure(name: str, value: float) -> tuple[str, float]:
    if not name.startswith("mse"):
        return name, value
    return f"val_psnr{name.removeprefix('mse')}", decibels(value, data_range=2.0)
