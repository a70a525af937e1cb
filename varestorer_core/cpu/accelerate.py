"""Replace the classes of a network's modules with the faster ones of this package."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch
from torch import nn

from ..models import adaptive_norm, autoencoder, block, transformer
from .allocator import keep_freed_memory
from .autoencoder import FastDecoder, FastDownsample, FastEncoder, FastResidualBlock, FastUpsample
from .block import FastBlock, FastCrossAttention, FastHeadNorm, FastTransformer
from .fused import FastLayers
from .switch import mode

Network = TypeVar("Network", bound=nn.Module)

_FAST: dict[type[nn.Module], type[nn.Module]] = {
    transformer.VARTransformer: FastTransformer,
    adaptive_norm.HeadNorm: FastHeadNorm,
    block.Block: FastBlock,
    block.CrossAttention: FastCrossAttention,
    autoencoder.Encoder: FastEncoder,
    autoencoder.Decoder: FastDecoder,
    autoencoder.ResidualBlock: FastResidualBlock,
    autoencoder.Downsample: FastDownsample,
    autoencoder.Upsample: FastUpsample,
}


def accelerate(network: Network) -> Network:
    """Change the modules of a network into their faster subclasses, in place.

    A subclass runs its parent's `forward` if `switch.runs_on` returns False: on other devices, when gradients are
    recorded, under `torch.compile`. Parameters and layers, which may be a host's, are unchanged.
    """
    for module in network.modules():
        module.__class__ = _FAST.get(type(module), type(module))
    return network


def foreign_layers(device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which the layers of a third-party network run faster on a CPU."""
    if device.type != "cpu" or mode() == "off":
        return nullcontext()
    keep_freed_memory(device)
    return FastLayers()
