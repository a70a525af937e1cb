"""Norm, activation and convolution in strips, compared with whole feature maps in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from varestorer_core.cpu import strips, winograd
from varestorer_core.cpu.strips import (
    convolve_activated,
    convolve_whole,
    moments,
    pointwise,
    uses_strips,
)


class HostNorm(nn.GroupNorm):
    """A layer whose weights are only accessible to its own forward."""

    def forward(self, x):
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


@pytest.fixture(params=["small strips", "one strip"])
def strip_size(request, monkeypatch):
    if request.param == "small strips":
        monkeypatch.setattr(strips, "_STRIP", 8 * 13 * 2)
        monkeypatch.setattr(winograd, "_BAND", 1)
    return request.param


def random_norm(channels, groups, kind=nn.GroupNorm):
    norm = kind(groups, channels)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm


def plain(conv, norm, x):
    norm, conv = norm.double(), conv.double()
    return conv._conv_forward(F.silu(norm(x.double())), conv.weight, conv.bias)


@torch.no_grad()
@pytest.mark.parametrize("wide", [False, True])  # wide: Winograd's way
@pytest.mark.parametrize("kind", [nn.GroupNorm, HostNorm])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("batch", [1, 2])
def test_after_equals_one_layer_after_the_other(wide, kind, layout, batch, strip_size, monkeypatch):
    monkeypatch.setattr(winograd, "_LEAST_CHANNELS", 8 if wide else 9)
    monkeypatch.setattr(winograd, "_LEAST_PIXELS", 1)
    conv, norm = nn.Conv2d(8, 10, 3, padding=1), random_norm(8, 4, kind)
    x = (torch.randn(batch, 8, 11, 13) + 2).contiguous(memory_format=layout)
    for add in (False, True):
        before = torch.randn(batch, 10, 11, 13).contiguous(memory_format=torch.channels_last)
        result = before.clone()
        convolve_activated(conv.float(), norm.float(), x, result, add=add)
        exact = plain(conv, norm, x) + (before if add else 0)
        assert (result - exact).abs().max() < 2e-5


@torch.no_grad()
def test_after_in_bfloat16_is_as_near_as_layer_after_layer():
    conv, norm = nn.Conv2d(32, 32, 3, padding=1).bfloat16(), random_norm(32, 4).bfloat16()
    x = torch.randn(1, 32, 40, 40).bfloat16().contiguous(memory_format=torch.channels_last)
    result = torch.empty_like(x)
    convolve_activated(conv, norm, x, result, add=False)
    layers = conv(F.silu(norm(x)))
    exact = plain(conv, norm, x)
    ours, theirs = ((value - exact).square().mean() for value in (result, layers))
    assert ours < 1.1 * theirs


@torch.no_grad()
def test_a_host_decides_about_the_weights():
    class Doubling(nn.Conv2d):
        def forward(self, x):
            return self._conv_forward(x, self.weight * 2, None)

    class Foreign(nn.Conv2d):
        def forward(self, x):
            return F.conv2d(x, self.weight * 2, None, padding=1)

    norm, x = random_norm(8, 4), torch.randn(1, 8, 6, 5)
    for kind in (Doubling, Foreign):
        conv = kind(8, 8, 3, padding=1)
        result = torch.ones(1, 8, 6, 5)
        convolve_activated(conv, norm, x, result, add=True)
        exact = 1 + F.conv2d(F.silu(norm(x)), conv.weight * 2, padding=1)
        assert torch.allclose(result, exact, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_moments(dtype, strip_size):
    x = (torch.randn(1, 8, 11, 13) * torch.arange(1, 9)[:, None, None] + 5).to(dtype)
    mean, variance = moments(x, 4)
    groups = x.double().reshape(4, -1)
    assert torch.allclose(mean.double(), groups.mean(1), rtol=1e-5)
    assert torch.allclose(variance.double(), groups.var(1, unbiased=False), rtol=1e-5)


@torch.no_grad()
def test_small_feature_maps_use_winograd(monkeypatch):
    monkeypatch.setattr(winograd, "_LEAST_CHANNELS", 8)
    monkeypatch.setattr(winograd, "_LEAST_PIXELS", 1)
    layer = nn.Conv2d(8, 8, 3, padding=1)
    x = torch.randn(3, 8, 7, 9)
    exact = F.conv2d(x.double(), layer.weight.double(), layer.bias.double(), padding=1)
    result = convolve_whole(layer, x)
    assert (result - exact).abs().max() < 1e-5
    assert not torch.equal(result, layer(x))
    assert all(
        torch.equal(convolve_whole(layer, x[i : i + 1]), result[i : i + 1]) for i in range(3)
    )


@torch.no_grad()
def test_pointwise_convolutions(strip_size):
    layer = nn.Conv2d(8, 6, 1)
    x = torch.randn(2, 8, 7, 5)
    assert torch.allclose(pointwise(x, layer.weight, layer.bias), layer(x), atol=1e-5)


def test_where_strips_pay():
    x = torch.empty(1, 128, 130, 128)
    assert not uses_strips(x)  # gradients
    with torch.no_grad():
        assert uses_strips(x)
        assert uses_strips(x.bfloat16())
        assert not uses_strips(x.double())
        assert not uses_strips(x.to("meta"))
        assert not uses_strips(x[:, :64].expand(2, -1, -1, -1))


@torch.no_grad()
def test_layers_of_a_host_get_the_same_bits(strip_size):
    """PyTorch's own statistics of channels-last feature maps are less exact, and would differ from the command's."""
    x = (torch.randn(1, 8, 11, 13) + 2).contiguous(memory_format=torch.channels_last)
    conv, norm = nn.Conv2d(8, 10, 3, padding=1), random_norm(8, 4)
    of_host = HostNorm(4, 8)
    of_host.load_state_dict(norm.state_dict())
    results = []
    for kind in (norm, of_host):
        results.append(torch.empty(1, 10, 11, 13).contiguous(memory_format=torch.channels_last))
        convolve_activated(conv, kind, x, results[-1], add=False)
    assert torch.equal(*results)
