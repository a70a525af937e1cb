"""A student made of its teacher and adapters, without a second copy of the weights.

Both are `VARTransformer`s with the same tensors. The teacher has no adapters and adds the blocks' `v_bias` in
cross-attention; the student has adapters, which are the only trainable parameters, and omits that bias, as in the
release. The base may be bfloat16: the adapters stay float32 and are cast for multiplication, so that small updates are
not lost to rounding.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..lora.factors import LORA_SUFFIXES
from ..lora.layer import LoRALinear
from ..models.autoencoder import ResidualBlock
from ..models.block import Block
from ..models.layers import CastLayers
from ..models.transformer import VARTransformer


def student_on_teacher(teacher: VARTransformer, rank: int, seed: int = 0) -> VARTransformer:
    """Return a student with adapters of that rank, on the teacher's own tensors.

    The adapters have no effect initially (`lora_up` is zero). Only they require gradients, and they are float32 on the
    teacher's device.

    Args:
        teacher: network without adapters; it is frozen.
        seed: seed of the adapters' initial values.
    """
    teacher.requires_grad_(False)
    config = dataclasses.replace(teacher.config, lora_rank=rank)
    student = VARTransformer(
        config, operations=CastLayers, device="meta", compute_dtype=teacher.compute_dtype
    )
    device = next(teacher.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    shared = teacher.state_dict()
    tensors: dict[str, Tensor] = {}
    for name, parameter in student.state_dict().items():
        if name.endswith(LORA_SUFFIXES[0]):
            down = torch.randn(parameter.shape, generator=generator)
            tensors[name] = (down * parameter.shape[1] ** -0.5).to(device)
        elif name.endswith(LORA_SUFFIXES[1]):
            tensors[name] = torch.zeros(parameter.shape, device=device)
        else:
            plain = name.replace(".linear.", ".")
            tensors[name] = shared[plain if plain in shared else name]
    student.load_state_dict(tensors, assign=True)
    student.requires_grad_(False)
    for module in student.modules():
        if isinstance(module, LoRALinear):
            module.lora_down.requires_grad_(True)
            module.lora_up.requires_grad_(True)
    return student


def adapters_of(student: nn.Module) -> nn.Module:
    """Return a module of the adapters alone, by their names in the student and with its parameters.

    This is what a training state contains: a few per cent of the whole network.
    """
    tree = nn.Module()
    for name, parameter in student.named_parameters():
        if name.endswith(LORA_SUFFIXES):
            *path, leaf = name.split(".")
            node = tree
            for part in path:
                if part not in node._modules:
                    node.add_module(part, nn.Module())
                node = node.get_submodule(part)
            node.register_parameter(leaf, parameter)
    return tree


def trainable_parameters(module: nn.Module) -> int:
    """Return the number of trainable parameters of the module."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def save_activations(module: nn.Module) -> None:
    """Enable activation checkpointing for every block of a network.

    The activations inside a transformer's block, or a tokenizer's residual block, are recomputed in the backward pass.
    Memory drops to the activations of one block plus the inputs of all; a training step takes a third longer.
    """
    for block in module.modules():
        if isinstance(block, (Block, ResidualBlock)):
            _forget(block)


def _forget(block: Any) -> None:
    """Replace the block's own forward; modules are called through it."""
    if isinstance(block.forward, partial):
        return  # enabled before
    # Nothing inside is random, so the state of the generators need not be saved.
    block.forward = partial(
        checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False
    )
