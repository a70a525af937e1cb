"""The loop that all three stages share: schedule, optimiser step, log, sample sheet, checkpoint.

A stage is a function of (step, generator) that returns named losses; this loop owns everything else.
"""

from __future__ import annotations

import csv
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import VARestorerError
from .state import load_state, save_state

_log = logging.getLogger(__name__)

Losses = dict[str, Tensor]
StepFunction = Callable[[int, torch.Generator], Losses]
"""(step, generator) to named scalar losses; "loss" is the one that is minimised."""
EvaluateFunction = Callable[[int], dict[str, float]]
"""step to named validation figures; may write a sample sheet."""


class TrainingError(VARestorerError):
    """Training cannot go on."""


@dataclass(frozen=True)
class LoopSettings:
    """How long and how carefully to train."""

    steps: int
    """Optimiser steps in all, counted over resumed runs."""
    learning_rate: float = 1e-3
    """Peak; linear warm-up, then cosine to a hundredth."""
    warmup: int = 50
    weight_decay: float = 0.005
    clip: float = 1.0
    """Largest gradient norm."""
    seed: int = 0
    log_every: int = 20
    evaluate_every: int = 200
    save_every: int = 200
    stop_at: int | None = None
    """Stop early after this step, with a checkpoint; the learning rate follows `steps` regardless."""


def learning_rate(step: int, settings: LoopSettings) -> float:
    """Return the learning rate of a step: linear warm-up, cosine decay to a hundredth of the peak."""
    if step < settings.warmup:
        return settings.learning_rate * (step + 1) / settings.warmup
    progress = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return settings.learning_rate * (
        0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    )


def train(
    folder: Path,
    modules: Mapping[str, nn.Module],
    step_function: StepFunction,
    settings: LoopSettings,
    *,
    evaluate: EvaluateFunction | None = None,
    resume: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> int:
    """Train the parameters of `modules` that require gradients; return the step reached.

    Writes `state.pt` and `log.csv` into `folder`.

    Raises:
        TrainingError: if the loss stops being a finite number; the message names the step.
    """
    parameters = [p for module in modules.values() for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=settings.weight_decay
    )
    generator = torch.Generator().manual_seed(settings.seed)
    state = folder / "state.pt"
    start = 0
    if resume and state.exists():
        start = load_state(state, modules=modules, optimizer=optimizer, generator=generator)
        _log.info("continuing %s at step %d", folder, start)
    log = CsvLog(folder / "log.csv", keep_below=start)
    last = settings.steps if settings.stop_at is None else min(settings.stop_at, settings.steps)
    for step in range(start, last):
        begun = time.perf_counter()
        rate = learning_rate(step, settings)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
        losses = step_function(step, generator)
        if not bool(torch.isfinite(losses["loss"])):
            raise TrainingError(
                f"The loss became {float(losses['loss'].detach())} at step {step}. Continue from the last checkpoint "
                "with a lower --learning-rate."
            )
        losses["loss"].backward()
        norm = nn.utils.clip_grad_norm_(parameters, settings.clip)
        optimizer.step()
        done = step + 1
        figures: dict[str, float] = {}
        if evaluate is not None and (done % settings.evaluate_every == 0 or done == last):
            figures = evaluate(done)
        if figures or step % settings.log_every == 0:
            values = {name: float(value.detach()) for name, value in losses.items()}
            timing = {"lr": rate, "grad_norm": float(norm), "seconds": time.perf_counter() - begun}
            log.write(step, {**values, **timing, **figures})
        if done % settings.save_every == 0 or done == last:
            save_state(state, step=done, modules=modules, optimizer=optimizer, generator=generator)
        if on_progress is not None:
            on_progress(done, last)
    return max(start, last)


class CsvLog:
    """A long-format CSV (step, name, value) that drops the rows a resumed run is about to repeat."""

    def __init__(self, path: Path, keep_below: int = 0):
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        kept: list[list[str]] = []
        if keep_below and path.exists():
            with path.open(newline="") as file:
                kept = [
                    row
                    for row in csv.reader(file)
                    if row and row[0].isdigit() and int(row[0]) < keep_below
                ]
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([["step", "name", "value"], *kept])

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append one row per value."""
        with self.path.open("a", newline="") as file:
            csv.writer(file).writerows(
                [step, name, f"{value:.6g}"] for name, value in values.items()
            )
