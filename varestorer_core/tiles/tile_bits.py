"""Packed bits of a run's tiles, and their codes.

A large picture has thousands of tiles, whose data is kept between the stages. With one byte per bit and four per code
value, a tile of a model with 4 pixels and 64 bits per token takes 161 kB of bits and 262 kB of codes; packed bits take
20 kB. Bits are therefore packed, and codes are recomputed batch by batch when they are decoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor

from ..models.bsq import dequantize
from ..schedule import ScaleSchedule


class TileBits:
    """Bits (N, L, d) on the CPU, all false at first; slices of tiles are set and read as bool tensors."""

    def __init__(self, tiles: int, tokens: int, codebook_dim: int):
        self.shape = (tiles, tokens, codebook_dim)
        # Whole bytes for each tile, so that tiles can be set independently.
        self._packed = np.zeros((tiles, -(-tokens * codebook_dim // 8)), np.uint8)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._packed.nbytes

    def __getitem__(self, tiles: slice) -> Tensor:
        """Return the bits (n, L, d) of consecutive tiles, a copy."""
        flat = np.unpackbits(self._packed[tiles], axis=1, count=prod(self.shape[1:]))
        return torch.from_numpy(flat.view(np.bool_)).view(-1, *self.shape[1:])

    def __setitem__(self, tiles: slice, bits: Tensor) -> None:
        """Store the bits (n, L, d) bool of consecutive tiles, from any device.

        Raises:
            ValueError: for another dtype, or another number of tiles, tokens or bits per token.
        """
        expected = (len(range(*tiles.indices(len(self)))), *self.shape[1:])
        if bits.dtype != torch.bool or tuple(bits.shape) != expected:
            raise ValueError(
                f"Expected bits {expected} of dtype torch.bool, got {tuple(bits.shape)} of {bits.dtype}."
            )
        self._packed[tiles] = np.packbits(bits.cpu().flatten(1).numpy(), axis=1)


@dataclass(frozen=True)
class TileCodes:
    """Summed codes (N, d, h, w) of bits, computed on access."""

    bits: TileBits
    schedule: ScaleSchedule

    def __len__(self) -> int:
        return len(self.bits)

    def __getitem__(self, tiles: slice) -> Tensor:
        """Return the codes (n, d, h, w) of consecutive tiles, float32 on the CPU."""
        numbers = range(*tiles.indices(len(self)))
        codes = torch.empty(len(numbers), self.bits.shape[-1], *self.schedule.last_grid)
        # One tile at a time: summing takes several times the memory of its result.
        for one, number in zip(codes, numbers, strict=True):
            one.copy_(dequantize(self.bits[number : number + 1], self.schedule)[0])
        return codes
