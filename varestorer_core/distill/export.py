"""Trained networks to the files that the rest of the package loads.

Matrices and convolutions are stored in half precision, which halves the files and moves logits by less than
bits ever decide on; vectors stay in float32, being small and sensitive. Loaders compute in float32 again.
"""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor

from ..checkpoint.save import save_safetensors
from ..errors import CheckpointError
from ..models.tokenizer import VisualTokenizer
from ..models.transformer import VARTransformer


def half_matrices(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the state with tensors of two or more dimensions in float16, the others as they are."""
    return {
        name: (value.half() if value.ndim > 1 else value).detach().cpu().contiguous()
        for name, value in state_dict.items()
    }


def export_model(model: VARTransformer | VisualTokenizer, path: Path, note: str) -> Path:
    """Write a trained model and return the path."""
    kind = "transformer" if isinstance(model, VARTransformer) else "tokenizer"
    path.parent.mkdir(parents=True, exist_ok=True)
    state = half_matrices(model.state_dict())
    save_safetensors(state, path, kind=kind, config=model.config, note=note)
    return path


def export_adapter(model: VARTransformer, path: Path, note: str) -> Path:
    """Write only the adapters of a student that trained nothing else, and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {name: value for name, value in model.state_dict().items() if ".lora_" in name}
    save_safetensors(half_matrices(state), path, kind="adapter", config=model.config, note=note)
    return path


def trained_weights(state_file: Path, name: str) -> dict[str, Tensor]:
    """Return the weights of one module of a training state.

    Raises:
        CheckpointError: if that stage has not been trained, or its state is damaged.
    """
    try:
        state = torch.load(state_file, map_location="cpu", weights_only=True)
        # Averaged weights, where a run has them, are its result.
        return {**state["modules"][name], **state.get("ema", {}).get(name, {})}
    except (OSError, RuntimeError, KeyError, EOFError, UnpicklingError) as error:
        raise CheckpointError(
            f"This needs the trained {name}, expected in {state_file}: {error}. "
            f"Train it first: varestorer distill {name} --out {state_file.parent.parent}"
        ) from error
