"""Writing of self-describing safetensors: networks and adapters in memory, and official files, one tensor at a time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..config import TokenizerConfig, TransformerConfig, to_dict
from ..errors import CheckpointError, VARestorerError
from ..lora.factors import V_BIAS_RULE, split_adapter
from ..lora.recommended import RECOMMENDED
from ..lora.spellings import our_spelling
from .check import expected_parameters, is_finite
from .examine import network_problems, unused_parameters
from .files import read_checkpoint
from .identify import CheckpointInfo, identify
from .keys import rename_tensors
from .safetensors_file import TensorSource, write_safetensors

BASE_SHA256 = "varestorer.base_sha256"
"""Metadata key of an adapter for the SHA-256 of the file that it was trained on."""

METRICS = "varestorer.metrics"
"""Metadata key of the metrics measured in an adapter's training, as JSON."""

TRAINING = "varestorer.training"
"""Metadata key of the settings, data and versions that a file was trained with, as JSON."""

_KEPT = (BASE_SHA256, METRICS, TRAINING, RECOMMENDED)
"""Metadata of a file of ours that a converted file keeps."""

DTYPES: dict[str, torch.dtype | None] = {
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp32": torch.float32,
    "keep": None,
}
"""Dtypes that a file can be stored in; None keeps those of the source."""

_SUFFIX = ".safetensors"


def save_safetensors(
    state_dict: Mapping[str, Tensor],
    path: str | Path,
    *,
    kind: str,
    config: TransformerConfig | TokenizerConfig | None,
    source_sha256: str = "",
    base_sha256: str = "",
    note: str = "",
    metrics: Mapping[str, float] | None = None,
    training: Mapping[str, Any] | None = None,
    more: Mapping[str, str] | None = None,
) -> None:
    """Write parameters by our names; the file appears complete or not at all.

    Args:
        state_dict: parameters of a model, or factors of an adapter.
        path: must end in ".safetensors".
        kind: "transformer", "tokenizer" or "adapter".
        config: of the network, or of the transformer that an adapter fits.
        source_sha256: of the file that this one was made from.
        base_sha256: of the file that an adapter was trained on.
        note: text for readers.
        metrics: metrics measured in training.
        training: settings, data and versions of the training.
        more: further entries of the metadata.

    Raises:
        VARestorerError: if the file cannot be written.
    """
    sources = [
        TensorSource(name, tensor.dtype, tuple(tensor.shape), lambda tensor=tensor: tensor)
        for name, tensor in state_dict.items()
    ]
    metadata = file_metadata(kind, config, source_sha256, note, base_sha256)
    if metrics:
        metadata[METRICS] = json.dumps(dict(metrics))
    if training:
        metadata[TRAINING] = json.dumps(dict(training))
    write_safetensors(checked_path(path), sources, {**metadata, **(more or {})})


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
        pixel_class: pixel class of the written transformer's tiles, instead of the source's.
        on_progress: called with (bytes written, bytes in total).

    Returns:
        What `identify` finds in the written file.

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
                f"{source.name}: a pixel class needs a whole transformer, but this is {info.description}"
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
    kept = {}
    if kind == info.kind:
        note = f"{note} {metadata.get('varestorer.note', '')}".strip()
        kept = {key: metadata[key] for key in _KEPT if key in metadata}
    described = {**file_metadata(kind, config, sha256(source), note), **kept}
    write_safetensors(destination, sources, described, on_progress)
    return identify(*read_checkpoint(destination))


def file_metadata(
    kind: str,
    config: TransformerConfig | TokenizerConfig | None,
    source_sha256: str = "",
    note: str = "",
    base_sha256: str = "",
) -> dict[str, str]:
    """Return the metadata that `identify` and the loaders read."""
    metadata = {
        "varestorer.format": "1",
        "varestorer.kind": kind,
        "varestorer.config": json.dumps(to_dict(config) if config else {}),
        "varestorer.source_sha256": source_sha256,
        "varestorer.note": note,
    }
    if kind == "adapter":
        metadata["varestorer.v_bias"] = V_BIAS_RULE
        if base_sha256:
            metadata[BASE_SHA256] = base_sha256
    return metadata


def checked_path(path: str | Path) -> Path:
    """Return the path if it has the suffix of the format."""
    path = Path(path)
    if path.suffix != _SUFFIX:
        raise VARestorerError(f"The file to write must end in {_SUFFIX}, got {path.name!r}.")
    return path


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, or of a folder's shards in the order of their names."""
    digest = hashlib.sha256()
    files = [path]
    if path.is_dir():
        files = sorted(f for f in path.iterdir() if f.suffix in (_SUFFIX, ".bin"))
    for file in files:
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 24):
                digest.update(chunk)
    return digest.hexdigest()


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
