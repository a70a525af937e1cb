"""GroupNorm, SiLU and a 3x3 convolution on a CPU, over strips of rows.

Run layer by layer, every step writes a feature map of up to 134 MB, which does not fit into a cache and needs new pages
each time: a fifth of the encoder's time. Here the statistics are computed first; then each strip is normalised,
activated and convolved while it is in the cache, and only the result is a full feature map.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .fused import convolution_weights, group_norm_weights
from .maps import empty_feature_map
from .speed import Trial, is_faster, name_of, ramp
from .winograd import ROWS, Winograd, band_height, uses_winograd

_STRIP = 1 << 21
"""Input elements per strip and thread: few enough for the cache, enough to amortise the convolution's overhead."""

Rows = Callable[[int, int], Tensor]
"""Returns rows `first` to `last` of a feature map, (1, C, last - first, W)."""


def uses_strips(x: Tensor) -> bool:
    """Return whether to process x (B, C, H, W) in strips; smaller feature maps fit into the cache."""
    return (
        x.device.type == "cpu"
        and x[0].numel() > _STRIP
        and x.dtype in (torch.float32, torch.bfloat16)
        and not torch.is_grad_enabled()
    )


def convolve_whole(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Return conv(x) for a 3x3 convolution with padding, with Winograd's algorithm if it is faster."""
    found = convolution_weights(conv, x) if uses_winograd(x, conv.weight) else None
    if found is None:
        return conv(x)
    x = x.contiguous(memory_format=torch.channels_last)
    result = empty_feature_map(x, len(found[0]), *x.shape[2:])
    for i in range(len(x)):
        convolve(_plain(x[i : i + 1]), x, *found, result[i : i + 1])
    return result


def convolve_activated(
    conv: nn.Conv2d, norm: nn.Module, x: Tensor, result: Tensor, *, add: bool
) -> None:
    """Write the convolution of SiLU of the normalised x (B, C, H, W) to `result`, or add it there.

    `result` (B, K, H, W) must not be x, and is in channels-last memory format.
    """
    x = x.contiguous(memory_format=torch.channels_last)
    found = convolution_weights(conv, x)
    if found is None:
        plain = conv(F.silu(norm(x)))
        result.add_(plain) if add else result.copy_(plain)
        return
    for i in range(len(x)):
        convolve(activation(norm, x[i : i + 1]), x, *found, result[i : i + 1], add=add)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return the 1x1 convolution of x, strip by strip."""
    result = empty_feature_map(x, len(weight), *x.shape[2:])
    step = rows_of_a_strip(x)
    # PyTorch uses its fast kernels for 1x1 convolutions on one thread only if they are dilated; dilation has no effect
    # on a single tap.
    dilates = is_faster("dilated 1x1", name_of(x.dtype), lambda: _pointwise_trials(x.dtype))
    dilation = 2 if dilates else 1
    for part, room in zip(x.split(step, 2), result.split(step, 2), strict=True):
        room.copy_(F.conv2d(part, weight, bias, dilation=dilation))
    return result


def _pointwise_trials(dtype: torch.dtype) -> tuple[Trial, Trial]:
    x = ramp(1, 128, 64, 64, dtype=dtype).contiguous(memory_format=torch.channels_last)
    weight = ramp(64, 128, 1, 1, dtype=dtype)
    return lambda: F.conv2d(x, weight, dilation=2), lambda: F.conv2d(x, weight)


def activation(norm: nn.Module, x: Tensor) -> Rows:
    """Return a function that computes rows `first` to `last` of SiLU of the normalised x (1, C, H, W)."""
    found = group_norm_weights(norm, x)
    if found is None:
        whole = norm(x)  # a layer with more to it
        return lambda first, last: F.silu(whole[:, :, first:last])
    groups, scale, shift, eps = found
    mean, variance = (v.repeat_interleave(x.shape[1] // groups) for v in moments(x, groups))
    weight, bias = scale.float(), shift.float()

    def rows(first: int, last: int) -> Tensor:
        # With given statistics, the grouping of channels makes no difference.
        part = x[:, :, first:last]
        normal = F.batch_norm(part, mean, variance, weight, bias, eps=eps)
        return F.silu(normal, inplace=True)

    return rows


def moments(x: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Return mean and variance of each group (G,) of x (1, C, H, W), in float32."""
    means, variances, counts = [], [], []
    # With float32 running statistics, PyTorch also returns those of a bfloat16 feature map in float32.
    running = torch.zeros(x.shape[1], dtype=torch.float32)
    for part in x.split(rows_of_a_strip(x), dim=2):
        mean, variance = torch.batch_norm_update_stats(part, running, running, 0.0)
        means.append(mean.double())
        variances.append(variance.double())
        counts.append(part.shape[2])
    share = torch.tensor(counts, dtype=torch.float64)[:, None, None] / x.shape[2]
    share = share * groups / x.shape[1]
    mean = torch.stack(means).unflatten(1, (groups, -1))  # (strips, G, C / G)
    variance = torch.stack(variances).unflatten(1, (groups, -1))
    middle = (mean * share).sum((0, 2))
    spread = variance + (mean - middle[:, None]).square()
    return middle.float(), (spread * share).sum((0, 2)).float()


def convolve(
    rows: Rows,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    result: Tensor,
    *,
    add: bool = False,
) -> None:
    """Write the convolution of rows as large as those of x to `result` (1, K, H, W), or add it there."""
    height, width = x.shape[2:]
    winograd = Winograd(weight, bias) if uses_winograd(x, weight) else None
    step = rows_of_a_strip(x) if winograd is None else band_height(width, x.shape[1])
    weight = weight.contiguous(memory_format=torch.channels_last)  # once instead of in every call
    for first in range(0, height, step):
        last = min(first + step, height)
        end = last if winograd is None else first + -(-(last - first) // ROWS) * ROWS
        above, below = int(first == 0), max(0, end + 1 - height)
        part = rows(first - 1 + above, end + 1 - below)
        if above or below:
            part = F.pad(part, (0, 0, above, below))
        target = result[:, :, first:last]
        if winograd is not None:
            winograd.convolve(_channels_last(part), _channels_last(target), add=add)
        elif add:
            target.add_(F.conv2d(part, weight, bias, padding=(0, 1)))
        else:
            target.copy_(F.conv2d(part, weight, bias, padding=(0, 1)))


def _plain(x: Tensor) -> Rows:
    return lambda first, last: x[:, :, first:last]


def rows_of_a_strip(x: Tensor) -> int:
    """Return the number of rows of x (B, C, H, W) in a strip."""
    return max(1, _STRIP * torch.get_num_threads() // (x.shape[1] * x.shape[3]))


def _channels_last(x: Tensor) -> Tensor:
    """Return x (1, C, H, W) as (H, W, C)."""
    return x[0].permute(1, 2, 0)
