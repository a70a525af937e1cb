"""Small files with exactly the structure of the released ones.

Loaded by path from the unit tests and the host tests.
"""

from pathlib import Path

import torch

from varestorer_core.checkpoint.keys import TOKENIZER_TO_OFFICIAL, apply_renames, chunk_blocks
from varestorer_core.config import TokenizerConfig, TransformerConfig
from varestorer_core.models.tokenizer import VisualTokenizer
from varestorer_core.models.transformer import VARTransformer


def as_rebuilt(tensor):
    """Return a tensor that is pickled with `_rebuild_from_type_v2`, like those of infinity_2b_reg.pth."""
    tensor = tensor.clone()
    tensor.marker = 1
    return tensor


def released_tokenizer(tokenizer):
    """Return the content of infinity_vae_d32reg.pth: the tokenizer beside the other parts of its training."""
    state = {
        apply_renames(name, TOKENIZER_TO_OFFICIAL): tensor
        for name, tensor in tokenizer.state_dict().items()
    }
    bits = tokenizer.config.codebook_dim
    state["quantizer.lfq.mask"] = 2 ** torch.arange(bits - 1, -1, -1)
    moments = {"exp_avg": torch.ones(2), "exp_avg_sq": torch.ones(2), "step": torch.tensor(5.0)}
    optimizer = {"state": {0: moments}, "param_groups": [{"lr": 1e-4, "params": [0]}]}
    return {
        "vae": state,
        "discriminator": {"main.0.weight": torch.ones(2, 2)},
        "optimizer": optimizer,
        "d_optimizer": optimizer,
        "step": 500_000,
        "epoch": 3,
    }


def released_transformer(transformer):
    """Return the content of infinity_2b_reg.pth: flat names, float32, rebuilt tensors, key biases of zero."""
    state = {
        chunk_blocks(name, 1): as_rebuilt(tensor)
        for name, tensor in transformer.state_dict().items()
    }
    width = transformer.config.embed_dim
    owners = [name for name in state if name.endswith("sa.mat_qkv.weight")]
    return state | {
        name.replace("mat_qkv.weight", "zero_k_bias"): torch.zeros(width) for name in owners
    }


def small_transformer(codebook_dim: int) -> VARTransformer:
    """Return a random transformer with as many bits per token."""
    config = TransformerConfig(
        embed_dim=32,
        depth=2,
        num_heads=2,
        codebook_dim=codebook_dim,
        text_channels=16,
        ffn_dim=64,
        text_rows=8,
        pixel_class="0.06M" if codebook_dim == 16 else "0.25M",
    )
    model = VARTransformer(config).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(codebook_dim)
    for parameter in model.parameters():
        parameter.normal_(0.0, 0.15, generator=generator)
    return model


def small_tokenizer(codebook_dim: int) -> VisualTokenizer:
    """Return a random tokenizer with 16 pixels per token, and as many groups as the released ones."""
    config = TokenizerConfig(
        codebook_dim=codebook_dim,
        base_channels=32,
        channel_multipliers=(1, 1, 1, 1, 1),
        num_res_blocks=1,
        norm_groups=32,
    )
    torch.manual_seed(codebook_dim)
    return VisualTokenizer(config).eval().requires_grad_(False)


def write_released(transformers: Path, tokenizers: Path) -> None:
    """Write the released pairs of 32 and of 16 bits per token, under their names."""
    for bits, base, vae in (
        (32, "infinity_2b_reg.pth", "infinity_vae_d32reg.pth"),
        (16, "infinity_125M_256x256.pth", "infinity_vae_d16.pth"),
    ):
        torch.save(released_transformer(small_transformer(bits)), transformers / base)
        torch.save(released_tokenizer(small_tokenizer(bits)), tokenizers / vae)
