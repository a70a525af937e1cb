"""Trained networks to the two files that the rest of the package loads.

Matrices and convolutions are stored in half precision, which halves the files and moves logits by less than
bits ever decide on; vectors stay in float32, being small and sensitive.
"""

from __future__ import annotations

import json
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor

from ..config import TokenizerConfig, TransformerConfig, to_dict
from ..errors import CheckpointError
from ..models.tokenizer import VisualTokenizer
from ..models.transformer import VARTransformer

FORMAT = "1"


def half_matrices(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the state with tensors of two or more dimensions in float16, the others as they are."""
    return {
        name: (value.half() if value.ndim > 1 and value.is_floating_point() else value).contiguous()
        for name, value in state_dict.items()
    }


def metadata(kind: str, config: TransformerConfig | TokenizerConfig, note: str) -> dict[str, str]:
    """Return the safetensors metadata of one of our files."""
    return {
        "format": "pt",
        "varestorer.format": FORMAT,
        "varestorer.kind": kind,
        "varestorer.config": json.dumps(to_dict(config)),
        "varestorer.source_sha256": "",
        "varestorer.note": note,
    }


def export_model(model: VARTransformer | VisualTokenizer, path: Path, note: str) -> Path:
    """Write a trained model as safetensors, atomically, and return the path."""
    kind = "transformer" if isinstance(model, VARTransformer) else "tokenizer"
    return _write(model.state_dict(), path, metadata(kind, model.config, note))


def export_adapter(model: VARTransformer, path: Path, note: str) -> Path:
    """Write only the adapters of a student that trained nothing else, and return the path."""
    state = {name: value for name, value in model.state_dict().items() if ".lora_" in name}
    return _write(state, path, metadata("adapter", model.config, note))


def trained_weights(state_file: Path, name: str) -> dict[str, Tensor]:
    """Return the weights of one module of a training state.

    Raises:
        CheckpointError: if that stage has not been trained, or its state is damaged.
    """
    try:
        state = torch.load(state_file, map_location="cpu", weights_only=True)
        return state["modules"][name]
    except (OSError, RuntimeError, KeyError, EOFError, UnpicklingError) as error:
        raise CheckpointError(
            f"This needs the trained {name}, expected in {state_file}: {error}. "
            f"Train it first: varestorer distill {name} --out {state_file.parent.parent}"
        ) from error


def _write(state: dict[str, Tensor], path: Path, note: dict[str, str]) -> Path:
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    values = half_matrices({name: value.detach().cpu() for name, value in state.items()})
    save_file(values, partial, metadata=note)
    partial.replace(path)
    return path
