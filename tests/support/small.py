"""Small networks with adapters, and states of random values for them."""

import torch

from varestorer_core.checkpoint.check import expected_parameters
from varestorer_core.config import TokenizerConfig, TransformerConfig

TRANSFORMER = TransformerConfig(
    embed_dim=32,
    depth=2,
    num_heads=2,
    codebook_dim=4,
    text_channels=128,
    ffn_dim=48,
    text_rows=6,
    lora_rank=3,
)
TOKENIZER = TokenizerConfig(codebook_dim=4, base_channels=32, channel_multipliers=(1, 2))


def random_state(config: TransformerConfig | TokenizerConfig) -> dict[str, torch.Tensor]:
    """Return the same random values for every parameter of a network."""
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.randn(like.shape, generator=generator).mul_(0.2)
        for name, like in expected_parameters(config).items()
    }
