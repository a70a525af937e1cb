"""The residual stream between the branches of a block, with its norms and gates, all in float32."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .rows import by_rows, overwrite_by_rows


def advance(
    x: Tensor,
    change: Tensor,
    gate: Tensor | None,
    norm: Callable[[Tensor], Tensor] | None,
    *,
    in_place: bool,
) -> tuple[Tensor, Tensor]:
    """Return x + change * gate in float32 and its norm, computed while the sum is in the cache.

    Args:
        x, change: (B, L, C).
        gate: (B or 1, 1, C); None for 1.
        norm: maps rows to rows; with None, the sum is returned in place of the norm.
        in_place: overwrite x.
    """

    def added(x: Tensor, change: Tensor) -> Tensor:
        change = change.float()
        if in_place:
            return x.add_(change) if gate is None else x.addcmul_(change, gate)
        return x + change if gate is None else torch.addcmul(x, change, gate)

    if norm is None:
        if in_place:
            overwrite_by_rows(added, x, change)
        else:
            x = by_rows(added, x, change)
        return x, x
    if in_place:
        return x, by_rows(lambda *parts: norm(added(*parts)), x, change)

    def added_and_normal(x: Tensor, change: Tensor) -> tuple[Tensor, ...]:
        x = added(x, change)
        return x, norm(x)

    x, normal = by_rows(added_and_normal, x, change)
    return x, normal
