"""Reading an adapter file for a loaded network and checking it against its base.

Shapes alone do not distinguish two bases of the same architecture, so if an adapter declares the hash
of its base and that of the network is known, they must agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from torch import Tensor

from ..checkpoint.check import is_finite
from ..checkpoint.identify import SOURCES, describe_kind, identify
from ..checkpoint.keys import rename_tensors
from ..checkpoint.mapped import off_the_map
from ..checkpoint.save import BASE_SHA256
from ..checkpoint.state_dict import unwrap
from ..config import TransformerConfig
from ..errors import CheckpointError
from ..wording import counted
from .factors import LowRank, low_ranks, split_adapter
from .spellings import our_spelling

_SCALES = {True: "with", False: "without"}
# Fields in which a base may differ from the one that the adapter was trained on.
_FREE_FIELDS = {"lora_rank", "lq_prior", "text_rows", "level_rows"}


def adapted_config(base: TransformerConfig, trained: object) -> TransformerConfig:
    """Return the configuration of a base with an adapter.

    Args:
        trained: configuration in the adapter's file, if any. A student that was trained without attention to finer
            scales also restores without it.
    """
    if isinstance(trained, TransformerConfig) and not trained.cross_scale:
        return replace(base, cross_scale=False)
    return base


def load_adapter(
    state_dict: Mapping[str, Any],
    metadata: Mapping[str, str] | None,
    base: Mapping[str, Tensor],
    config: TransformerConfig,
    *,
    base_sha256: str = "",
    name: str = "The file",
) -> dict[str, LowRank]:
    """Return the corrections of an adapter file, by the module that they correct.

    Args:
        state_dict: low-rank factors, by official names, ours or those of other programs, possibly nested; or a whole
            model with adapters, such as varestorer.pth, of which only the adapters are used.
        metadata: of a safetensors file.
        base: parameters of the network by our names; only their shapes are used.
        config: of the network.
        base_sha256: of the file that the network was loaded from; empty if not known.
        name: of the adapter file, for messages.

    Raises:
        CheckpointError: if it is not an adapter, damaged, or for another network.
    """
    metadata = metadata or {}
    tensors = unwrap(state_dict, "transformer", name=name)
    try:
        tensors = our_spelling(tensors, metadata)
    except CheckpointError as error:
        raise CheckpointError(f"{name} cannot be used: {error}") from error
    info = identify(tensors, metadata)
    inside = info.kind == "transformer" and info.counts.lora > 0
    if info.kind != "adapter" and not inside:
        raise CheckpointError(
            f"{name} is {info.description}, expected {describe_kind('adapter')}. Use "
            f"{SOURCES['adapter']}."
        )
    if info.problems:
        raise CheckpointError(f"{name} cannot be used: {' '.join(info.problems)}")
    wanted = metadata.get(BASE_SHA256, "")
    if wanted and base_sha256 and wanted != base_sha256:
        raise CheckpointError(
            f"{name} was trained on another base, the file with SHA-256 {wanted[:12]}..., but this "
            f"model is from {base_sha256[:12]}.... Load the model that it was trained on."
        )
    # Fields that files of other programs do not declare, such as the pixel class, are only a guess.
    if isinstance(info.config, TransformerConfig) and metadata.get("varestorer.config"):
        _check_config(info.config, config, name)
    factors = split_adapter(rename_tensors(tensors, info.kind))[1]
    # They stay in use as long as the model.
    factors = {key: off_the_map(tensor) for key, tensor in factors.items()}
    broken = [key for key, tensor in factors.items() if not is_finite(tensor)]
    if broken:
        raise CheckpointError(
            f"{name} has {counted(len(broken), 'factor')} with NaN or infinite values (first: "
            f"{broken[0]}). It is damaged, or its training failed."
        )
    try:
        return low_ranks(base, factors)
    except CheckpointError as error:
        raise CheckpointError(f"{name} cannot be used: {error}") from error


def _check_config(made_for: TransformerConfig, config: TransformerConfig, name: str) -> None:
    for entry in fields(config):
        expected, found = getattr(made_for, entry.name), getattr(config, entry.name)
        if entry.name == "cross_scale" and expected != found:
            raise CheckpointError(
                f"{name} is for a model that is used {_SCALES[expected]} cross-scale attention, but this one works "
                f"{_SCALES[found]} it. Use it alone on its base."
            )
        if entry.name not in _FREE_FIELDS and expected != found:
            raise CheckpointError(
                f"{name} is for another model: one with {entry.name} {expected}, but this one has "
                f"{found}. Load the model that it was trained on."
            )
