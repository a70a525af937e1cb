"""Conversion of other programs' adapter keys to ours.

    PEFT            base_model.model.X.lora_A.weight, X.lora_A.default.weight
    diffusers       transformer.X.lora_A.weight, X.lora.down.weight
    kohya           lora_unet_X_with_underscores.lora_down.weight, and X.alpha
    ComfyUI         diffusion_model.X.lora_down.weight

Their lora_A is our lora_down. An alpha, of the file or of `scaling`, stands for a factor alpha / rank, which ours do
not have; it is multiplied into lora_up.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..wording import shown
from .scaling import PEFT_CONFIG, Scaling, scaling_of

_log = logging.getLogger(__name__)

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
_OUR_NETWORK = re.compile(
    r"^(?:block_chunks\.\d+\.module|blocks)\.\d+\.(?:(?:sa|ca)\.(?:mat_\w+|proj)|ffn\.fc[12])$"
)
"""Module names that no other network has; one of them is sufficient."""

_OTHER_KINDS = (
    (r"\.(?:dora_scale|lora_magnitude_vector)\b", "DoRA magnitudes"),
    (r"\.hada_[wt]\d", "LoHa factors"),
    (r"\.lokr_[wt]\d", "LoKr factors"),
    (r"\.oft_|\.boft_", "OFT blocks"),
    (r"\.lora_mid\.", "a third factor (LoCon)"),
    (r"\.(?:diff|diff_b)$", "differences of whole weights"),
    (r"\.lora_[AB](?:\.\w+)?\.bias$|\.lora_(?:down|up)\.bias$", "biases of the factors"),
)


def our_spelling(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> dict[str, Tensor]:
    """Return the factors of an adapter by the names of our files; anything else comes back as it is.

    Args:
        tensors: of any checkpoint.
        metadata: metadata of its file, which may include the scale of the factors.

    Raises:
        CheckpointError: for an adapter of our network with more than low-rank factors, with a factor twice, or with an
            alpha that is not one finite number.
    """
    factors: dict[tuple[str, str], Tensor] = {}
    alphas: dict[str, Tensor] = {}
    others: list[str] = []
    foreign = peft = False
    for name, tensor in tensors.items():
        if name.endswith(".alpha"):
            alphas[_owner(name.removesuffix(".alpha"))] = tensor
            continue
        match = _FACTOR.match(name)
        if match is None:
            others.append(name)
            continue
        owner = _owner(match["owner"])
        side = match["ours"] or match["dotted"] or {"A": "down", "B": "up"}[match["peft"]]
        peft |= match["peft"] is not None
        foreign |= name != f"{owner}.lora_{side}.weight"
        if (owner, side) in factors:
            raise CheckpointError(
                f"The adapter has the factor {side} of {shown(owner)} twice. Save one adapter alone."
            )
        factors[owner, side] = tensor
    ours = any(_OUR_NETWORK.match(owner) for owner, _ in factors)
    _refuse_other_kinds(others, ours or any(_OUR_NETWORK.match(_module(name)) for name in others))
    if not ours or (others and not foreign):
        return dict(tensors)  # of another network, which `identify` describes, or a whole model
    if others:
        raise CheckpointError(
            f"The adapter holds {shown(others[0])} beside its factors, which is not a low-rank correction. Save the "
            "factors alone."
        )
    scaling = scaling_of(metadata or {})
    if peft and scaling is None and not alphas:
        _log.warning(
            "the adapter has no alpha, so its factors are not scaled; PEFT stores it in %s beside the file",
            PEFT_CONFIG,
        )
    return {
        f"{owner}.lora_{side}.weight": _scaled(owner, tensor, alphas, scaling)
        if side == "up"
        else tensor
        for (owner, side), tensor in factors.items()
    }


def _scaled(
    owner: str, up: Tensor, alphas: Mapping[str, Tensor], scaling: Scaling | None
) -> Tensor:
    """Return a factor with its alpha / rank multiplied in."""
    if up.ndim < 2 or up.shape[1] < 1:
        raise CheckpointError(
            f"The adapter's factor of {shown(owner)} has shape {tuple(up.shape)}; expected two dimensions."
        )
    rank = up.shape[1]
    if owner in alphas:
        scale = _number(alphas[owner], owner) / rank
    else:
        scale = 1.0 if scaling is None else scaling.factor(owner, rank)
    return up if scale == 1 else up.to(torch.float32) * scale


def _refuse_other_kinds(names: list[str], of_our_network: bool) -> None:
    for name in names if of_our_network else []:
        for pattern, what in _OTHER_KINDS:
            if re.search(pattern, name):
                raise CheckpointError(
                    f"The adapter has {what} ({shown(name)}), but only plain LoRA is supported. Merge it "
                    "into its base with the program that created it, or train a LoRA."
                )


def _module(name: str) -> str:
    """Return the module of a name in another kind of adapter."""
    for pattern, _ in _OTHER_KINDS:
        if match := re.search(pattern, name):
            return _owner(name[: match.start()])
    return ""


def _owner(name: str) -> str:
    """Return the module of another program's key, by its official name or ours."""
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
        raise CheckpointError(
            f"The adapter's alpha of {shown(owner)} is not a single finite number."
        )
    return value
