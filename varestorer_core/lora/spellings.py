"""Conversion of other programs' adapter keys to ours.

    PEFT            base_model.model.X.lora_A.weight, X.lora_A.default.weight
    diffusers       transformer.X.lora_A.weight, X.lora.down.weight
    kohya           lora_unet_X_with_underscores.lora_down.weight, and X.alpha
    ComfyUI         diffusion_model.X.lora_down.weight

A lora_A is our lora_down. An alpha means a factor alpha / rank, which ours do not have: it goes into lora_up.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from ..errors import CheckpointError
from ..wording import shown

_FACTOR = re.compile(
    r"^(?P<owner>.+?)\.(?:lora_(?P<ours>down|up)|lora_(?P<peft>[AB])|lora\.(?P<dotted>down|up))"
    r"(?:\.\w+)?\.weight$"
)
_PREFIXES = re.compile(
    r"^(?:base_model\.model\.|transformer\.|unet\.|diffusion_model\.|model\.|module\.)+"
)
_KOHYA = re.compile(
    r"^(?:lora_(?:unet|transformer)_)(?:block_chunks_(\d+)_module_(\d+)|blocks_(\d+))_(sa|ca|ffn)_(\w+)$"
)
_OWNER = re.compile(r"^(?:block_chunks\.\d+\.module|blocks)\.\d+\.(?:sa|ca|ffn)\.\w+$")


def our_spelling(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the factors of an adapter by the names of our files; anything else comes back as it is.

    Raises:
        CheckpointError: if an alpha is not one finite number.
    """
    factors: dict[tuple[str, str], Tensor] = {}
    alphas: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        match = _FACTOR.match(name)
        if match is None:
            if not name.endswith(".alpha"):
                return dict(tensors)
            alphas[_owner(name.removesuffix(".alpha"))] = tensor
            continue
        owner = _owner(match["owner"])
        if _OWNER.match(owner) is None:
            return dict(tensors)  # of another network, which `identify` names
        side = match["ours"] or match["dotted"] or {"A": "down", "B": "up"}[match["peft"]]
        factors[owner, side] = tensor
    result: dict[str, Tensor] = {}
    for (owner, side), tensor in factors.items():
        if side == "up" and owner in alphas:
            tensor = tensor * (_number(alphas[owner], owner) / tensor.shape[1])
        result[f"{owner}.lora_{side}.weight"] = tensor
    return result


def _owner(name: str) -> str:
    """Return the module that a foreign name is of, by the official or by our name."""
    name = _PREFIXES.sub("", name)
    match = _KOHYA.match(name)
    if match is None:
        return name
    chunk, module, block, part, rest = match.groups()
    start = f"blocks.{block}" if block is not None else f"block_chunks.{chunk}.module.{module}"
    return f"{start}.{part}.{rest}"


def _number(alpha: Tensor, owner: str) -> float:
    value = float(alpha) if alpha.numel() == 1 else float("nan")
    if not abs(value) < float("inf"):
        raise CheckpointError(f"the adapter's alpha of {shown(owner)} is not one finite number.")
    return value
