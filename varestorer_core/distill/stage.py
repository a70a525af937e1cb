"""Protocol of a training stage: its trainable modules, its training step and its evaluation.

`loop.train` runs every stage; `run.stages` builds the stages of a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from .batches import Batch, Draw
from .held_out import HeldOut

Losses = dict[str, Tensor]
"""Scalars by name, on the training device; "loss" is minimised."""


class Stage(Protocol):
    """One stage of training."""

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """Modules of the training state by name; their parameters that require gradients are trained."""
        ...

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """All networks that a step runs, trained or frozen, for `torch.compile`."""
        ...

    @property
    def draws(self) -> tuple[Draw, ...]:
        """The kinds of batches of the stage, in the order of their first steps."""
        ...

    def step(self, step: int, batch: Batch, generator: torch.Generator) -> Losses:
        """Return the losses of a batch.

        Args:
            batch: float32 in [-1, 1], on the training device.
            generator: generator of this batch, on the CPU, for other random numbers.
        """
        ...

    def evaluate(self, step: int, folder: Path) -> dict[str, float]:
        """Return validation metrics by name after `step` steps; may write a sample sheet into `folder`."""
        ...


class ValidatedStage(Stage, Protocol):
    """A stage of a run, which is evaluated on held-out pictures."""

    @property
    def held_out(self) -> HeldOut:
        """The validation pictures."""
        ...
