"""Mixed precision in training: bfloat16 autocast on devices that are faster with it.

Only decoders and transformers run under it. Encoders stay in float32, as in inference: autocast would flip 3 % of the
bits of their features.
"""

from __future__ import annotations

import torch

from ..precision import has_fast_bfloat16


def mixed_precision(device: str | torch.device, wanted: bool) -> torch.autocast:
    """Return a context of bfloat16 autocast on a device.

    Args:
        wanted: whether to use it. The context has no effect if this is False, or on a device on which bfloat16 is
            slower than float32 (20 times slower on a processor without instructions for it).
    """
    device = torch.device(device)
    enabled = wanted and has_fast_bfloat16(device)
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)
