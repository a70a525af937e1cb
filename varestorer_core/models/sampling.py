"""Bits from logits: arg-max, or sampling with noise passed by the caller.

Adding Gumbel noise to the two logits of a bit and choosing the larger one samples from the model's distribution;
scaling the noise down moves the sample towards the arg-max.
"""

from __future__ import annotations

import torch
from torch import Tensor

_TINY = 1e-20


def sample_bits(logits: Tensor, noise: Tensor | None = None, noise_scale: float = 1.0) -> Tensor:
    """Sample bits.

    Args:
        logits: (B, L, d, 2) of each bit being 0 and 1.
        noise: (B, L, d, 2) Gumbel noise; None means the arg-max. A tie returns 0.
        noise_scale: 0 is the arg-max, 1 samples from the model's distribution.

    Returns:
        (B, L, d) bool.
    """
    if noise is not None and noise_scale != 0:
        # In float32 on the noise's device: the decision does not depend on a device's rounding.
        logits = logits.to(noise) + noise_scale * noise
    return logits[..., 1] > logits[..., 0]


def favour_bits(logits: Tensor, bits: Tensor, log_odds: float | Tensor) -> Tensor:
    """Shift logits (B, L, d, 2) by `log_odds` in favour of bits (B, L, d).

    Bayes' rule: a prior adds to the log-odds of each bit.
    """
    shift = 0.5 * log_odds * (bits.to(logits) * 2 - 1)
    return logits + torch.stack((-shift, shift), dim=-1)


def gumbel(uniform: Tensor) -> Tensor:
    """Turn uniform values in [0, 1) into standard Gumbel noise of the same shape."""
    return -torch.log(-torch.log(uniform + _TINY) + _TINY)
