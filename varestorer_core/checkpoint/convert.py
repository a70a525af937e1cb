"""Conversion of official files to our safetensors: renamed, cast and described, one tensor at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..config import TransformerConfig
from ..errors import CheckpointError, VARestorerError
from ..lora.factors import split_adapter
from ..lora.spellings import our_spelling
from .check import expected_parameters, is_finite
from .examine import network_problems, unused_parameters
from .files import read_checkpoint
from .identify import CheckpointInfo, identify
from .keys import rename_tensors
from .safetensors_file import TensorSource, write_safetensors
from .save import checked_path, file_metadata, sha256

DTYPES: dict[str, torch.dtype | None] = {
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp32": torch.float32,
    "keep": None,
}
"""Dtypes that a file can be stored in; None keeps those of the source."""


def convert(
    source: str | Path,
    destination: str | Path,
    *,
    dtype: str | None = None,
    adapter_only: bool = False,
    pixel_class: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> CheckpointInfo:
    """Write a checkpoint as one safetensors file with its configuration.

    Adapters stay separate weights. Parameters that the official code keeps in float32 (everything outside the
    transformer's blocks, and vectors) are stored unchanged, since casting them would change results.

    Args:
        source: a file, or the folder of a text encoder, of which the encoder part is written.
        destination: must end in ".safetensors"; it may exist, but must not be the source.
        dtype: a key of `DTYPES`; default "bf16" for transformers and adapters, else "keep".
        adapter_only: write the adapter of a transformer, without its base.
        pixel_class: of the tiles that the written transformer works on, in place of the source's.
        on_progress: called with bytes written and in all.

    Raises:
        VARestorerError: if the source is not a usable checkpoint or the destination cannot be written.
    """
    source, destination = Path(source), checked_path(destination)
    if source.name.endswith(".index.json"):
        source = source.parent
    if destination.exists() and source.exists() and destination.samefile(source):
        raise VARestorerError(f"{destination} is the source itself. Choose another name.")
    tensors, metadata = read_checkpoint(source)
    try:
        tensors = our_spelling(tensors, metadata)
    except CheckpointError as error:
        raise CheckpointError(f"{source.name} cannot be converted: {error}") from error
    info = identify(tensors, metadata)
    if info.problems:
        raise CheckpointError(f"{source.name} cannot be converted: {' '.join(info.problems)}")
    kind, config = info.kind, info.config
    if pixel_class is not None:
        if not isinstance(config, TransformerConfig) or adapter_only:
            raise CheckpointError(
                f"{source.name}: a pixel class belongs to a whole transformer, this is {info.description}"
                f"{' without its base' if adapter_only else ''}."
            )
        config = replace(config, pixel_class=pixel_class)
    tensors = rename_tensors(tensors, kind)
    if problems := network_problems(tensors, info):
        raise CheckpointError(f"{source.name} does not fit its architecture: {' '.join(problems)}")
    unused = set(unused_parameters(tensors, info))
    tensors = {name: tensor for name, tensor in tensors.items() if name not in unused}
    if adapter_only:
        _, tensors = split_adapter(tensors)
        if kind != "transformer" or not tensors:
            raise CheckpointError(
                f"{source.name} is {info.description} without adapters, so there is none to write. "
                "Convert the whole model instead."
            )
        kind = "adapter"
    if dtype is None:
        dtype = "bf16" if kind in ("transformer", "adapter") else "keep"
    targets = _target_types(tensors, info, DTYPES[dtype])
    sources = [
        TensorSource(name, targets[name], tuple(tensor.shape), _cast(name, tensor, targets[name]))
        for name, tensor in tensors.items()
    ]
    note = f"Converted from {source.name} ({info.layout} layout)."
    described = file_metadata(kind, config, sha256(source), note)
    write_safetensors(destination, sources, described, on_progress)
    return identify(*read_checkpoint(destination))


def _target_types(
    tensors: Mapping[str, Tensor], info: CheckpointInfo, target: torch.dtype | None
) -> dict[str, torch.dtype]:
    """Return the dtype in which each tensor is stored."""
    like: Mapping[str, Tensor] = {}
    if isinstance(info.config, TransformerConfig) and target not in (None, torch.float32):
        like = expected_parameters(info.config, target)
    types: dict[str, torch.dtype] = {}
    for name, tensor in tensors.items():
        stays = name in like and like[name].dtype != target
        cast = target is not None and tensor.is_floating_point() and not stays
        types[name] = target if cast and target is not None else tensor.dtype
    return types


def _cast(name: str, tensor: Tensor, dtype: torch.dtype) -> Callable[[], Tensor]:
    """Return a function that casts the tensor to store, so that only one cast copy exists at a time."""

    def make() -> Tensor:
        cast = tensor.to(dtype)
        if not is_finite(cast):
            raise CheckpointError(
                f"{name} has values that are NaN, infinite or beyond the range of {dtype}. "
                "Nothing was written; download the file again, or use bf16."
            )
        return cast

    return make
