"""Training batches: pictures drawn from a source, and their degraded versions.

A batch is a function of only the run's seed and the batch's number, so it does not depend on the process that draws it
or on interruptions of the run.
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
"""Pictures by name: "clean" and, if a stage uses degraded ones, "lq". (B, 3, H, W), uint8 when drawn and float32 in
[-1, 1] in a stage."""


@dataclass(frozen=True)
class Draw:
    """The kind of batches that a stage needs, starting at one of its steps."""

    batch: int
    crop: int
    """Side in pixels."""
    degradation: tuple[str, ...] = ()
    """Presets, one of which is drawn for each picture; empty if only clean pictures are needed."""
    clean: float = 0.0
    """Fraction of pictures whose "degraded" version is the clean one."""
    from_step: int = 0


def batch_generator(seed: int, number: int, purpose: int = 0) -> torch.Generator:
    """Return the generator of one batch.

    Args:
        seed: seed of the run.
        number: number of the batch in the whole run.
        purpose: 0 for drawing the pictures, 1 for the stage's own random numbers.
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
    """Return uint8 pictures as float32 in [-1, 1], on the same device."""
    return {name: value.float() / 127.5 - 1 for name, value in batch.items()}
