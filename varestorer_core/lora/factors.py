"""Separating low-rank adapters from the weights they correct, and merging them.

An adapted matrix X of a transformer is stored as `X.linear.weight`, `X.lora_down.weight` and
`X.lora_up.weight` and represents W + up @ down, without an alpha / rank factor. The matrices do not
show that the release never adds the blocks' `ca.v_bias` where `ca.mat_kv` is adapted, so an adapter
at strength s also multiplies that bias by 1 - s. At strength 0 the result is exactly the base, at 1
exactly the adapted model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import CheckpointError

if TYPE_CHECKING:
    from ..models.transformer import VARTransformer

LORA_SUFFIXES = (".lora_down.weight", ".lora_up.weight")
"""Suffixes of the names of the two factors of a correction."""

V_BIAS_RULE = "times 1 - strength"
"""The effect of an adapter on the blocks' `ca.v_bias` where it adapts `ca.mat_kv`, as stored in files."""

_ADAPTED_TEXT = ".ca.mat_kv"
TEXT_BIAS = ".ca.v_bias"
"""End of the names of the biases that adapters scale."""
_TRANSFORMER_PREFIX = "blocks."


@dataclass(frozen=True)
class LowRank:
    """One adapter: the two factors of a correction."""

    down: Tensor
    """(r, in), or (r, in, k, k) of a convolution."""
    up: Tensor
    """(out, r), or (out, r, 1, 1)."""

    def merged(self, weight: Tensor, strength: float = 1.0) -> Tensor:
        """Return weight + strength * up @ down, computed and returned in float32."""
        down = self.down.to(weight.device, torch.float32).flatten(1)
        up = self.up.to(weight.device, torch.float32).flatten(1)
        flat = weight.to(torch.float32).flatten(1)
        return torch.addmm(flat, up, down, alpha=strength).view(weight.shape)

    def fits(self, weight: Tensor) -> bool:
        """Return whether the correction has the weight's shape."""
        down, up = self.down.shape, self.up.shape
        return (
            len(down) == len(up) == weight.ndim
            and down[0] == up[1]
            and (up[0], *down[1:]) == tuple(weight.shape)
            and all(side == 1 for side in up[2:])
        )


def adapter_rank(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Return the largest rank of the adapters among named shapes; 0 without any."""
    return max(
        (shape[0] for name, shape in shapes.items() if name.endswith(LORA_SUFFIXES[0]) and shape),
        default=0,
    )


def split_adapter(
    state_dict: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the base by its plain names, and the adapter's factors; no tensor is copied.

    Args:
        state_dict: by our names (see `keys.rename_tensors`).
    """
    adapter = {k: v for k, v in state_dict.items() if k.endswith(LORA_SUFFIXES)}
    owners = {name.rsplit(".lora_", 1)[0] for name in adapter}
    base: dict[str, Tensor] = {}
    for name, tensor in state_dict.items():
        if name not in adapter:
            owner, _, leaf = name.rpartition(".linear.")
            base[f"{owner}.{leaf}" if owner in owners else name] = tensor
    return base, adapter


def join_adapter(base: Mapping[str, Tensor], adapter: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return base and adapter as the separate weights of an adapted model: the inverse of `split_adapter`.

    Raises:
        CheckpointError: if the adapter is for another model.
    """
    owners = low_ranks(base, adapter)
    joined = dict(adapter)
    for name, tensor in base.items():
        owner, _, leaf = name.rpartition(".")
        linear = owner in owners and owner.startswith(_TRANSFORMER_PREFIX)
        joined[f"{owner}.linear.{leaf}" if linear else name] = tensor
    return joined


def merge_adapter(
    base: Mapping[str, Tensor], adapter: Mapping[str, Tensor], strength: float = 1.0
) -> dict[str, Tensor]:
    """Return the base with the adapter merged, every tensor in the base's dtype.

    Args:
        base: parameters by our plain names, which are not modified. Tensors that the adapter does not
            change are shared with the result.
        adapter: factors by our names.
        strength: 0 returns the base, 1 the adapted model.

    Raises:
        CheckpointError: if the adapter is for another model.
    """
    owners = low_ranks(base, adapter)
    return {
        name: merged_tensor(name, tensor, owners, strength).to(tensor.dtype)
        for name, tensor in base.items()
    }


def merged_tensor(
    name: str, tensor: Tensor, owners: Mapping[str, LowRank], strength: float = 1.0
) -> Tensor:
    """Return one base tensor with the adapters merged; changed tensors are float32."""
    if strength == 0:
        return tensor
    owner, _, leaf = name.rpartition(".")
    if leaf == "weight" and owner in owners:
        return owners[owner].merged(tensor, strength)
    if name.endswith(TEXT_BIAS) and name.removesuffix(TEXT_BIAS) + _ADAPTED_TEXT in owners:
        return tensor.to(torch.float32) * (1 - strength)
    return tensor


@torch.no_grad()
def apply_adapter(
    model: VARTransformer, owners: Mapping[str, LowRank], strength: float = 1.0
) -> None:
    """Add an adapter's corrections to the weights of a loaded network in place, each computed in float32.

    Repeated calls add up. The network must not have adapters as separate weights.

    Args:
        owners: corrections by the module that they correct, from `low_ranks` or `file.load_adapter`.
        strength: 0 leaves the network unchanged, 1 adds the trained correction.
    """
    for name, parameter in model.named_parameters():
        merged = merged_tensor(name, parameter.data, owners, strength)
        # A new tensor, since the old one may be shared with another network.
        parameter.data = merged.to(parameter.dtype)


def text_biases(owners: Mapping[str, LowRank]) -> list[str]:
    """Return the names of the biases that these adapters scale by 1 - strength."""
    return [
        owner.removesuffix(_ADAPTED_TEXT) + TEXT_BIAS
        for owner in owners
        if owner.endswith(_ADAPTED_TEXT)
    ]


def pair_problems(adapter: Mapping[str, Tensor]) -> list[str]:
    """Return a sentence about the first correction whose factors do not fit each other, regardless of the base."""
    for name in adapter:
        owner = name.rsplit(".lora_", 1)[0]
        down, up = (adapter.get(owner + suffix) for suffix in LORA_SUFFIXES)
        if down is None or up is None:
            return [f"The adapter has only one of the two factors of {owner}."]
        if owner.startswith(_TRANSFORMER_PREFIX) and (down.ndim, up.ndim) != (2, 2):
            return [
                f"The adapter's factors of {owner} are of a convolution: they are {tuple(up.shape)} and "
                f"{tuple(down.shape)}, but the transformer has linear layers only, whose factors have two dimensions."
            ]
        if down.ndim < 2 or up.ndim != down.ndim or down.shape[0] != up.shape[1]:
            return [
                f"The adapter's factors of {owner} do not fit each other: they are {tuple(up.shape)} and "
                f"{tuple(down.shape)}."
            ]
        if not (down.is_floating_point() and up.is_floating_point()):
            return [
                f"The adapter's factors of {owner} are {up.dtype} and {down.dtype}, expected floating point."
            ]
    return []


def low_ranks(base: Mapping[str, Tensor], adapter: Mapping[str, Tensor]) -> dict[str, LowRank]:
    """Pair the factors by the module that they correct.

    Raises:
        CheckpointError: if a factor is alone, or the base has no such weight.
    """
    if problems := pair_problems(adapter):
        raise CheckpointError(problems[0])
    owners: dict[str, LowRank] = {}
    for owner in dict.fromkeys(name.rsplit(".lora_", 1)[0] for name in adapter):
        down, up = (adapter[owner + suffix] for suffix in LORA_SUFFIXES)
        weight = base.get(f"{owner}.weight")
        pair = LowRank(down, up)
        if weight is None or not pair.fits(weight):
            found = "no such weight" if weight is None else f"shape {tuple(weight.shape)}"
            raise CheckpointError(
                f"The adapter is for another model: its correction of {owner} is "
                f"{tuple(up.shape)} times {tuple(down.shape)}, but the model has {found}."
            )
        owners[owner] = pair
    return owners
