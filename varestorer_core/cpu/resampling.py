"""Convolutions that halve or double a feature map on a CPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .maps import empty_feature_map
from .speed import Trial, is_faster, name_of, ramp
from .strips import rows_of_a_strip, uses_strips

_LEAST_PIXELS = 32 * 32
"""With fewer, `doubled_taps` takes longer than the multiplications that it saves."""


def halved(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return the convolution (B, K, H/2, W/2), rounded down, of x (B, C, H, W) padded right and below."""
    height, width = x.shape[2:]
    step = max(1, rows_of_a_strip(x) // 2)
    weight = weight.contiguous(memory_format=torch.channels_last)
    result = empty_feature_map(x, len(weight), height // 2, width // 2)
    for first in range(0, height // 2, step):
        last = min(first + step, height // 2)
        part = x[:, :, 2 * first : 2 * last + 1]
        part = F.pad(part, (0, 1, 0, 2 * (last - first) + 1 - part.shape[2]))
        result[:, :, first:last] = F.conv2d(part, weight, bias, stride=2)
    return result


def doubled(x: Tensor, taps: Tensor, bias: Tensor | None) -> Tensor:
    """Return the transposed convolution (B, K, 2 H, 2 W) of x (B, C, H, W) with `doubled_taps`."""
    if not uses_strips(x):
        return F.conv_transpose2d(x, taps, bias, stride=2, padding=1)
    height, width = x.shape[2:]
    step = rows_of_a_strip(x)
    result = empty_feature_map(x, taps.shape[1], 2 * height, 2 * width)
    for first in range(0, height, step):
        last = min(first + step, height)
        above, below = int(first == 0), int(last == height)
        part = x[:, :, first - 1 + above : last + 1 - below]
        if above or below:
            part = F.pad(part, (0, 0, above, below))
        # One more row at each end is computed; the part outside the strip is dropped.
        strip = F.conv_transpose2d(part, taps, bias, stride=2, padding=(3, 1))
        result[:, :, 2 * first : 2 * last] = strip
    return result


def doubles_at_once(x: Tensor) -> bool:
    """Return whether one transposed convolution is faster than upsampling x (B, C, H, W) and then convolving it."""
    if x.shape[0] * x.shape[2] * x.shape[3] < _LEAST_PIXELS:
        return False
    return is_faster("doubling", name_of(x.dtype), lambda: _trials(x.dtype))


def _trials(dtype: torch.dtype) -> tuple[Trial, Trial]:
    x = ramp(1, 64, 32, 32, dtype=dtype).contiguous(memory_format=torch.channels_last)
    weight = ramp(64, 64, 3, 3, dtype=dtype)

    def theirs() -> Tensor:
        return F.conv2d(F.interpolate(x, scale_factor=2.0, mode="nearest"), weight, padding=1)

    return lambda: doubled(x, doubled_taps(weight), None), theirs


def doubled_taps(weight: Tensor) -> Tensor:
    """Return the kernel (in, out, 4, 4) of the transposed convolution for one (out, in, 3, 3)."""
    taps = weight.float().flip(2, 3).transpose(0, 1)
    for axis in (2, 3):  # pairs of neighbours: t0, t0 + t1, t1 + t2, t2
        first, middle, last = taps.split(1, dim=axis)
        taps = torch.cat((first, first + middle, middle + last, last), dim=axis)
    return taps.to(weight.dtype)
