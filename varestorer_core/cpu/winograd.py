"""3x3 convolutions in float32 on a CPU with half the multiplications: Winograd's F(4, 3) down the rows.

Lavin & Gray 2015 (arXiv:1509.09308), in one of the two dimensions. Six input rows are transformed (`B`), multiplied by
six transformed rows of the weight (`G`), and transformed back (`A`) to four output rows. Six 1x3 convolutions of a
quarter of the rows replace a 3x3 one: 18 multiplications instead of 36.

In both dimensions it would be 9 instead of 36, but measurements showed that the transforms took more time than they
saved. The rounding errors of one layer are 1.2 times those of the direct convolution.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .speed import Trial, is_faster, name_of, ramp

ROWS = 4
"""Output rows computed together, from two more input rows."""
_POINTS = (0.0, 0.625, -0.625, 1.5, -1.5)
"""Evaluation points of the polynomials besides infinity, chosen for small errors and powers that
are exact in float32."""
_MIXED_ROWS = ROWS + 2
_BAND = 1 << 21
"""Elements of transformed input held at once per thread: 8 MB, and as much for the products, fit into the cache."""
_LEAST_CHANNELS = 128
_LEAST_PIXELS = 32 * 32
"""Smaller layers take too little of a pass to be optimised."""


class _Matrices(NamedTuple):
    """The constants of F(4, 3)."""

    input: Tensor
    """B (6, 6), float32: input rows to transformed rows."""
    weight: Tensor
    """G (6, 3), float32."""
    output: Tensor
    """A (4, 6), float32: products to output rows."""
    bias: Tensor
    """(6,), float64: the vector that A maps to four ones."""


@cache
def _matrices() -> _Matrices:
    """Return the constants of the transposed Toom-Cook algorithm: evaluate, multiply, interpolate."""

    def powers(count: int) -> Tensor:  # for every point, and the leading coefficient for infinity
        rows = [[point**i for i in range(count)] for point in _POINTS]
        rows.append([0.0] * (count - 1) + [1.0])
        return torch.tensor(rows, dtype=torch.float64, device="cpu")

    output = powers(ROWS).T
    interpolate = torch.linalg.inv(powers(_MIXED_ROWS)).T
    bias = torch.linalg.pinv(output).sum(1)
    return _Matrices(interpolate.float(), powers(3).float(), output.float(), bias)


def uses_winograd(x: Tensor, weight: Tensor) -> bool:
    """Return whether the algorithm is precise enough and faster for x (B, C, H, W) and weight (K, C, 3, 3)."""
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_grad_enabled()
        and min(weight.shape[:2]) >= _LEAST_CHANNELS
        and x.shape[-2] * x.shape[-1] >= _LEAST_PIXELS
        and is_faster("Winograd", name_of(x.dtype), _trials)
    )


def _trials() -> tuple[Trial, Trial]:
    """Return both variants on the smallest number of channels; with more, the saved multiplications only count more.

    The weight is transformed once for a whole feature map, so the time of this small part excludes it.
    """
    channels, height, width = _LEAST_CHANNELS, 16, 64
    x = ramp(1, height + 2, width, channels).permute(0, 3, 1, 2)
    weight = ramp(channels, channels, 3, 3).contiguous(memory_format=torch.channels_last)
    rows, result = x[0].permute(1, 2, 0), torch.empty(height, width, channels)
    prepared = Winograd(weight, None)
    return (
        lambda: prepared.convolve(rows, result),
        lambda: F.conv2d(x, weight, padding=(0, 1)),
    )


class Winograd:
    """The six 1x3 weights and the biases of one convolution, applied to bands of rows.

    Args:
        weight: (K, C, 3, 3), float32 on a CPU.
        bias: (K,), or none.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None):
        self._matrices = _matrices()
        outputs, channels = weight.shape[:2]
        rows = weight.permute(2, 0, 3, 1).reshape(3, -1)
        mixed = (self._matrices.weight @ rows).view(-1, outputs, 1, 3, channels)
        self._weights = mixed.permute(0, 1, 4, 2, 3)
        shares = self._matrices.bias.tolist()
        self._biases = [None if bias is None else bias * share for share in shares]

    def convolve(self, rows: Tensor, result: Tensor, *, add: bool = False) -> None:
        """Write the convolution of rows (4n + 2, W, C) to `result` (h, W, K), or add it there.

        `rows` begins one row above the result and includes one row below; 4n is h rounded up. The sides are padded with
        zeros. Both tensors are dense in memory. Gradients are not supported.
        """
        strips = (rows.shape[0] - 2) // ROWS
        width, channels, outputs = *rows.shape[1:], result.shape[-1]
        numbers = width * channels  # in a row; neighbouring strips share two rows
        strided = rows.as_strided((strips, _MIXED_ROWS, numbers), (ROWS * numbers, numbers, 1))
        mixed = rows.new_empty(_MIXED_ROWS, strips, numbers)
        mix = self._matrices.input.expand(strips, -1, -1)
        torch.bmm(mix, strided, out=mixed.transpose(0, 1))
        products = rows.new_empty(_MIXED_ROWS, strips, width * outputs)
        for i, (weight, bias) in enumerate(zip(self._weights, self._biases, strict=True)):
            maps = mixed[i].view(1, strips, width, channels).permute(0, 3, 1, 2)
            product = F.conv2d(maps, weight, bias, padding=(0, 1))
            products[i].copy_(product.permute(0, 2, 3, 1).reshape(strips, -1))
        products, kept = products.transpose(0, 1), int(add)
        whole, rest = divmod(result.shape[0], ROWS)
        if whole:
            target = result[: whole * ROWS].view(whole, ROWS, -1)
            mix = self._matrices.output.expand(whole, -1, -1)
            target.baddbmm_(mix, products[:whole], beta=kept)
        if rest:
            target = result[-rest:].view(rest, -1)
            target.addmm_(self._matrices.output[:rest], products[-1], beta=kept)


def band_height(width: int, channels: int) -> int:
    """Return the number of output rows to compute at once for a given number of pixels and channels."""
    strips = _BAND * torch.get_num_threads() // (_MIXED_ROWS * width * channels)
    return max(1, strips) * ROWS
