"""Noise of bit sampling, computed as a hash of its position.

There is no sequential generator, so a seed produces the same noise on every device, for every batch size and at every
position in a batch: all pictures use the same noise, which also keeps video frames consistent. At every scale the noise
is one field over the whole picture, in units of that scale's cells: neighbouring tiles share the noise where they
overlap, and so agree better there. At coarse scales a tile's origin is rounded to the nearest cell.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..models.sampling import gumbel
from ..schedule import ScaleSchedule

_MASK64 = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def tile_noise(
    seed: int,
    schedule: ScaleSchedule,
    codebook_dim: int,
    origin: tuple[float, float] = (0.0, 0.0),
) -> Tensor:
    """Return the Gumbel noise (L, d, 2) of one tile, float32 on the CPU.

    Args:
        seed: any integer; only its lower 64 bits are used.
        origin: (row, column) of the tile in the picture, in tiles: 1.0 is one tile further.
    """
    values = 2 * codebook_dim
    bits = np.arange(1, values + 1, dtype=np.uint64)
    numbers = []
    for scale, (height, width) in enumerate(schedule.grids):
        top, left = round(origin[0] * height), round(origin[1] * width)
        # Tiles may extend beyond the picture: negative positions wrap, which is harmless in a hash.
        rows = np.arange(top, top + height).astype(np.uint64)[:, None, None]
        columns = np.arange(left, left + width).astype(np.uint64)[:, None]
        field = np.uint64(_mix(seed, scale))
        for index in (rows, columns, bits):
            field = _hash(field + index * np.uint64(_GOLDEN))
        numbers.append(field.reshape(-1, values))
    uniform = (np.concatenate(numbers) >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
    return gumbel(torch.from_numpy(uniform).unflatten(1, (codebook_dim, 2)))


def _hash(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scramble 64-bit numbers (the finaliser of splitmix64); multiplication wraps."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def _mix(*numbers: int) -> int:
    """Hash integers into 64 bits, so that seed + 1 and scale + 1 are unrelated."""
    state = np.zeros(1, np.uint64)  # an array: numpy warns when a scalar wraps
    for number in numbers:
        state = _hash(state + np.uint64(((number & _MASK64) + _GOLDEN) & _MASK64))
    return int(state[0])
