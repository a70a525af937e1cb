"""What a training step works on: pictures drawn from a source, and their degraded versions.

A batch is a function of the run's seed and the batch's number alone. So it does not matter which process draws it,
nor whether the run was interrupted before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .degrade import degrade_batch
from .sources import PictureSource

Batch = dict[str, Tensor]
"""Pictures by name: "clean" and, where a stage reads degraded ones, "lq". (B, 3, H, W), uint8 as they are drawn and
float32 in [-1, 1] as a stage receives them."""


@dataclass(frozen=True)
class Draw:
    """What a stage asks for, from one step on."""

    batch: int
    crop: int
    """Side in pixels."""
    degradation: tuple[str, ...] = ()
    """Presets, of which each picture draws one; none means that only clean pictures are needed."""
    clean: float = 0.0
    """Share of pictures whose "degraded" version is the clean one."""
    from_step: int = 0


def batch_generator(seed: int, number: int, purpose: int = 0) -> torch.Generator:
    """Return the generator of one batch.

    Args:
        seed: of the run.
        number: of the batch, counted over the whole run.
        purpose: 0 draws the pictures, 1 is for what a stage draws itself.
    """
    (state,) = np.random.SeedSequence([seed, number, purpose]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state) % 2**63)


def draw_batch(source: PictureSource, draw: Draw, generator: torch.Generator) -> Batch:
    """Return one batch of uint8 pictures (B, 3, H, W)."""
    clean = source.draw(draw.batch, draw.crop, generator)
    batch = {"clean": clean}
    if draw.degradation:
        lq = degrade_batch(clean, draw.degradation, generator)
        kept = torch.rand(draw.batch, generator=generator) < draw.clean
        batch["lq"] = np.where(kept.numpy()[:, None, None, None], clean, lq)
    return {
        name: torch.from_numpy(np.ascontiguousarray(value)).permute(0, 3, 1, 2).contiguous()
        for name, value in batch.items()
    }


def draw_of(draws: Sequence[Draw], step: int) -> Draw:
    """Return the last of the draws that has begun at a step."""
    return [draw for draw in draws if draw.from_step <= step][-1]


def to_float(batch: Batch) -> Batch:
    """Return uint8 pictures as float32 in [-1, 1], on the device where they are."""
    return {name: value.float() / 127.5 - 1 for name, value in batch.items()}
