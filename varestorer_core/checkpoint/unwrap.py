"""From what a file holds to a flat dictionary of tensors.

Checkpoints come bare, under `state_dict`, next to bookkeeping of a training run, or from a wrapped
module (`module.` before every name).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..errors import CheckpointError

_WRAPPERS = ("state_dict", "params_ema", "params", "infinity", "vae")
_PREFIXES = ("module.", "_orig_mod.")
# A training run stores the student next to its tokenizer; who wants the tokenizer says so.
_PREFERRED = {"transformer": "infinity", "tokenizer": "vae"}


def unwrap(
    loaded: Any, kind: str | None = None, *, name: str = "the file", consume: bool = False
) -> dict[str, Tensor]:
    """Return the tensors by their bare names, in a new dictionary.

    Args:
        loaded: what a loader returned.
        kind: "transformer" or "tokenizer", to choose where a file holds both.
        name: of the file, for messages.
        consume: empty the given dictionary, so that the result alone keeps the tensors in memory.

    Raises:
        CheckpointError: if there are no tensors.
    """
    if not isinstance(loaded, Mapping):
        raise CheckpointError(
            f"{name} holds a {type(loaded).__name__}, expected a dictionary of tensors."
        )
    inner = loaded
    while (wrapped := _wrapped(inner, kind)) is not None:
        inner = wrapped
    tensors = {str(key): value for key, value in inner.items() if isinstance(value, Tensor)}
    if not tensors:
        found = ", ".join(map(repr, list(inner)[:4])) or "nothing"
        raise CheckpointError(f"{name} holds no tensors; found {found}.")
    for prefix in _PREFIXES * 2:  # either may be outside
        if all(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    if consume:
        for level in (inner, loaded):
            if isinstance(level, dict):
                level.clear()
    return tensors


def _wrapped(level: Mapping[Any, Any], kind: str | None) -> Mapping[Any, Any] | None:
    for key in (_PREFERRED.get(kind or ""), *_WRAPPERS):
        if isinstance(level.get(key), Mapping):
            return level[key]
    values = list(level.values())
    return values[0] if len(values) == 1 and isinstance(values[0], Mapping) else None
