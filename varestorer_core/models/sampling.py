"""From logits to bits: arg-max, or sampling with noise that the caller brings.

Adding Gumbel noise to the two logits of a bit and taking the larger one draws the bit from the model's own
distribution; shrinking the noise moves the draw towards the arg-max. The noise is made on the CPU, one generator
per tile, so a seed means the same bits on every device, for every batch size and whatever else is restored.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..schedule import ScaleSchedule

_TINY = 1e-20
_MASK64 = (1 << 64) - 1


def sample_bits(logits: Tensor, noise: Tensor | None = None, noise_scale: float = 1.0) -> Tensor:
    """Choose bits.

    Args:
        logits: (B, L, d, 2) of each bit being 0 and 1.
        noise: (B, L, d, 2) Gumbel noise; None takes the arg-max. A tie gives 0.
        noise_scale: 0 is the arg-max again, 1 samples the model's distribution.

    Returns:
        (B, L, d) bool.
    """
    if noise is not None and noise_scale != 0:
        # In float32 on the noise's device, so that no device's rounding enters the decision.
        logits = logits.to(noise) + noise_scale * noise
    return logits[..., 1] > logits[..., 0]


def gumbel(uniform: Tensor) -> Tensor:
    """Turn uniform numbers in [0, 1) into standard Gumbel noise of the same shape."""
    return -torch.log(-torch.log(uniform + _TINY) + _TINY)


def tile_noise(
    seed: int, picture: int, tile: int, schedule: ScaleSchedule, codebook_dim: int
) -> Tensor:
    """Return the Gumbel noise (L, d, 2) of one tile, float32 on the CPU.

    Args:
        seed: any integer; its lower 64 bits count.
        picture, tile: index of the picture in the run and of the tile in the picture.
    """
    generator = torch.Generator().manual_seed(_mix(seed, picture, tile))
    shape = (schedule.num_tokens, codebook_dim, 2)
    return gumbel(torch.rand(shape, generator=generator))


def _mix(*numbers: int) -> int:
    """Hash integers into 63 bits (splitmix64), so that seed + 1 and tile + 1 are unrelated."""
    state = 0
    for number in numbers:
        state = (state + (number & _MASK64) + 0x9E3779B97F4A7C15) & _MASK64
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK64
        state ^= state >> 31
    return state >> 1
