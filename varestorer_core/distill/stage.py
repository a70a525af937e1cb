"""What a training stage is: the modules that train, what a step does with a batch, and how results are measured.

The loop that runs every stage alike is `loop.train`; `run.stages` builds the four stages of a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from .batches import Batch, Draw

Losses = dict[str, Tensor]
"""Named scalars on the training device; "loss" is the one that is minimised."""


class Stage(Protocol):
    """One stage of training."""

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """By name, what the training state holds; parameters that require gradients train."""
        ...

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """Every network that a step runs, trained or frozen, which is what `torch.compile` is for."""
        ...

    @property
    def draws(self) -> tuple[Draw, ...]:
        """What batches the stage asks for, in the order of their first steps."""
        ...

    def step(self, step: int, batch: Batch, generator: torch.Generator) -> Losses:
        """Return the losses of a batch.

        Args:
            batch: float32 in [-1, 1], on the training device.
            generator: of this batch, on the CPU, for whatever else is random.
        """
        ...

    def evaluate(self, step: int, folder: Path) -> dict[str, float]:
        """Return named validation figures after `step` steps; may write a sample sheet into `folder`."""
        ...
