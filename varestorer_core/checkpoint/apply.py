"""Adapters onto a network that is loaded already, in place."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ..models.transformer import VARTransformer
from .adapter import LowRank, merged_tensor


@torch.no_grad()
def apply_adapter(
    model: VARTransformer, owners: Mapping[str, LowRank], strength: float = 1.0
) -> None:
    """Add an adapter's corrections to the network's weights, each computed in float32.

    Several in a row add up. The network must have no adapters as separate weights.

    Args:
        owners: corrections by the module that they correct, from `load_adapter`.
        strength: 0 leaves the network exactly as it is, 1 adds what was trained.
    """
    for name, parameter in model.named_parameters():
        merged = merged_tensor(name, parameter.data, owners, strength)
        # A new tensor, since the old one may be a mapped file.
        parameter.data = merged.to(parameter.dtype)
