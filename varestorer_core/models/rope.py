"""2-D rotary position embedding over all scales of a schedule (Infinity; RoFormer for the rotation).

Notable:
- every scale's cells are placed on the grid of the 13th scale, so a cell at a coarse scale has the coordinate
  of the finest cell at its corner, rounded half to even;
- the first half of a head encodes y, the second x; adjacent channels (2i, 2i+1) form a rotated pair;
- rows of the 13 scales are concatenated and a sequence uses consecutive rows. The appended block of the long LQ
  pyramid has no rows of its own and uses those of the next scale. The released weights were trained this way; a model
  with `lq_rows` "own" uses those of the finest scale, whose cells the block shares, and so does every model at pixel
  class 1M, whose 13th scale has no next one.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from ..schedule import ScaleSchedule

_THETA = 10000.0


def grid_coordinates(schedule: ScaleSchedule) -> Tensor:
    """Return the (y, x) coordinate of every cell of all 13 scales: (rows, 2) float32, whole numbers."""
    height, width = schedule.full_grids[-1]
    rows = []
    for h, w in schedule.full_grids:
        y = torch.round(torch.arange(h, dtype=torch.float32) * height / h)
        x = torch.round(torch.arange(w, dtype=torch.float32) * width / w)
        rows.append(torch.cartesian_prod(y, x))
    return torch.cat(rows)


def rope_table(
    schedule: ScaleSchedule,
    head_dim: int,
    start: int,
    length: int,
    device: torch.device | str = "cpu",
    *,
    own_lq_rows: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return (cos, sin), each (length, head_dim / 2) float32, for rows start .. start + length.

    Args:
        own_lq_rows: use the rows of the finest scale for the block that follows the schedule's scales.

    Raises:
        ValueError: if neither the scales nor that block have such rows.
    """
    if start + length > schedule.num_tokens_long:
        raise ValueError(f"Expected at most {schedule.num_tokens_long} rows, got {start + length}.")
    cos, sin = _full_table(schedule, head_dim, torch.device(device))
    # Deviation from upstream: the released rule has no rows for the appended code map after the 13th scale.
    if own_lq_rows or schedule.num_scales == len(schedule.full_grids):
        rows = torch.arange(start, start + length, device=device)
        rows = torch.where(rows < schedule.num_tokens, rows, rows - schedule.sizes[-1])
        return cos[rows], sin[rows]
    return cos[start : start + length], sin[start : start + length]


@lru_cache(maxsize=8)
def _full_table(
    schedule: ScaleSchedule, head_dim: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    # Cached per device: a copy synchronises. Not in inference mode: autograd rejects tensors made there.
    with torch.inference_mode(False), torch.no_grad():
        exponent = torch.arange(0, head_dim // 2, 2, dtype=torch.float32) / (head_dim // 2)
        frequencies = 1.0 / _THETA**exponent  # (head_dim / 4,)
        # (rows, head_dim / 2): y, then x
        angles = (grid_coordinates(schedule)[:, :, None] * frequencies).flatten(1)
        return angles.cos().to(device), angles.sin().to(device)


def apply_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate adjacent channel pairs of x (..., D) by the angles of cos, sin, broadcastable to (..., D / 2)."""
    pairs = x.unflatten(-1, (-1, 2))
    if x.device.type in ("cuda", "cpu") and not torch.compiler.is_compiling():
        # One kernel instead of seven. Compilers fuse the seven, and not every device supports complex numbers.
        turned = torch.view_as_complex(pairs) * torch.complex(cos, sin)
        return torch.view_as_real(turned).flatten(-2)
    a, b = pairs.unbind(-1)
    return torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2)
