"""Writing of networks and adapters as self-describing safetensors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..config import TokenizerConfig, TransformerConfig, to_dict
from ..errors import VARestorerError
from ..lora.factors import V_BIAS_RULE
from .safetensors_file import TensorSource, write_safetensors

BASE_SHA256 = "varestorer.base_sha256"
"""Metadata key of an adapter for the SHA-256 of the file that it was trained on."""

METRICS = "varestorer.metrics"
"""Metadata key of the metrics measured in an adapter's training, as JSON."""

TRAINING = "varestorer.training"
"""Metadata key of the settings, data and versions that a file was trained with, as JSON."""

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


def sha256(path: Path, on_progress: Callable[[int], None] | None = None) -> str:
    """Return the SHA-256 of a file, or of a folder's shards in the order of their names."""
    digest = hashlib.sha256()
    files = [path]
    if path.is_dir():
        files = sorted(f for f in path.iterdir() if f.suffix in (_SUFFIX, ".bin"))
    for file in files:
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 24):
                digest.update(chunk)
                if on_progress is not None:
                    on_progress(len(chunk))
    return digest.hexdigest()
