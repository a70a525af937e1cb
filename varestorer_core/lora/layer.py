"""Low-rank adapters as separate weights (LoRA, Hu et al. 2021)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class LoRALinear(nn.Module):
    """A linear layer plus a low-rank correction: y = W x + b + U (D x).

    There is no alpha / rank factor; the checkpoint's adapters are used at scale 1.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool,
        rank: int,
        operations: Any = nn,
        **factory: Any,
    ):
        super().__init__()
        self.linear = operations.Linear(in_features, out_features, bias=bias, **factory)
        self.lora_down = operations.Linear(in_features, rank, bias=False, **factory)
        self.lora_up = operations.Linear(rank, out_features, bias=False, **factory)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + self.lora_up(self.lora_down(x))


def make_linear(
    in_features: int, out_features: int, bias: bool, rank: int, operations: Any, **factory: Any
) -> nn.Module:
    """Return a plain linear layer for rank 0, else one with an adapter."""
    if rank == 0:
        return operations.Linear(in_features, out_features, bias=bias, **factory)
    return LoRALinear(in_features, out_features, bias, rank, operations, **factory)
