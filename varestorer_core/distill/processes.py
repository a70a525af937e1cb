"""Training on several GPUs with Hugging Face accelerate: every process trains on its own pictures.

accelerate starts the processes, assigns their devices and averages tensors over them. Each gradient is averaged as soon
as the backward pass has computed it, so the training loop does not depend on the processes. Then all processes
take the same step.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import SettingError


@dataclass(frozen=True)
class Processes:
    """This process, and communication with the others that train together."""

    index: int = 0
    count: int = 1
    device: str | None = None
    """Device of this process; None means that of the settings."""
    average: Callable[[Tensor], Tensor] | None = None
    """Returns the mean of a tensor over all processes; None if there is only one."""
    first_in_turn: Callable[[], AbstractContextManager[None]] = nullcontext
    """Context that the first process runs before the others, so that they find its files."""

    @property
    def first(self) -> bool:
        """Whether this is the process that validates, shows progress and is exported."""
        return self.index == 0

    def folder(self, stage: Path) -> Path:
        """Return the folder of this process's training state, which is the stage's folder for the first process.

        Each process has its own state, so that none waits for another's file.
        """
        return stage if self.first else stage / f"process-{self.index}"

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any of the processes; all of them must call this."""
        if self.average is None:
            return flag
        return bool(self.average(torch.tensor(float(flag), device=self.device)) > 0)

    def average_gradients(self, module: nn.Module) -> None:
        """From now on, average every gradient of the module over the processes when it is complete."""
        if self.average is None:
            return
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(self._average)

    def _average(self, parameter: Tensor) -> None:
        assert self.average is not None
        assert parameter.grad is not None
        parameter.grad = self.average(parameter.grad)


ALONE = Processes()
"""Training in a single process."""


def accelerate_processes() -> Processes:
    """Return this process among those that `accelerate launch` started.

    Raises:
        SettingError: if accelerate is not installed.
    """
    try:
        accelerate: Any = importlib.import_module("accelerate")
    except ImportError as error:
        raise SettingError(
            f"--accelerate needs the package accelerate, which cannot be imported ({error}). Install "
            "it with pip install accelerate, or leave the option out to train on one device."
        ) from error
    accelerator = accelerate.Accelerator()
    return Processes(
        index=accelerator.process_index,
        count=accelerator.num_processes,
        device=str(accelerator.device),
        average=(lambda gradient: accelerator.reduce(gradient, reduction="mean"))
        if accelerator.num_processes > 1
        else None,
        first_in_turn=accelerator.main_process_first,
    )
