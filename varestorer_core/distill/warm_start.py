"""Initialisation of a tokenizer from a trained one, which may have fewer residual blocks per level.

The last convolution of additional blocks is initialised to zero, so that the network initially computes the same as
that of the file, and the additional blocks refine it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..checkpoint import load_tokenizer, read_checkpoint
from ..checkpoint.save import sha256
from ..config import TokenizerConfig
from ..errors import SettingError
from ..models.autoencoder import ResidualBlock
from ..models.tokenizer import VisualTokenizer

_SHAPES = {
    "codebook_dim": "bits per token",
    "base_channels": "base_channels",
    "channel_multipliers": "channel_multipliers",
    "norm_groups": "norm_groups",
}
"""Fields that must be equal, with their names in messages."""


def init_record(path: Path) -> dict[str, Any]:
    """Return a run's record of the file that it starts from."""
    return {"file": path.name, "sha256": sha256(path)[:16]}


@torch.no_grad()
def start_from_file(tokenizer: VisualTokenizer, path: Path, seed: int) -> None:
    """Initialise a tokenizer in place with the weights of a file; both then compute the same.

    Args:
        tokenizer: tokenizer with at least as many residual blocks per level as the file's, and otherwise its shape.
        path: a tokenizer in any layout that the loader supports.
        seed: seed of the additional blocks, except for their last convolution, which is zero.

    Raises:
        CheckpointError: if the file is not a tokenizer, or damaged.
        SettingError: if its shape differs in more than the number of blocks.
    """
    tensors, metadata = read_checkpoint(path, kind="tokenizer")
    trained = load_tokenizer(tensors, metadata, name=path.name, consume=True)
    _check_shapes(trained.config, tokenizer.config, path)
    state = trained.state_dict()
    generator = torch.Generator().manual_seed(seed)
    for name, module in tokenizer.named_modules():
        if isinstance(module, ResidualBlock) and f"{name}.conv2.weight" not in state:
            _add_nothing(module, generator)
    own = tokenizer.state_dict()
    for name, value in state.items():
        own[name].copy_(value)


def _add_nothing(block: ResidualBlock, generator: torch.Generator) -> None:
    """Initialise a block at random so that it returns its input."""
    weight = block.conv1.weight
    start = torch.randn(weight.shape, generator=generator) * weight[0].numel() ** -0.5
    weight.copy_(start)
    for parameter in (block.conv1.bias, block.conv2.weight, block.conv2.bias):
        nn.init.zeros_(parameter)


def _check_shapes(found: TokenizerConfig, wanted: TokenizerConfig, path: Path) -> None:
    """Raise an error for a file whose weights do not fit the run's tokenizer."""
    different = [
        f"{what} {getattr(found, name)} instead of {getattr(wanted, name)}"
        for name, what in _SHAPES.items()
        if getattr(found, name) != getattr(wanted, name)
    ]
    if found.num_res_blocks > wanted.num_res_blocks:
        different.append(
            f"num_res_blocks {found.num_res_blocks} instead of {wanted.num_res_blocks} or fewer"
        )
    if different:
        raise SettingError(
            f"--init {path.name} does not fit the run's tokenizer: it has {', '.join(different)}. Use a file with the "
            "same bits and widths, or specify the file's shape with --config."
        )
