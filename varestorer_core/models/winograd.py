"""3x3 convolutions in float32 on a CPU with half the products: Winograd's F(4, 3) down the rows.

Lavin & Gray 2015 (arXiv:1509.09308), in one of the two dimensions. Four rows of the result come from six of
the input, which are mixed into six others (`B`), multiplied by six mixtures of the weight's rows (`G`), and
mixed back (`A`). Six 1x3 convolutions of a quarter of the rows do the work of a 3x3 one: 18 products for 36.

In both dimensions it would be 9 for 36, but the mixing then takes what the products save, and the sums of
larger terms make the rounding errors several times those of the plain way. Here they are 1.2 times those.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS = 4
"""Rows of the result that are made together, from two more of the input."""
_POINTS = (0.0, 0.625, -0.625, 1.5, -1.5)
"""Where the polynomials are evaluated, besides infinity: small errors, and powers exact in float32."""
_MIXED_ROWS = ROWS + 2
_BAND = 1 << 21
"""Numbers of mixed input to hold at once: 8 MB and as many of products stay in a cache."""
_LEAST_CHANNELS = 128
_LEAST_PIXELS = 48 * 48
"""Below these the mixing takes more than the products save; measured on a Zen 5 core, one thread and two."""


class _Matrices(NamedTuple):
    """The constants of F(4, 3)."""

    input: Tensor
    """B (6, 6), float32: rows of the input to mixed rows."""
    weight: Tensor
    """G (6, 3), float32."""
    output: Tensor
    """A (4, 6), float32: products to rows of the result."""
    bias: Tensor
    """(6,), float64: what A turns into four ones."""


@cache
def _matrices() -> _Matrices:
    """Return the constants as Toom and Cook derive them: evaluate, multiply, interpolate, all transposed."""

    def powers(count: int) -> Tensor:  # of every point, and the leading coefficient for infinity
        rows = [[point**i for i in range(count)] for point in _POINTS]
        rows.append([0.0] * (count - 1) + [1.0])
        return torch.tensor(rows, dtype=torch.float64, device="cpu")

    output = powers(ROWS).T
    interpolate = torch.linalg.inv(powers(_MIXED_ROWS)).T
    bias = torch.linalg.pinv(output).sum(1)
    return _Matrices(interpolate.float(), powers(3).float(), output.float(), bias)


def winograd_conv(operations: Any) -> Any:
    """Return a class of layers: the Conv2d of `operations`, by this way where it is the faster one.

    For 3x3 convolutions with stride 1 and one pixel of zero padding.
    """

    class WinogradConv2d(operations.Conv2d):
        # What layers do with their weights, a host's too, once they are where the input is.
        def _conv_forward(
            self, x: Tensor, weight: Tensor, bias: Tensor | None, *args: Any, **kwargs: Any
        ) -> Tensor:
            if pays(x, weight):
                return convolve(x, weight, bias)
            return super()._conv_forward(x, weight, bias, *args, **kwargs)

    return WinogradConv2d


def pays(x: Tensor, weight: Tensor) -> bool:
    """Tell whether `convolve` is exact enough and faster for x (B, C, H, W) and weight (K, C, 3, 3)."""
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_grad_enabled()
        and min(weight.shape[:2]) >= _LEAST_CHANNELS
        and x.shape[-2] * x.shape[-1] >= _LEAST_PIXELS
    )


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return the convolution of x (B, C, H, W) with weight (K, C, 3, 3) and one pixel of zero padding.

    Args:
        x: float32 on a CPU; read with the channels last in memory.
        bias: (K,), or none.

    Returns:
        (B, K, H, W), with the channels last in memory. No gradient passes.
    """
    maps = x.permute(0, 2, 3, 1).contiguous()
    batch, height, width, _ = maps.shape
    result = maps.new_empty(batch, height, width, weight.shape[0])
    kernels = list(mixed_kernels(weight, bias))
    strips = max(1, _BAND // (_MIXED_ROWS * maps[0, 0].numel()))  # of four rows, in a band
    for i in range(batch):
        for first in range(0, height, strips * ROWS):
            last = min(first + strips * ROWS, height)
            convolve_band(padded_rows(maps[i], first, last), kernels, result[i, first:last])
    return result.permute(0, 3, 1, 2)


def padded_rows(rows: Tensor, first: int, last: int) -> Tensor:
    """Return the rows that make rows `first` to `last` of the result: whole strips and one on either side.

    `rows` is (H, W, C); where there are none, zeros are.
    """
    height = rows.shape[0]
    start, end = first - 1, first + -(-(last - first) // ROWS) * ROWS + 1
    if start >= 0 and end <= height:
        return rows[start:end]
    padded = rows.new_zeros(end - start, *rows.shape[1:])
    inside = slice(max(start, 0), min(end, height))
    padded[inside.start - start : inside.stop - start] = rows[inside]
    return padded


def mixed_kernels(weight: Tensor, bias: Tensor | None) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yield the six 1x3 weights (K, C, 1, 3), and biases (K,), of a 3x3 convolution."""
    matrices = _matrices()
    mixed = torch.einsum("fr,kcrs->fkcs", matrices.weight, weight)  # (6, K, C, 3)
    for kernel, share in zip(mixed, matrices.bias.tolist(), strict=True):
        kernel = kernel.unsqueeze(2).contiguous(memory_format=torch.channels_last)
        yield kernel, None if bias is None else bias * share


def convolve_band(
    rows: Tensor, kernels: list[tuple[Tensor, Tensor | None]], result: Tensor
) -> None:
    """Fill `result` (h, W, K) from the rows (4n + 2, W, C) that reach it, where 4n is h rounded up."""
    matrices = _matrices()
    strips = (rows.shape[0] - 2) // ROWS
    width, channels, outputs = *rows.shape[1:], result.shape[-1]
    numbers = width * channels  # in a row; a strip shares two rows with the next
    strided = rows.as_strided((strips, _MIXED_ROWS, numbers), (ROWS * numbers, numbers, 1))
    mixed = rows.new_empty(_MIXED_ROWS, strips, numbers)
    torch.bmm(matrices.input.expand(strips, -1, -1), strided, out=mixed.transpose(0, 1))
    products = rows.new_empty(_MIXED_ROWS, strips, width * outputs)
    for source, target, (kernel, bias) in zip(mixed, products, kernels, strict=True):
        maps = source.view(1, strips, width, channels).permute(0, 3, 1, 2)
        product = F.conv2d(maps, kernel, bias, padding=(0, 1))
        target.copy_(product.permute(0, 2, 3, 1).reshape(strips, -1))
    products = products.transpose(0, 1)
    whole, rest = divmod(result.shape[0], ROWS)
    if whole:
        target = result[: whole * ROWS].view(whole, ROWS, -1)
        torch.bmm(matrices.output.expand(whole, -1, -1), products[:whole], out=target)
    if rest:
        torch.mm(matrices.output[:rest], products[-1], out=result[-rest:].view(rest, -1))
