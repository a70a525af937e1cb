"""Small networks whose every parameter matters, on the pretended device."""

from __future__ import annotations

import torch

from varestorer_core.config import TokenizerConfig, TransformerConfig
from varestorer_core.models.layers import CastLayers
from varestorer_core.models.tokenizer import VisualTokenizer
from varestorer_core.models.transformer import VARTransformer

TOKENIZER = TokenizerConfig(6, 8, (1, 2), num_res_blocks=1, norm_groups=2)
"""Two pixels a token: tiles of 32 pixels at pixel class 0.06M."""

TRANSFORMER = TransformerConfig(
    embed_dim=32,
    depth=1,
    num_heads=2,
    codebook_dim=6,
    text_channels=16,
    ffn_dim=64,
    text_rows=8,
    pixel_class="0.06M",
)


def transformer(weights=torch.float32, multiplied=None, device="cuda", **changes):
    """Return a transformer with matrices stored in `weights`."""
    config = TransformerConfig(**{**vars(TRANSFORMER), **changes})
    multiplied = multiplied or (torch.bfloat16 if weights.itemsize == 1 else weights)
    operations = CastLayers if multiplied != weights else torch.nn
    model = VARTransformer(
        config, dtype=weights, operations=operations, compute_dtype=multiplied, device="meta"
    )
    generator = torch.Generator().manual_seed(0)
    values = {
        name: (torch.randn(p.shape, generator=generator) * 0.15).to(p.dtype)
        for name, p in model.named_parameters()
    }
    model.load_state_dict(values, assign=True)
    return model.eval().requires_grad_(False).to(device)


def tokenizer(decoder_dtype=None, device="cuda"):
    """Return a tokenizer."""
    torch.manual_seed(0)
    model = VisualTokenizer(TOKENIZER, decoder_dtype=decoder_dtype)
    return model.eval().requires_grad_(False).to(device)


def pictures(height=32, width=32):
    """Return pictures (3, H, W) in [0, 1]."""
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(3, height, width, generator=generator)]
