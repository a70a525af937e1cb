"""The state dict in what a loader returned: unwrapping, and checks of which tensors can be parameters of a network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..wording import shown
from .safetensors_file import MOST_TENSORS, too_many

# A checkpoint is a bare state dict, one under a key, one beside the state of a training run, or from a wrapped module.
_NETWORKS = ("gpt_fsdp", "gpt_wo_ddp", "infinity", "vae")
_WRAPPERS = ("state_dict", "params_ema", "params", "trainer", *_NETWORKS)
_PREFIXES = ("module.", "_orig_mod.")
_WRAPPED_LAYER = "_fsdp_wrapped_module."
# A training run stores the student next to its tokenizer; a caller that needs the tokenizer passes `kind`.
_PREFERRED = {"transformer": "infinity", "tokenizer": "vae"}
_DEEPEST = 8
"""Most levels of dictionaries around the tensors; a pickle can contain itself."""

_DTYPES = {
    dtype
    for name in (
        *("float64", "float32", "float16", "bfloat16"),
        *("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"),
        *("int64", "int32", "int16", "int8", "uint8", "bool"),
    )
    if (dtype := getattr(torch, name, None)) is not None
}
"""Types that parameters and masks of a network can have. PyTorch lacks operations for the others."""

_MOST_TIES = 4
"""Most bytes of all tensors, relative to those that are stored."""


def unwrap(
    loaded: Any, kind: str | None = None, *, name: str = "The file", consume: bool = False
) -> dict[str, Tensor]:
    """Return the tensors by their bare names, in a new dictionary.

    Args:
        loaded: the object that a loader returned.
        kind: "transformer" or "tokenizer", to choose if a file holds both.
        name: of the file, for messages.
        consume: empty the given dictionary, so that only the result keeps the tensors in memory.

    Raises:
        CheckpointError: if there are no tensors.
    """
    if not isinstance(loaded, Mapping):
        raise CheckpointError(
            f"{name} holds a {type(loaded).__name__}, expected a dictionary of tensors."
        )
    levels = _levels(loaded, kind, name)
    inner = levels[-1]
    tensors = {str(key): value for key, value in inner.items() if isinstance(value, Tensor)}
    if not tensors:
        found = ", ".join(
            shown(repr(key)) for key in list(inner)[:4] if isinstance(key, (str, int))
        )
        raise CheckpointError(f"{name} holds no tensors; found {found or 'nothing'}.")
    if len(tensors) > MOST_TENSORS:
        raise CheckpointError(too_many(name, len(tensors)))
    for key, value in tensors.items():
        if problem := tensor_problem(value):
            raise CheckpointError(
                f"{name} cannot be used: {shown(key)} is {problem}, expected plain values. It is damaged, or was "
                "saved in a special way; use the official file."
            )
    if problem := sharing_problem(tensors.values()):
        raise CheckpointError(f"{name} cannot be used: {problem}. Use the official file.")
    if any(_WRAPPED_LAYER in key for key in tensors):
        tensors = {key.replace(_WRAPPED_LAYER, ""): value for key, value in tensors.items()}
    for prefix in _PREFIXES * 2:  # in either order
        if all(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    if consume:
        for level in (inner, loaded):
            if isinstance(level, dict):
                level.clear()
    return tensors


def _levels(loaded: Mapping[Any, Any], kind: str | None, name: str) -> list[Mapping[Any, Any]]:
    """Return the dictionaries from the outermost to the one with the tensors."""
    levels = [loaded]
    while (wrapped := _wrapped(levels[-1], kind)) is not None:
        levels.append(wrapped)
        if len(levels) > _DEEPEST:
            raise CheckpointError(
                f"{name} holds dictionaries within dictionaries, or itself, and no tensors near the top. It is not a "
                "checkpoint."
            )
    return levels


def _wrapped(level: Mapping[Any, Any], kind: str | None) -> Mapping[Any, Any] | None:
    for key in (_PREFERRED.get(kind or ""), *_WRAPPERS):
        if isinstance(level.get(key), Mapping):
            return level[key]
    values = list(level.values())
    return values[0] if len(values) == 1 and isinstance(values[0], Mapping) else None


def tensor_problem(tensor: Tensor) -> str:
    """Return why a tensor of a file cannot be a parameter; empty if it can.

    Only tensors whose every element is stored pass, so that no later size can exceed that of the file.
    """
    if tensor.layout != torch.strided or tensor.is_nested:
        return "a sparse or nested tensor"
    if tensor.dtype not in _DTYPES:
        return f"of the type {tensor.dtype}"
    if type(tensor) not in (Tensor, torch.nn.Parameter):
        return f"a {type(tensor).__name__}"
    if tensor.is_meta:
        return "a tensor without values"
    stored = tensor.untyped_storage().nbytes()
    if tensor.numel() * tensor.element_size() > stored:
        return f"a tensor of shape {shown(tuple(tensor.shape))} with {stored} bytes behind it"
    return ""


def sharing_problem(tensors: Iterable[Tensor]) -> str:
    """Return why tensors are much larger than what is stored for them; empty if they are not.

    Tied parameters share their values, so each may be stored once and used a few times. Many views of one storage would
    make a small file a network of any size.
    """
    used, stored = 0, dict[int, int]()
    for tensor in tensors:
        storage = tensor.untyped_storage()
        stored[storage.data_ptr()] = storage.nbytes()
        used += tensor.numel() * tensor.element_size()
    if used <= _MOST_TIES * sum(stored.values()):
        return ""
    return f"its tensors share {sum(stored.values()):,} bytes, but would take {used:,}"
