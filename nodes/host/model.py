"""The transformer as the host manages it: types, devices, offload-aware layers, ModelPatcher."""

from __future__ import annotations

from typing import Any

import comfy.model_management as mm
import comfy.ops
import torch

from ...varestorer_core.assets import TINY_TRANSFORMER
from ...varestorer_core.estimates import transformer_bytes
from .attention import attention
from .files import read_model
from .memory import make_patcher

MODEL_FOLDER = "diffusion_models"
SOURCE_HASH = "varestorer_source_sha256"
"""Attachment of a patcher: the hash of the file that its weights came from, empty if not known."""

WEIGHT_DTYPES: dict[str, torch.dtype | None] = {
    "default": None,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp32": torch.float32,
}
"""Menu of weight types; "default" lets the host decide."""

# fp16 only on request: its range is too small for activations that were trained in bf16.
_SUPPORTED = [torch.bfloat16, torch.float32]


def load_model(name: str, weight_dtype: str) -> Any:
    """Return a ModelPatcher around the transformer of a menu entry.

    Args:
        weight_dtype: a key of `WEIGHT_DTYPES`.

    Raises:
        CheckpointError: if the file is not a VARestorer transformer.
    """
    from ...varestorer_core.checkpoint import load_transformer

    state_dict, metadata = read_model(MODEL_FOLDER, name, TINY_TRANSFORMER)
    load_device, offload_device = mm.get_torch_device(), mm.unet_offload_device()
    parameters = sum(t.numel() for t in state_dict.values() if isinstance(t, torch.Tensor))
    dtype = WEIGHT_DTYPES[weight_dtype]
    if dtype is None:
        dtype = mm.unet_dtype(load_device, parameters, supported_dtypes=_SUPPORTED)
    compute_dtype = mm.unet_manual_cast(dtype, load_device, _SUPPORTED) or dtype
    model = load_transformer(
        state_dict,
        metadata,
        name=name,
        operations=comfy.ops.manual_cast,
        dtype=dtype,
        device=offload_device,
        compute_dtype=compute_dtype,
        attention=attention,
        consume=True,
    )
    # Younger hosts remember the types before the weights move about.
    if hasattr(mm, "archive_model_dtypes"):
        mm.archive_model_dtypes(model)
    patcher = make_patcher(model, load_device, offload_device)
    patcher.set_attachments(SOURCE_HASH, metadata.get("varestorer.source_sha256", ""))
    return patcher


def tile_bytes(transformer: Any, tokens: int) -> int:
    """Return the memory that one tile of that many tokens needs besides the weights."""
    return transformer_bytes(transformer.config, transformer.compute_dtype, tokens)
