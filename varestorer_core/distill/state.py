"""Training state on disk: weights, optimiser, random generator and step, written atomically.

Continuing from a state gives the same numbers as never having stopped, on the same machine with the same number
of threads: everything random draws from the one generator that is stored here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import nn

from ..errors import CheckpointError


def save_state(
    path: Path,
    *,
    step: int,
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
) -> None:
    """Write the state to `path`; an interruption leaves the previous file whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    state = {
        "step": step,
        "modules": {name: module.state_dict() for name, module in modules.items()},
        "optimizer": optimizer.state_dict(),
        "generator": generator.get_state(),
    }
    torch.save(state, partial)
    partial.replace(path)


def load_state(
    path: Path,
    *,
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
) -> int:
    """Fill modules, optimiser and generator from `path` and return the step to continue at.

    Raises:
        CheckpointError: if the file is damaged or belongs to another configuration.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        for name, module in modules.items():
            module.load_state_dict(state["modules"][name])
        optimizer.load_state_dict(state["optimizer"])
        generator.set_state(state["generator"])
        return int(state["step"])
    except (OSError, RuntimeError, KeyError, ValueError, EOFError, UnpicklingError) as error:
        raise CheckpointError(
            f"{path.name} cannot be continued: {error}. It must come from the same stage and configuration; "
            "leave out --resume to start again."
        ) from error
