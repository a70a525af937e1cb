"""The transformer managed by the host: dtypes, devices, offload-aware layers, ModelPatcher."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import comfy.model_management as mm
import comfy.ops
import torch

from ...varestorer_core.assets import TINY_TRANSFORMER
from ...varestorer_core.errors import SettingError
from ...varestorer_core.estimates import transformer_bytes
from .attention import attention, is_fused
from .files import BUNDLED, read_model
from .memory import make_patcher

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

MODEL_FOLDER = "diffusion_models"
SOURCE_HASH = "varestorer_source_sha256"
"""Attachment of a patcher: the hash of the file that its weights came from, empty if unknown."""

_COMPILED = "varestorer_compiled"
"""Attachment of a patcher: whether its model is compiled when it runs."""

WEIGHT_DTYPES: dict[str, torch.dtype | None] = {
    "default": None,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp32": torch.float32,
}
"""Menu of weight dtypes; with "default" the host decides."""

# Named as in the host's own loaders; absent if PyTorch lacks the dtype. The host's fp8_e4m3fn_fast would round
# activations too, and fp8_e5m2 is coarser: bits are decided by sign.
if hasattr(torch, "float8_e4m3fn"):
    WEIGHT_DTYPES["fp8_e4m3fn"] = torch.float8_e4m3fn

# fp16 only on request: its range is too small for the activations of a model trained in bf16.
_SUPPORTED = [torch.bfloat16, torch.float32]


def load_model(name: str, weight_dtype: str, *, compiling: bool = False) -> Any:
    """Return a ModelPatcher around the transformer of a menu entry.

    Args:
        weight_dtype: a key of `WEIGHT_DTYPES`.
        compiling: compile the model when it runs.

    Raises:
        CheckpointError: if the file is not a VARestorer transformer.
        SettingError: if the device does not support the dtype or compilation.
    """
    from ...varestorer_core.checkpoint import load_transformer
    from ...varestorer_core.compiling import check_compiling

    load_device, offload_device = mm.get_torch_device(), mm.unet_offload_device()
    asked = WEIGHT_DTYPES[weight_dtype]
    if asked is not None:
        require_type(asked, load_device, weight_dtype)
    if compiling:
        check_compiling(load_device)
    state_dict, metadata = read_model(MODEL_FOLDER, name, {BUNDLED: TINY_TRANSFORMER})
    parameters = sum(t.numel() for t in state_dict.values() if isinstance(t, torch.Tensor))
    dtype = asked
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
    # Newer ComfyUI versions record the dtypes before the weights are moved.
    if hasattr(mm, "archive_model_dtypes"):
        mm.archive_model_dtypes(model)
    patcher = make_patcher(model, load_device, offload_device)
    patcher.set_attachments(SOURCE_HASH, metadata.get("varestorer.source_sha256", ""))
    patcher.set_attachments(_COMPILED, compiling)
    return patcher


def require_type(dtype: torch.dtype, device: torch.device, name: str) -> None:
    """Check that a device can store and cast weights of a dtype, before any file is read.

    Raises:
        SettingError: if it cannot store or cast them.
    """
    try:
        torch.zeros(1, dtype=dtype).to(device).float()
    except (RuntimeError, TypeError) as error:  # Apple's devices have no float8
        raise SettingError(
            f"The device {device} cannot hold weights in {name}. Set weight_dtype of Load VARestorer "
            "Model to default."
        ) from error


def compile_options(patcher: ModelPatcher) -> dict[str, Any] | None:
    """Return the options of `torch.compile` for a model, or None if it is not to be compiled."""
    return {} if patcher.get_attachment(_COMPILED) else None


def tile_bytes(patcher: ModelPatcher, tokens: int, keys: int | None = None) -> int:
    """Return the memory in bytes that one tile of `tokens` tokens needs besides the weights.

    Args:
        keys: number of tokens that they attend to; default `tokens`.
    """
    model, fused = patcher.model, is_fused(patcher.load_device)
    return transformer_bytes(model.config, model.compute_dtype, tokens, fused=fused, keys=keys)
