"""Convolutional encoder and decoder of the visual tokenizer.

The VQGAN layout without attention: residual blocks of GroupNorm, SiLU and 3x3 convolutions, downsampling by a strided
convolution with one pixel of zero padding at the right and bottom, upsampling by nearest neighbour. Parameter names
follow the flattened naming of the checkpoint (`conv1.weight`, not `conv1.conv.weight`).
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..config import TokenizerConfig

_EPS = 1e-6


class ResidualBlock(nn.Module):
    """Two convolutions with pre-activation, added to the input (projected by a 1x1 if widths differ)."""

    def __init__(
        self, in_channels: int, out_channels: int, groups: int, operations: Any, **factory: Any
    ):
        super().__init__()
        conv = operations.Conv2d
        self.norm1 = operations.GroupNorm(groups, in_channels, eps=_EPS, **factory)
        self.conv1 = conv(in_channels, out_channels, 3, padding=1, **factory)
        self.norm2 = operations.GroupNorm(groups, out_channels, eps=_EPS, **factory)
        self.conv2 = conv(out_channels, out_channels, 3, padding=1, **factory)
        self.nin_shortcut = (
            conv(in_channels, out_channels, 1, **factory) if in_channels != out_channels else None
        )

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (x if self.nin_shortcut is None else self.nin_shortcut(x))


def _blocks(
    channels: int, width: int, count: int, groups: int, operations: Any, **factory: Any
) -> list[ResidualBlock]:
    pairs = pairwise([channels] + [width] * count)
    return [ResidualBlock(*pair, groups, operations, **factory) for pair in pairs]


class Downsample(nn.Module):
    """Halve height and width."""

    def __init__(self, channels: int, operations: Any, **factory: Any):
        super().__init__()
        self.conv = operations.Conv2d(channels, channels, 3, stride=2, **factory)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Double height and width."""

    def __init__(self, channels: int, operations: Any, **factory: Any):
        super().__init__()
        self.conv = operations.Conv2d(channels, channels, 3, padding=1, **factory)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def _level(blocks: list[ResidualBlock], **resample: nn.Module) -> nn.Sequential:
    """The residual blocks of one resolution and, except at the ends, the resampling after them."""
    return nn.Sequential(OrderedDict(block=nn.Sequential(*blocks), **resample))


def _middle(channels: int, groups: int, operations: Any, **factory: Any) -> nn.Sequential:
    """The two residual blocks at the coarsest resolution."""
    blocks = _blocks(channels, channels, 2, groups, operations, **factory)
    return nn.Sequential(OrderedDict(zip(("block_1", "block_2"), blocks, strict=True)))


class Encoder(nn.Module):
    """Picture (B, 3, H, W) in [-1, 1] to features (B, d, H/patch, W/patch), not normalised."""

    def __init__(self, config: TokenizerConfig, operations: Any, **factory: Any):
        super().__init__()
        widths = [config.base_channels * m for m in config.channel_multipliers]
        groups, channels = config.norm_groups, config.base_channels
        self.conv_in = operations.Conv2d(3, channels, 3, padding=1, **factory)
        self.down = nn.ModuleList()
        for i, width in enumerate(widths):
            blocks = _blocks(channels, width, config.num_res_blocks, groups, operations, **factory)
            channels, last = width, i == len(widths) - 1
            resample = {} if last else {"downsample": Downsample(channels, operations, **factory)}
            self.down.append(_level(blocks, **resample))
        self.mid = _middle(channels, groups, operations, **factory)
        self.norm_out = operations.GroupNorm(groups, channels, eps=_EPS, **factory)
        self.conv_out = operations.Conv2d(channels, config.codebook_dim, 3, padding=1, **factory)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
        x = self.mid(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class Decoder(nn.Module):
    """Summed codes (B, d, h, w) to a picture (B, 3, h*patch, w*patch), not clamped."""

    def __init__(self, config: TokenizerConfig, operations: Any, **factory: Any):
        super().__init__()
        widths = [config.base_channels * m for m in config.channel_multipliers]
        groups, channels = config.norm_groups, widths[-1]
        self.conv_in = operations.Conv2d(config.codebook_dim, channels, 3, padding=1, **factory)
        self.mid = _middle(channels, groups, operations, **factory)
        # Checkpoints number the levels finest first; they run coarsest first.
        self.up = nn.ModuleList()
        for i, width in reversed(list(enumerate(widths))):
            count = config.num_res_blocks + 1
            blocks = _blocks(channels, width, count, groups, operations, **factory)
            channels = width
            resample = {"upsample": Upsample(channels, operations, **factory)} if i > 0 else {}
            self.up.insert(0, _level(blocks, **resample))
        self.norm_out = operations.GroupNorm(groups, channels, eps=_EPS, **factory)
        self.conv_out = operations.Conv2d(channels, 3, 3, padding=1, **factory)

    def forward(self, codes: Tensor) -> Tensor:
        x = self.mid(self.conv_in(codes))
        for level in reversed(self.up):  # pyright: ignore[reportArgumentType]
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(x)))
