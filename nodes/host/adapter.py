"""Adapters as ComfyUI weight patches: they are merged when the model is loaded onto its device.

The factors are ordinary LoRA patches. The biases that an adapter scales are not: the host patches
and moves only parameters of leaf modules, and silently drops a patch on a parameter of a module that
has child modules, such as `ca.v_bias`. Those few vectors become object patches instead, which the
host applies and removes together with the weights. So does the configuration if the adapter belongs
to a student without cross-scale attention.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfy.weight_adapter import LoRAAdapter
from torch import nn

from ...varestorer_core.assets import ADAPTERS, adapter_file
from ...varestorer_core.config import recommended_detail
from .files import BUNDLED_ADAPTER, read_model
from .model import SOURCE_HASH

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

ADAPTER_FOLDER = "loras"
BUNDLED_ADAPTERS = {
    BUNDLED_ADAPTER.format(name.replace("_", " ")): adapter_file(name) for name in ADAPTERS
}
"""Files of the bundled adapters by their menu entries; they belong to the bundled model."""

_RECOMMENDED = "varestorer_recommended"
"""Attachment of a patcher: the settings that its adapters recommend, by name."""


def clone_with_adapter(patcher: ModelPatcher, name: str, strength: float) -> ModelPatcher:
    """Return a clone of a model with an adapter added; the model itself is not changed.

    Args:
        patcher: from `load_model`, with or without adapters.
        name: menu entry of an adapter, or of a model that contains one, such as varestorer.pth.
        strength: 0 is exactly the model, 1 the fully adapted one.

    Raises:
        CheckpointError: if the file is not an adapter, or is an adapter for another model.
    """
    from ...varestorer_core.checkpoint import identify, unwrap
    from ...varestorer_core.lora.factors import text_biases
    from ...varestorer_core.lora.file import adapted_config, load_adapter
    from ...varestorer_core.lora.recommended import recommended_by

    patched = patcher.clone()
    state_dict, metadata = read_model(ADAPTER_FOLDER, name, BUNDLED_ADAPTERS)
    config = patcher.get_model_object("config")
    trained = identify(unwrap(state_dict, "transformer", name=name), metadata).config
    config = adapted_config(config, trained)
    owners = load_adapter(
        state_dict,
        metadata,
        patcher.model.state_dict(),
        config,
        base_sha256=patcher.get_attachment(SOURCE_HASH) or "",
        name=name,
    )
    if strength == 0:
        return patched
    recommended = recommended_by(metadata, name).settings
    patched.set_attachments(_RECOMMENDED, {**_recommended_by_adapters(patcher), **recommended})
    # No alpha: the factors are at scale 1.
    patches = {
        f"{owner}.weight": LoRAAdapter(set(), (pair.up, pair.down, None, None, None, None))
        for owner, pair in owners.items()
    }
    patched.add_patches(patches, strength)
    for bias in text_biases(owners):
        # Apply to the model with its previous adapters; scales multiply.
        value = patcher.get_model_object(bias).detach()
        faded = nn.Parameter(value * (1 - strength), requires_grad=False)
        patched.add_object_patch(bias, faded)
    if config != patcher.get_model_object("config"):
        patched.add_object_patch("config", config)
    return patched


def recommendation_text(patcher: ModelPatcher) -> str:
    """Return the settings that the adapters of a model recommend as text; empty if there are none."""
    settings = _recommended_by_adapters(patcher)
    return ", ".join(f"{name} {value}" for name, value in settings.items())


def recommended_for(patcher: ModelPatcher) -> dict[str, Any]:
    """Return the settings that suit a model with its adapters, by name; later adapters take precedence."""
    detail = recommended_detail(patcher.model.config)
    return {"detail": detail, **_recommended_by_adapters(patcher)}


def _recommended_by_adapters(patcher: ModelPatcher) -> dict[str, Any]:
    return patcher.get_attachment(_RECOMMENDED) or {}
