"""The loop that all stages share: schedule, optimiser step, weight average, log, sample sheet, checkpoint.

A stage is a function of (step, generator) that returns named losses; this loop owns everything else.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import SettingError, VARestorerError
from .ema import WeightAverage
from .logs import CsvLog, TensorBoardLog
from .state import load_state, save_batches, save_state

_log = logging.getLogger(__name__)

Losses = dict[str, Tensor]
StepFunction = Callable[[int, torch.Generator], Losses]
"""(step, generator) to named scalar losses; "loss" is the one that is minimised."""
EvaluateFunction = Callable[[int], dict[str, float]]
"""step to named validation figures; may write a sample sheet."""
Progress = Callable[[int, int, float], None]
"""(steps done, steps in all, loss)."""
Batch = dict[str, Tensor]
"""What a stage works on, by name. It refills the same dictionary at every call."""


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
    accumulate: int = 1
    """Batches whose gradients a step averages: a larger batch in the memory of a small one."""
    ema: float = 0.0
    """Decay of the averaged weights, which are then what is evaluated and exported; 0: none."""
    seed: int = 0
    log_every: int = 20
    evaluate_every: int = 200
    save_every: int = 200
    stop_at: int | None = None
    """Stop early after this step, with a checkpoint; the learning rate follows `steps` regardless."""
    tensorboard: bool = False
    """Log to the subfolder `tensorboard`, too."""

    def __post_init__(self):
        if self.accumulate < 1:
            raise SettingError(f"accumulate must be at least 1, got {self.accumulate}.")
        if not 0 <= self.ema < 1:
            raise SettingError(f"ema must be from 0 to below 1, such as 0.999, got {self.ema}.")


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
    on_progress: Progress | None = None,
    batch: Batch | None = None,
) -> int:
    """Train the parameters of `modules` that require gradients; return the step reached.

    Writes `state.pt` and `log.csv` into `folder`. With `settings.ema` the modules hold the averaged
    weights at the end.

    Args:
        batch: filled by the step function at every call; saved if training fails on it.

    Raises:
        TrainingError: if loss or gradients stop being finite numbers; the message names the step
            and the file with its batches. Weights and checkpoint are those before that step.
    """
    parameters = [p for module in modules.values() for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=settings.weight_decay
    )
    generator = torch.Generator().manual_seed(settings.seed)
    average = WeightAverage(modules, settings.ema) if settings.ema else None
    kept = {
        "modules": modules,
        "optimizer": optimizer,
        "generator": generator,
        "average": average,
    }
    state = folder / "state.pt"
    start = 0
    if resume and state.exists():
        start = load_state(state, **kept)
        _log.info("continuing %s at step %d", folder, start)
    logs: list[CsvLog | TensorBoardLog] = []
    if settings.tensorboard:
        logs.append(TensorBoardLog(folder / "tensorboard", keep_below=start))
    logs.append(CsvLog(folder / "log.csv", keep_below=start))
    last = settings.steps if settings.stop_at is None else min(settings.stop_at, settings.steps)
    for step in range(start, last):
        begun = time.perf_counter()
        rate = learning_rate(step, settings)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
        losses, norm = _gradients(
            folder, parameters, step_function, step, generator, settings, batch
        )
        optimizer.step()
        if average is not None:
            average.update(step)
        done = step + 1
        figures: dict[str, float] = {}
        if evaluate is not None and (done % settings.evaluate_every == 0 or done == last):
            with nullcontext() if average is None else average.applied():
                figures = evaluate(done)
        if figures or step % settings.log_every == 0:
            timing = {"lr": rate, "grad_norm": norm, "seconds": time.perf_counter() - begun}
            for log in logs:
                log.write(step, {**losses, **timing, **figures})
        if done % settings.save_every == 0 or done == last:
            save_state(state, step=done, **kept)
        if on_progress is not None:
            on_progress(done, last, losses["loss"])
    for log in logs:
        log.close()
    if average is not None:
        average.apply()
    return max(start, last)


def _gradients(
    folder: Path,
    parameters: list[nn.Parameter],
    step_function: StepFunction,
    step: int,
    generator: torch.Generator,
    settings: LoopSettings,
    batch: Batch | None,
) -> tuple[dict[str, float], float]:
    """Leave the clipped gradients of one step in the parameters; return its mean losses and their norm."""
    before = generator.get_state()
    seen: list[Batch] = []
    totals: Losses = {}

    def check(value: Tensor, what: str) -> None:
        if not bool(torch.isfinite(value)):
            path = folder / "bad_batch.pt"
            save_batches(path, step=step, batches=seen, generator=before)
            raise TrainingError(
                f"The {what} became {float(value.detach())} at step {step}; what it worked on is in {path}. Look for "
                "broken pictures, or continue from the last checkpoint with a lower --learning-rate."
            )

    for _ in range(settings.accumulate):
        losses = step_function(step, generator)
        seen.append(dict(batch or {}))
        check(losses["loss"], "loss")
        (losses["loss"] / settings.accumulate).backward()
        for name, value in losses.items():
            totals[name] = totals.get(name, 0) + value.detach() / settings.accumulate
    norm = nn.utils.clip_grad_norm_(parameters, settings.clip)
    check(norm, "gradient's norm")
    return {name: float(value) for name, value in totals.items()}, float(norm)
