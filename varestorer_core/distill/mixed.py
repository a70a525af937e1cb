"""Mixed precision in training: bfloat16 autocast, where the device gains from it.

Only decoders and transformers run under it. Encoders stay in float32, as at inference: under autocast 3 % of the
bits that their features are quantised to would flip.
"""

from __future__ import annotations

import torch

from ..precision import has_fast_bfloat16


def mixed_precision(device: str | torch.device, wanted: bool) -> torch.autocast:
    """Return a context of bfloat16 autocast on a device.

    Args:
        wanted: False returns a context that changes nothing, as does a device on which bfloat16 products are
            slower than float32 ones (a processor without instructions for them takes 20 times as long).
    """
    device = torch.device(device)
    enabled = wanted and has_fast_bfloat16(device)
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)
