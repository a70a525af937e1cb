"""Export of trained networks to the files that the rest of the package loads.

Matrices and convolutions are stored in half precision, which halves the files and changes logits by too little to
change bits; vectors, which are small and sensitive, stay in float32. Loaders compute in float32 again.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoint.check import is_finite
from ..checkpoint.save import save_safetensors
from ..config import TransformerConfig
from ..errors import CheckpointError
from ..lora.factors import LORA_SUFFIXES
from ..lora.recommended import RECOMMENDED, Recommended
from ..models.tokenizer import VisualTokenizer
from ..models.transformer import VARTransformer
from ..regular import check_regular
from .state import read_state


def half_matrices(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state with tensors of two or more dimensions in float16, the others unchanged.

    Raises:
        CheckpointError: for values that are NaN, infinite or beyond float16.
    """
    halved = {
        name: (value.half() if value.ndim > 1 else value).detach().cpu().contiguous()
        for name, value in state_dict.items()
    }
    _check_values(halved)
    return halved


def _check_values(state_dict: Mapping[str, Tensor]) -> None:
    """Raise an error for weights that no loader would accept."""
    broken = [name for name, value in state_dict.items() if not is_finite(value)]
    if broken:
        raise CheckpointError(
            f"{len(broken)} trained tensors have values that are NaN, infinite or beyond float16 (first: {broken[0]}), "
            "so nothing was exported. Train again with a lower --learning-rate."
        )


def export_model(
    model: VARTransformer | VisualTokenizer,
    path: Path,
    note: str,
    training: Mapping[str, Any] | None = None,
) -> Path:
    """Write a trained model and return the path.

    Args:
        training: settings of the training, for the file's metadata.
    """
    kind = "transformer" if isinstance(model, VARTransformer) else "tokenizer"
    path.parent.mkdir(parents=True, exist_ok=True)
    state = half_matrices(model.state_dict())
    save_safetensors(state, path, kind=kind, config=model.config, note=note, training=training)
    return path


def export_base(teacher: VARTransformer, path: Path, note: str) -> str:
    """Write a teacher as the base of an adapter, in full precision, and return the hash that names it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().cpu() for name, value in teacher.state_dict().items()}
    _check_values(state)
    identity = weights_sha256(state)
    save_safetensors(
        state, path, kind="transformer", config=teacher.config, source_sha256=identity, note=note
    )
    return identity


def export_adapter(
    factors: Mapping[str, Tensor],
    config: TransformerConfig,
    path: Path,
    note: str,
    *,
    base_sha256: str,
    metrics: Mapping[str, float] | None = None,
    training: Mapping[str, Any] | None = None,
    recommended: Recommended | None = None,
) -> Path:
    """Write the adapters of a student without other trained weights, and return the path.

    Args:
        factors: factors by our names; other tensors are ignored.
        config: configuration of the student.
        base_sha256: hash of the base that they were trained on; loaders reject another.
        metrics, training: for the file's metadata.
        recommended: task and settings, which are the defaults when restoring with the adapter.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {name: value for name, value in factors.items() if name.endswith(LORA_SUFFIXES)}
    save_safetensors(
        half_matrices(state),
        path,
        kind="adapter",
        config=config,
        base_sha256=base_sha256,
        note=note,
        metrics=metrics,
        training=training,
        more=None if recommended is None else {RECOMMENDED: recommended.as_metadata()},
    )
    return path


def has_trained(state_file: Path, name: str) -> bool:
    """Return whether there is a training state with a module of that name.

    Raises:
        CheckpointError: if the state is damaged.
    """
    if not state_file.exists():
        return False
    try:
        state = read_state(state_file, mapped=True)
        return name in state["modules"]
    except Exception as error:  # a damaged file raises errors of many classes
        raise CheckpointError(
            f"The training state {state_file} cannot be read ({error}). Train the stage again with --overwrite."
        ) from error


def trained_weights(state_file: Path, name: str) -> dict[str, Tensor]:
    """Return the weights of one module of a training state.

    Raises:
        CheckpointError: if that stage has not been trained, or its state is damaged.
    """
    try:
        state = read_state(state_file)
        # The averaged weights are the result of a run that has them.
        return {**state["modules"][name], **state.get("ema", {}).get(name, {})}
    except Exception as error:  # a damaged file raises errors of many classes
        raise CheckpointError(
            f"This needs the trained {name}, expected in {state_file}: {error}. "
            f"Train it first: varestorer distill {name} --out {state_file.parent.parent}"
        ) from error


def last_figures(log: Path) -> dict[str, float]:
    """Return the last step and validation metrics in a stage's log.csv; empty without a log."""
    figures: dict[str, float] = {}
    if not log.exists():
        return figures
    check_regular(log, CheckpointError)
    with log.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["name"].startswith("val_"):
                figures["step"] = int(row["step"]) + 1  # rows are numbered from 0
                figures[row["name"]] = float(row["value"])
    return figures


def last_step(log: Path) -> int:
    """Return the last step in a stage's log.csv; 0 without a log."""
    if not log.exists():
        return 0
    check_regular(log, CheckpointError)
    with log.open(newline="") as file:
        return max((int(row["step"]) + 1 for row in csv.DictReader(file)), default=0)


def weights_sha256(state_dict: Mapping[str, Tensor]) -> str:
    """Return a hash of names, dtypes, shapes and values, for weights without a file."""
    digest = hashlib.sha256()
    for name, value in sorted(state_dict.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
