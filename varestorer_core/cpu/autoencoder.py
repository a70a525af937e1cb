"""The tokenizer's networks on a CPU: large feature maps in strips, in reused memory.

Each class computes what its parent in `models.autoencoder` computes, apart from rounding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.autoencoder import Decoder, Downsample, Encoder, ResidualBlock, Upsample
from .fused import convolution_weights
from .maps import empty_feature_map, feature_map_pool, in_pass, release
from .resampling import doubled, doubled_taps, doubles_at_once, halved
from .speed import Trial, is_faster, name_of, power_of_two, ramp
from .strips import convolve_activated, convolve_whole, pointwise, uses_strips
from .switch import runs_on


def _laid_out(x: Tensor, channels: int) -> Tensor:
    """Return x in channels-last memory format if layers with that many channels are faster in it."""
    channels = min(128, power_of_two(channels))
    sample = f"{name_of(x.dtype)}, {channels} channels"
    if not is_faster("channels last", sample, lambda: _layout_trials(x.dtype, channels)):
        return x
    return x.contiguous(memory_format=torch.channels_last)


def _layout_trials(dtype: torch.dtype, channels: int) -> tuple[Trial, Trial]:
    x, weight = ramp(1, channels, 32, 32, dtype=dtype), ramp(channels, channels, 3, 3, dtype=dtype)
    last = x.contiguous(memory_format=torch.channels_last)
    groups = min(32, channels)

    def layers(x: Tensor) -> Tensor:
        return F.conv2d(F.silu(F.group_norm(x, groups)), weight, padding=1)

    return lambda: layers(last), lambda: layers(x)


class FastResidualBlock(ResidualBlock):
    """Process large feature maps in strips; use Winograd's algorithm for 3x3 convolutions if it is faster."""

    def forward(self, x: Tensor) -> Tensor:
        if not runs_on(x):
            return super().forward(x)
        if uses_strips(x):
            return self._in_strips(x)
        h = convolve_whole(self.conv1, F.silu(self.norm1(x), inplace=True))
        h = convolve_whole(self.conv2, F.silu(self.norm2(h), inplace=True))
        return h.add_(x if self.nin_shortcut is None else self.nin_shortcut(x))

    def _in_strips(self, x: Tensor) -> Tensor:
        overwrite = in_pass()  # within a pass, this block is the only reader of x
        x = x.contiguous(memory_format=torch.channels_last)
        h = empty_feature_map(x, self.conv1.out_channels, *x.shape[2:])
        convolve_activated(self.conv1, self.norm1, x, h, add=False)
        result = x
        if self.nin_shortcut is not None:
            found = convolution_weights(self.nin_shortcut, x)
            result = self.nin_shortcut(x) if found is None else pointwise(x, *found)
            if overwrite:
                release(x)
        elif not overwrite:
            result = x.clone()
        convolve_activated(self.conv2, self.norm2, h, result, add=True)
        release(h)
        return result


class FastDownsample(Downsample):
    """Process large feature maps in strips, without padding a copy of the whole."""

    def forward(self, x: Tensor) -> Tensor:
        if not runs_on(x):
            return super().forward(x)
        found = convolution_weights(self.conv, x) if uses_strips(x) else None
        result = super().forward(x) if found is None else halved(x, *found)
        if uses_strips(x):
            release(x)
        return result


class FastUpsample(Upsample):
    """Upsampling and convolution as one transposed convolution: 16 taps for four pixels instead of 36."""

    def forward(self, x: Tensor) -> Tensor:
        if not runs_on(x):
            return super().forward(x)
        found = convolution_weights(self.conv, x) if doubles_at_once(x) else None
        if found is None:
            result = super().forward(x)
        else:
            weight, bias = found
            result = doubled(x, doubled_taps(weight), bias)
        if uses_strips(x):
            release(x)
        return result


class FastEncoder(Encoder):
    """Forward pass in the faster memory format, in reused memory."""

    def forward(self, x: Tensor) -> Tensor:
        if not runs_on(x):
            return super().forward(x)
        with feature_map_pool(x):
            return super().forward(_laid_out(x, self.conv_in.out_channels))


class FastDecoder(Decoder):
    """Forward pass in the faster memory format, in reused memory, with the last layers in strips."""

    def forward(self, codes: Tensor) -> Tensor:
        if not runs_on(codes):
            return super().forward(codes)
        codes = _laid_out(codes, self.conv_out.in_channels)
        with feature_map_pool(codes):
            x = self.mid(self.conv_in(codes))
            for level in reversed(self.up):  # pyright: ignore[reportArgumentType]
                x = level(x)
            if not uses_strips(x):
                return self.conv_out(F.silu(self.norm_out(x), inplace=True))
            picture = x.new_empty(len(x), *x.shape[2:], 3).permute(0, 3, 1, 2)
            convolve_activated(self.conv_out, self.norm_out, x, picture, add=False)
            release(x)
            return picture
