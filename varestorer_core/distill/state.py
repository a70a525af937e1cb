"""Training state on disk: weights, their average, optimiser and step, written atomically.

Continuing from a state produces the same values as an uninterrupted run, on the same machine with the same number
of threads: all random numbers come from generators that only depend on the run's seed and the step.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor, nn

from ..atomic import atomic_file
from ..checkpoint.files import file_format
from ..checkpoint.pickles import read_pickle
from ..errors import CheckpointError, VARestorerError
from ..regular import check_regular
from ..wording import shown
from .adversary import Adversary
from .ema import WeightAverage

_log = logging.getLogger(__name__)
_DEEPEST = 10
"""Most levels of dictionaries and lists in a state; ours have five."""
_MOST_VALUES = 1_000_000
"""Most values in a state, each counted as often as it occurs; an optimiser has about six per parameter."""


def save_state(
    path: Path,
    *,
    step: int,
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    average: WeightAverage | None = None,
) -> None:
    """Write the state to `path`; an interruption leaves the previous file intact.

    Raises:
        CheckpointError: if it cannot be written.
    """
    state: dict[str, Any] = {
        "step": step,
        "modules": {name: module.state_dict() for name, module in modules.items()},
        "optimizer": optimizer.state_dict(),
    }
    if average is not None:
        state["ema"] = average.averages
    write_whole(path, state)


def load_state(
    path: Path,
    *,
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    average: WeightAverage | None = None,
) -> int:
    """Load modules, optimiser and average from `path` and return the step to continue at.

    If the state has no average, one starts at its weights; an average that is no longer requested is
    dropped. The state of imported files has no optimiser and no discriminator: the given ones stay as they are.

    Raises:
        CheckpointError: if the file is damaged or belongs to another configuration.
    """
    try:
        state = read_state(path)
        is_imported = "optimizer" not in state
        for name, module in modules.items():
            if not (is_imported and isinstance(module, Adversary)):
                module.load_state_dict(state["modules"][name])
        if not is_imported:
            optimizer.load_state_dict(state["optimizer"])
        if average is not None and "ema" in state:
            average.load(state["ema"])
        elif average is not None:
            average.reset()
        elif "ema" in state:
            _log.warning("%s holds averaged weights, which are dropped without --ema", path)
        return int(state["step"])
    except Exception as error:  # what a damaged file raises is anybody's guess
        # PyTorch lists every tensor that differs, over pages.
        reason = shown(shorten(str(error), 300, placeholder=" ...").rstrip("."), 300)
        raise CheckpointError(
            f"{path} cannot be continued: {reason}. It must come from the same stage and configuration; "
            "use --overwrite instead of --resume to train from scratch."
        ) from error


def read_state(path: Path, *, mapped: bool = False) -> Any:
    """Return the content of a training state.

    Args:
        mapped: whether to map the tensors into memory, for callers that need few of them.

    Raises:
        Exception: of any class, if the file is damaged.
    """
    check_regular(path, CheckpointError)
    try:
        state = read_pickle(path, zipped=file_format(path) == "zip", mapped=mapped)
    except CheckpointError as error:
        # Its advice is to download the file again.
        raise (error.__cause__ or error) from None
    _check_nesting(state)
    return state


def _check_nesting(state: Any) -> None:
    """Check that visiting every value takes a moment: lists that share lists can have exponentially many."""
    level, seen = [state], 0
    for _ in range(_DEEPEST):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, Mapping):
                inner.extend(value.values())
            elif isinstance(value, (list, tuple, set, frozenset)):
                inner.extend(value)
            if seen + len(inner) > _MOST_VALUES:
                raise ValueError(f"it has more than {_MOST_VALUES:,} values")
        if not inner:
            return
        level, seen = inner, seen + len(inner)
    raise ValueError(f"it nests more than {_DEEPEST} lists or dictionaries")


def state_step(path: Path) -> int:
    """Return the step of a training state.

    Raises:
        CheckpointError: if the file is damaged.
    """
    try:
        return int(read_state(path, mapped=True)["step"])
    except Exception as error:  # what a damaged file raises is anybody's guess
        reason = shorten(str(error).rstrip("."), 300, placeholder=" ...")
        raise CheckpointError(
            f"{path} is damaged: {reason}. Remove it, or use --overwrite, to train this stage again."
        ) from error


def save_batches(path: Path, *, step: int, batches: Sequence[Mapping[str, Tensor]]) -> None:
    """Write the batches of a step for inspection."""
    held = [{name: value.detach().cpu() for name, value in batch.items()} for batch in batches]
    write_whole(path, {"step": step, "batches": held})


def write_whole(path: Path, content: dict[str, Any]) -> None:
    """Save `content` under a temporary name, then rename it, so that `path` is never incomplete.

    Raises:
        CheckpointError: if it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            torch.save(content, file)
    except (OSError, RuntimeError, VARestorerError) as error:
        raise CheckpointError(
            f"{path} cannot be written: {str(error).rstrip('.')}. {_what_is_left(path)}"
        ) from error


def _what_is_left(path: Path) -> str:
    try:
        step = state_step(path)
    except CheckpointError:
        return (
            "Nothing was saved before. Free some space or choose another folder, and start again."
        )
    return f"The state of step {step} is still there: free some space, and continue with --resume."
