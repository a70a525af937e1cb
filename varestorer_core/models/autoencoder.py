"""Convolutional encoder and decoder of the visual tokenizer.

The VQGAN layout without attention: residual blocks of GroupNorm, SiLU and 3x3 convolutions, halving by
a strided convolution with one pixel of zero padding at the right and bottom, doubling by nearest neighbour.
Parameter names follow the checkpoint's flattened spelling (`conv1.weight`, not `conv1.conv.weight`).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import TokenizerConfig
from .maps import done_with, maps_used_again, new_map
from .resampling import doubling_conv, halving_conv
from .strips import pays_in_strips, pointwise_conv, strip_conv

_EPS = 1e-6


class ResidualBlock(nn.Module):
    """Two convolutions with pre-activation, added to the input (projected by a 1x1 if widths differ)."""

    def __init__(
        self, in_channels: int, out_channels: int, groups: int, operations: Any, **factory: Any
    ):
        super().__init__()
        convolution = strip_conv(operations)
        self.norm1 = operations.GroupNorm(groups, in_channels, eps=_EPS, **factory)
        self.conv1 = convolution(in_channels, out_channels, 3, padding=1, **factory)
        self.norm2 = operations.GroupNorm(groups, out_channels, eps=_EPS, **factory)
        self.conv2 = convolution(out_channels, out_channels, 3, padding=1, **factory)
        self.nin_shortcut = (
            pointwise_conv(operations)(in_channels, out_channels, 1, **factory)
            if in_channels != out_channels
            else None
        )

    def forward(self, x: Tensor, *, overwrite: bool = False) -> Tensor:
        """Return the sum; with `overwrite` x may be written to, or its memory used, where no gradient is recorded."""
        if not pays_in_strips(x):
            h = self.conv1(_silu(self.norm1(x)))
            h = self.conv2(_silu(self.norm2(h)))
            x = x if self.nin_shortcut is None else self.nin_shortcut(x)
            return x + h if torch.is_grad_enabled() else h.add_(x)
        x = x.contiguous(memory_format=torch.channels_last)
        h = new_map(x, self.conv1.out_channels, *x.shape[2:])
        self.conv1.after(self.norm1, x, h, add=False)
        result = x
        if self.nin_shortcut is not None:
            result = self.nin_shortcut(x)
            if overwrite:
                done_with(x)
        elif not overwrite:
            result = x.clone()
        self.conv2.after(self.norm2, h, result, add=True)
        done_with(h)
        return result


class Downsample(nn.Module):
    """Halve height and width."""

    def __init__(self, channels: int, operations: Any, **factory: Any):
        super().__init__()
        self.conv = halving_conv(operations)(channels, channels, 3, stride=2, **factory)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Upsample(nn.Module):
    """Double height and width."""

    def __init__(self, channels: int, operations: Any, **factory: Any):
        super().__init__()
        self.conv = doubling_conv(operations)(channels, channels, 3, padding=1, **factory)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


def _silu(x: Tensor) -> Tensor:
    """Return SiLU of what nothing else reads: in place where no gradient needs it."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


class _Level(nn.Module):
    """The residual blocks of one resolution and, except at the ends, the resampling after them."""

    def __init__(self, blocks: list[ResidualBlock], **resample: nn.Module):
        super().__init__()
        self.block = nn.ModuleList(blocks)
        for name, module in resample.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        for child in self.block:
            x = child(x, overwrite=True)
        for name in ("downsample", "upsample"):
            if name in self._modules:
                resampled = self._modules[name](x)  # pyright: ignore[reportOptionalCall]
                done_with(x)
                x = resampled
        return x


class _Middle(nn.Module):
    """The two residual blocks at the coarsest resolution."""

    def __init__(self, channels: int, groups: int, operations: Any, **factory: Any):
        super().__init__()
        self.block_1 = ResidualBlock(channels, channels, groups, operations, **factory)
        self.block_2 = ResidualBlock(channels, channels, groups, operations, **factory)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.block_1(x, overwrite=True), overwrite=True)


class Encoder(nn.Module):
    """Picture (B, 3, H, W) in [-1, 1] to features (B, d, H/patch, W/patch), not normalised."""

    def __init__(self, config: TokenizerConfig, operations: Any, **factory: Any):
        super().__init__()
        widths = [config.base_channels * m for m in config.channel_multipliers]
        groups = config.norm_groups
        self.conv_in = operations.Conv2d(3, config.base_channels, 3, padding=1, **factory)
        levels, channels = [], config.base_channels
        for i, width in enumerate(widths):
            blocks = []
            for _ in range(config.num_res_blocks):
                blocks.append(ResidualBlock(channels, width, groups, operations, **factory))
                channels = width
            last = i == len(widths) - 1
            resample = {} if last else {"downsample": Downsample(channels, operations, **factory)}
            levels.append(_Level(blocks, **resample))
        self.down = nn.ModuleList(levels)
        self.mid = _Middle(channels, groups, operations, **factory)
        self.norm_out = operations.GroupNorm(groups, channels, eps=_EPS, **factory)
        self.conv_out = operations.Conv2d(channels, config.codebook_dim, 3, padding=1, **factory)

    def forward(self, x: Tensor) -> Tensor:
        with maps_used_again(x):
            x = self.conv_in(x)
            for level in self.down:
                x = level(x)
            x = self.mid(x)
            return self.conv_out(_silu(self.norm_out(x)))


class Decoder(nn.Module):
    """Summed codes (B, d, h, w) to a picture (B, 3, h*patch, w*patch), not clamped."""

    def __init__(self, config: TokenizerConfig, operations: Any, **factory: Any):
        super().__init__()
        widths = [config.base_channels * m for m in config.channel_multipliers]
        groups = config.norm_groups
        channels = widths[-1]
        self.conv_in = operations.Conv2d(config.codebook_dim, channels, 3, padding=1, **factory)
        self.mid = _Middle(channels, groups, operations, **factory)
        levels: list[_Level] = []
        for i in reversed(range(len(widths))):
            blocks = []
            for _ in range(config.num_res_blocks + 1):
                blocks.append(ResidualBlock(channels, widths[i], groups, operations, **factory))
                channels = widths[i]
            resample = {"upsample": Upsample(channels, operations, **factory)} if i > 0 else {}
            levels.insert(0, _Level(blocks, **resample))
        # Checkpoints number the levels by resolution, finest first; they run coarsest first.
        self.up = nn.ModuleList(levels)
        self.norm_out = operations.GroupNorm(groups, channels, eps=_EPS, **factory)
        self.conv_out = strip_conv(operations)(channels, 3, 3, padding=1, **factory)

    def forward(self, codes: Tensor) -> Tensor:
        with maps_used_again(codes):
            x = self.mid(self.conv_in(codes))
            for level in reversed(self.up):  # pyright: ignore[reportArgumentType]
                x = level(x)
            if not pays_in_strips(x):
                return self.conv_out(_silu(self.norm_out(x)))
            picture = x.new_empty(len(x), *x.shape[2:], 3).permute(0, 3, 1, 2)
            self.conv_out.after(self.norm_out, x, picture, add=False)
            done_with(x)
            return picture
