"""Low-rank training of convolutions (LoRA, Hu et al. 2021): only a correction U D of each weight is trained.

The correction is a parametrisation of the weight, so networks need no class of their own for it and have plain weights
again at the end.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

_ORIGINAL = ".parametrizations.weight.original"


class LowRankCorrection(nn.Module):
    """Adds U D to a weight (out, in, kh, kw): U is (out, r), zero at first, and D is (r, in kh kw)."""

    def __init__(self, weight: Tensor, rank: int, generator: torch.Generator):
        super().__init__()
        rows, columns = weight.shape[0], weight[0].numel()
        rank = min(rank, rows, columns)
        down = torch.randn(rank, columns, generator=generator) * columns**-0.5
        self.down = nn.Parameter(down.to(weight.device))
        self.up = nn.Parameter(torch.zeros(rows, rank, device=weight.device))

    def forward(self, weight: Tensor) -> Tensor:
        # Autocast would round here, unlike merging.
        with torch.autocast(weight.device.type, enabled=False):
            return weight + (self.up @ self.down).view_as(weight)


def add_low_rank(module: nn.Module, rank: int, seed: int) -> None:
    """Add a trainable correction of that rank to each convolution and freeze all else; outputs do not change yet."""
    generator = torch.Generator().manual_seed(seed)
    module.requires_grad_(False)
    for convolution in _convolutions(module):
        correction = LowRankCorrection(convolution.weight, rank, generator)
        parametrize.register_parametrization(convolution, "weight", correction)


def merge_low_rank(module: nn.Module) -> None:
    """Merge the corrections into the weights, if there are any."""
    for convolution in _convolutions(module):
        if parametrize.is_parametrized(convolution, "weight"):
            parametrize.remove_parametrizations(convolution, "weight")


def merged_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict with every correction merged into its weight, by the names of a module without any."""
    merged = {}
    for name, value in weights.items():
        if name.endswith(_ORIGINAL):
            place = name.removesuffix("original")
            change = weights[f"{place}0.up"] @ weights[f"{place}0.down"]
            merged[name.replace(_ORIGINAL, ".weight")] = value + change.view_as(value)
        elif ".parametrizations." not in name:
            merged[name] = value
    return merged


def _convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [part for part in module.modules() if isinstance(part, nn.Conv2d)]
