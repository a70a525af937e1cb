"""Winograd's algorithm for 3x3 convolutions, compared with PyTorch's in float64."""

import pytest
import torch
import torch.nn.functional as F

from varestorer_core.cpu.winograd import ROWS, Winograd, band_height, uses_winograd


def arguments(channels=5, outputs=7, size=(9, 6)):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, channels, *size, generator=generator)
    weight = torch.randn(outputs, channels, 3, 3, generator=generator) / (9 * channels) ** 0.5
    return x, weight, torch.randn(outputs, generator=generator)


def plain(x, weight, bias):
    bias = None if bias is None else bias.double()
    return F.conv2d(x.double(), weight.double(), bias, padding=1)


def convolved(x, weight, bias, before=None):
    """Return all rows as one band, added to `before` if it is given."""
    height = x.shape[2]
    below = -height % ROWS + 1
    rows = F.pad(x, (0, 0, 1, below))[0].permute(1, 2, 0).contiguous()
    result = torch.full((height, x.shape[3], len(weight)), float("nan"))
    if before is not None:
        result = before[0].permute(1, 2, 0).clone(memory_format=torch.contiguous_format)
    with torch.no_grad():
        Winograd(weight, bias).convolve(rows, result, add=before is not None)
    return result.permute(2, 0, 1)[None]


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (4, 4), (9, 6), (16, 3), (31, 17)])
def test_it_equals_the_plain_convolution(size):
    x, weight, bias = arguments(size=size)
    for shift in (bias, None):
        exact = plain(x, weight, shift)
        assert (convolved(x, weight, shift) - exact).abs().max() < 1e-5
        before = torch.randn(exact.shape)
        assert (convolved(x, weight, shift, before) - exact - before).abs().max() < 1e-5


def test_errors_are_close_to_those_of_the_direct_convolution():
    x, weight, bias = arguments(128, 128, (32, 32))
    error = (convolved(x, weight, bias) - plain(x, weight, bias)).square().mean().sqrt()
    assert (
        error < 1.5e-6
    )  # of values near 1.4; the direct convolution's is 2e-7 to 6e-7, by the layout


def test_a_band_is_of_whole_strips():
    assert band_height(512, 128) % ROWS == 0
    assert band_height(10**6, 512) == ROWS


@torch.no_grad()
def test_where_it_is_used():
    wide, weight, _ = arguments(128, 128, (48, 48))
    assert uses_winograd(wide, weight)
    assert not uses_winograd(wide[..., :16], weight)
    assert not uses_winograd(wide.bfloat16(), weight.bfloat16())
    assert not uses_winograd(wide.double(), weight.double())
    assert not uses_winograd(wide[:, :64], weight[:, :64])
    assert not uses_winograd(wide.to("meta"), weight.to("meta"))
    with torch.enable_grad():
        assert not uses_winograd(wide, weight)
