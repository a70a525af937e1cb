"""The training loop of all stages: schedule, optimiser step, weight average, log, validation, checkpoint.

Values are read from the device once per logging interval, so that it never waits for the host in between. A NaN or
infinite loss or gradient is therefore detected at the end of the interval; a state with it is never saved. The
weights themselves are checked before they are saved.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ..errors import SettingError
from .batches import Batch, batch_generator, to_float
from .ema import WeightAverage
from .finite import TrainingError, check_weights
from .held_out import worse_than_input
from .interruption import Interrupted, StopRequest
from .loader import Drawing, load_batches
from .logs import CsvLog, TensorBoardLog
from .processes import ALONE, Processes
from .sources import PictureSource
from .stage import Losses, Stage
from .state import load_state, save_batches, save_state

_log = logging.getLogger(__name__)

Progress = Callable[[int, int, float | None], None]
"""Called with (steps done, steps in total, last loss read)."""


@dataclass(frozen=True)
class LoopSettings:
    """Settings of the training loop."""

    steps: int
    """Total number of optimiser steps, including those of resumed runs."""
    learning_rate: float = 1e-3
    """Peak learning rate: linear warm-up, then cosine decay to a hundredth."""
    warmup: int = 50
    weight_decay: float = 0.005
    clip: float = 1.0
    """Maximum gradient norm."""
    accumulate: int = 1
    """Batches whose gradients a step averages: a larger batch in the same memory."""
    ema: float = 0.0
    """Decay of the averaged weights, which are then evaluated and exported; 0 disables averaging."""
    seed: int = 0
    log_every: int = 20
    evaluate_every: int = 200
    save_every: int = 200
    stop_at: int | None = None
    """Stop early after this step, with a checkpoint; the learning rate schedule still follows `steps`."""
    deadline: float | None = None
    """Value of `time.monotonic()` at which to stop early, with a checkpoint."""
    tensorboard: bool = False
    """Also log to the subfolder `tensorboard`."""
    workers: int = 0
    """Processes that draw pictures; 0 draws them in the training process. Results do not depend on it."""

    def __post_init__(self) -> None:
        for name in ("steps", "accumulate", "log_every", "evaluate_every", "save_every"):
            if getattr(self, name) < 1:
                raise SettingError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if not 0 < self.learning_rate < math.inf:
            raise SettingError(
                f"learning_rate must be a finite number above 0, got {self.learning_rate}."
            )
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
    stage: Stage,
    source: PictureSource,
    settings: LoopSettings,
    *,
    device: str = "cpu",
    resume: bool = False,
    on_progress: Progress | None = None,
    processes: Processes = ALONE,
) -> int:
    """Train the parameters of `stage.modules` that require gradients, and return the last step.

    Writes `state.pt` and `log.csv` into `folder`. With `settings.ema`, the modules have the averaged
    weights at the end.

    Args:
        source: source of the training pictures.
        resume: continue from the folder's `state.pt` if there is one; otherwise it will be overwritten.
        processes: processes that train together. The first one validates and reports.

    Raises:
        TrainingError: if the loss, the gradients or the weights become NaN or infinite; the message names the
            step and, of a loss or gradient, the file with its batches. The state on disk is from before that step.
        Interrupted: on Ctrl-C or SIGTERM, after the state has been saved.
    """
    return _Run(folder, stage, source, settings, device, on_progress, processes).train(resume)


class _Run:
    """One call of `train`."""

    def __init__(
        self,
        folder: Path,
        stage: Stage,
        source: PictureSource,
        settings: LoopSettings,
        device: str,
        on_progress: Progress | None,
        processes: Processes,
    ):
        self.folder, self.stage, self.settings = folder, stage, settings
        self.device, self.on_progress, self.processes = device, on_progress, processes
        modules = stage.modules
        self.parameters = [
            p for module in modules.values() for p in module.parameters() if p.requires_grad
        ]
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=settings.learning_rate,
            betas=(0.9, 0.98),
            weight_decay=settings.weight_decay,
        )
        self.average = WeightAverage(modules, settings.ema) if settings.ema else None
        self.kept = {"modules": modules, "optimizer": self.optimizer, "average": self.average}
        self.drawing = Drawing(source, stage.draws, settings.seed, settings.accumulate)
        self.unread: list[tuple[int, Losses]] = []
        """Steps whose values have not been read from the device yet."""
        self.loss: float | None = None
        """Mean since the one before, None until values are read: right after a continued start."""

    def train(self, resume: bool) -> int:
        settings, state = self.settings, self.folder / "state.pt"
        start = 0
        if resume and state.exists():
            start = load_state(state, **self.kept)
            _log.info("continuing %s at step %d", self.folder, start)
        last = settings.steps if settings.stop_at is None else min(settings.stop_at, settings.steps)
        reached = max(start, last)
        if start < last:
            logs: list[CsvLog | TensorBoardLog] = []
            if settings.tensorboard:
                logs.append(TensorBoardLog(self.folder / "tensorboard", keep_below=start))
            logs.append(CsvLog(self.folder / "log.csv", keep_below=start))
            stop = StopRequest(settings.deadline)
            try:
                with stop.listening():
                    reached = self._steps(start, last, logs, stop)
            finally:
                for log in logs:
                    log.close()
            if stop.signal_number is not None:
                raise Interrupted(
                    f"interrupted; step {reached} is saved in {state}, continue with --resume",
                    stop.signal_number,
                )
        if self.average is not None:
            self.average.apply()
        return reached

    def _steps(
        self, start: int, last: int, logs: list[CsvLog | TensorBoardLog], stop: StopRequest
    ) -> int:
        settings = self.settings
        per_step = settings.accumulate
        batches = load_batches(
            self.drawing, range(start * per_step, last * per_step), settings.workers, self.device
        )
        begun, since = time.perf_counter(), 0
        try:
            for step in range(start, last):
                rate = learning_rate(step, settings)
                for group in self.optimizer.param_groups:
                    group["lr"] = rate
                self.optimizer.zero_grad(set_to_none=True)
                self._gradients(step, batches)
                self.optimizer.step()
                if self.average is not None:
                    self.average.update(step)
                done, since = step + 1, since + 1
                logged = step % settings.log_every == 0
                # Processes step together, so they must also stop together, and agree on it when they log.
                asked = self.processes.count == 1 or logged
                stopping = done < last and asked and self.processes.any(bool(stop))
                ends = done == last or stopping
                saved = ends or done % settings.save_every == 0
                evaluated = done == last or done % settings.evaluate_every == 0
                if logged or saved or evaluated:
                    figures = self._read()
                    figures |= {"lr": rate, "seconds": (time.perf_counter() - begun) / since}
                    if evaluated and not stopping and self.processes.first:
                        figures |= self._evaluate(done)
                    for log in logs:
                        log.write(step, figures)
                    begun, since = time.perf_counter(), 0
                if saved:
                    check_weights(self.stage.modules, self.average, done, self.folder / "state.pt")
                    save_state(self.folder / "state.pt", step=done, **self.kept)
                if self.on_progress is not None and self.processes.first:
                    self.on_progress(done, last, self.loss)
                if stopping:
                    return done
            return last
        finally:
            batches.close()  # pyright: ignore[reportAttributeAccessIssue]

    def _gradients(self, step: int, batches: Iterator[Batch]) -> None:
        """Compute the clipped gradients of one step."""
        settings = self.settings
        totals: Losses = {}
        for micro in range(settings.accumulate):
            number = step * settings.accumulate + micro
            generator = batch_generator(settings.seed, number, purpose=1)
            losses = self.stage.step(step, to_float(next(batches)), generator)
            (losses["loss"] / settings.accumulate).backward()
            for name, value in losses.items():
                totals[name] = totals.get(name, 0) + value.detach() / settings.accumulate
        totals["grad_norm"] = nn.utils.clip_grad_norm_(self.parameters, settings.clip).detach()
        self.unread.append((step, totals))

    def _read(self) -> dict[str, float]:
        """Return the means of the values since the last reading, with one copy from the device.

        Raises:
            TrainingError: if a loss or a gradient norm is NaN or infinite.
        """
        names = list(self.unread[-1][1])
        values = torch.stack(
            [
                torch.stack([totals[name].float().reshape(()) for name in names])
                for _, totals in self.unread
            ]
        ).tolist()
        steps = [step for step, _ in self.unread]
        self.unread.clear()
        for step, row in zip(steps, values, strict=True):
            for name, what in (("loss", "loss"), ("grad_norm", "gradient's norm")):
                value = row[names.index(name)]
                if not math.isfinite(value):
                    self._fail(step, what, value)
        means = [sum(column) / len(column) for column in zip(*values, strict=True)]
        figures = dict(zip(names, means, strict=True))
        self.loss = figures["loss"]
        return figures

    def _fail(self, step: int, what: str, value: float) -> None:
        path = self.folder / "bad_batch.pt"
        first = step * self.settings.accumulate
        numbers = range(first, first + self.settings.accumulate)
        save_batches(
            path, step=step, batches=[to_float(self.drawing(number)) for number in numbers]
        )
        raise TrainingError(
            f"The {what} became {value} at step {step}, whose batches are in {path}. Look for "
            "broken pictures, or continue from the last checkpoint with a lower --learning-rate."
        )

    def _evaluate(self, done: int) -> dict[str, float]:
        with nullcontext() if self.average is None else self.average.applied(), torch.no_grad():
            figures = self.stage.evaluate(done, self.folder)
        if problem := worse_than_input(figures):
            _log.warning("step %d: %s", done, problem)
        return figures
