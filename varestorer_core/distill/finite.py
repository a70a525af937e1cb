"""Check of weights for NaN and infinite values before they are saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import VARestorerError
from .ema import WeightAverage
from .state import state_step


class TrainingError(VARestorerError):
    """Training cannot continue."""


def check_weights(
    modules: Mapping[str, nn.Module], average: WeightAverage | None, done: int, state: Path
) -> None:
    """Raise an error for invalid weights, which are not visible in the loss and gradients of the step that made them.

    Args:
        average: average of the weights, if there is one.
        done: number of finished steps.
        state: file with the last valid weights.

    Raises:
        TrainingError: if some weights, or their averages, are NaN or infinite.
    """
    states = {name: module.state_dict() for name, module in modules.items()}
    averages = {} if average is None else average.averages
    named = {
        f"{module}.{name}": value
        for module, values in (*states.items(), *averages.items())
        for name, value in _tensors(values)
        if value.is_floating_point()
    }
    # One copy from the device for all of them; an optimiser's step counts are on the CPU.
    device = next(iter(named.values())).device
    finite = torch.stack([value.isfinite().all().to(device) for value in named.values()]).tolist()
    broken = [name for name, fine in zip(named, finite, strict=True) if not fine]
    if not broken:
        return
    kept = "Nothing was saved before."
    if state.exists():
        kept = f"The last valid ones, of step {state_step(state)}, are in {state}: continue with --resume."
    raise TrainingError(
        f"The weights became NaN or infinite by step {done}, in {len(broken)} tensors (first: {broken[0]}), and were "
        f"not saved. {kept} Use a lower --learning-rate."
    )


def _tensors(values: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a state by name; a module's state may include dictionaries and lists."""
    if isinstance(values, Tensor):
        yield name, values
    elif isinstance(values, Mapping | list | tuple):
        pairs = values.items() if isinstance(values, Mapping) else enumerate(values)
        for key, value in pairs:
            yield from _tensors(value, f"{name}.{key}" if name else str(key))
