"""Initialisation of a tokenizer from a trained one, which may have fewer residual blocks per level, and of adapters.

The last convolution of additional blocks is initialised to zero, so that the network initially computes the same as
that of the file, and the additional blocks refine it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..checkpoint import load_tokenizer, read_checkpoint
from ..checkpoint.save import sha256
from ..config import TokenizerConfig
from ..errors import SettingError
from ..lora.factors import LORA_SUFFIXES
from ..lora.file import load_adapter
from ..models.autoencoder import ResidualBlock
from ..models.tokenizer import VisualTokenizer
from ..models.transformer import VARTransformer

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


@torch.no_grad()
def start_from_adapter(
    student: VARTransformer, path: Path, base_sha256: str, pixel_class: str
) -> None:
    """Copy the adapters of a file into a student with adapters, in place.

    Args:
        student: with adapters of the file's rank.
        path: an adapter, or a whole model with adapters such as varestorer.pth, of which only those are used.
        base_sha256: hash of the base's file.
        pixel_class: pixel class of the base, which that of the run may differ from.

    Raises:
        CheckpointError: if the file is not an adapter, damaged, or for another base.
        SettingError: if its adapters have another rank, or some are missing.
    """
    parameters = dict(student.named_parameters())
    base = {name.replace(".linear.", "."): value for name, value in parameters.items()}
    config = replace(student.config, pixel_class=pixel_class)
    tensors, metadata = read_checkpoint(path, kind="transformer")
    found = load_adapter(tensors, metadata, base, config, base_sha256=base_sha256, name=path.name)
    wanted = [name for name in parameters if name.endswith(LORA_SUFFIXES)]
    ranks = {pair.down.shape[0] for pair in found.values()}
    if ranks != {student.config.lora_rank}:
        raise SettingError(
            f"--init {path.name} has adapters of rank {', '.join(map(str, sorted(ranks)))}, but this run trains rank "
            f"{student.config.lora_rank}. Set --rank to that of the file."
        )
    if len(wanted) != 2 * len(found):
        raise SettingError(
            f"--init {path.name} adapts {len(found)} matrices, but a student has adapters on {len(wanted) // 2}. Give "
            "an adapter that `varestorer distill` wrote, or the released model."
        )
    for name in wanted:
        module, factor = name.removesuffix(".weight").rsplit(".", 1)
        parameters[name].copy_(getattr(found[module], factor.removeprefix("lora_")))
