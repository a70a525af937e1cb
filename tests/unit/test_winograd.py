"""Winograd's way to a 3x3 convolution against PyTorch's in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from varestorer_core.models import winograd
from varestorer_core.models.winograd import convolve, pays, winograd_conv


def arguments(channels=5, outputs=7, size=(9, 6), batch=1, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, channels, *size, generator=generator)
    weight = torch.randn(outputs, channels, 3, 3, generator=generator) / (9 * channels) ** 0.5
    return x.to(dtype), weight.to(dtype), torch.randn(outputs, generator=generator).to(dtype)


def plain(x, weight, bias):
    bias = None if bias is None else bias.double()
    return F.conv2d(x.double(), weight.double(), bias, padding=1)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (4, 4), (9, 6), (16, 3), (31, 17)])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_it_equals_the_plain_convolution(size, batch, layout):
    x, weight, bias = arguments(size=size, batch=batch)
    for shift in (bias, None):
        result = convolve(x.contiguous(memory_format=layout), weight, shift)
        assert (result - plain(x, weight, shift)).abs().max() < 1e-5


@pytest.mark.parametrize("band", [1, 6 * 6 * 5 * 2])
def test_bands_join(band, monkeypatch):
    monkeypatch.setattr(winograd, "_BAND", band)
    x, weight, bias = arguments(size=(27, 6))
    assert (convolve(x, weight, bias) - plain(x, weight, bias)).abs().max() < 1e-5


def test_errors_stay_near_those_of_the_plain_way():
    x, weight, bias = arguments(128, 128, (32, 32))
    error = (convolve(x, weight, bias) - plain(x, weight, bias)).square().mean().sqrt()
    assert error < 1.5e-6  # of values near 1.4; the plain way's is 2e-7 to 6e-7, by the layout


def test_a_picture_of_a_batch_comes_out_as_it_does_alone():
    x, weight, bias = arguments(batch=3)
    together = convolve(x, weight, bias)
    assert all(
        torch.equal(together[i : i + 1], convolve(x[i : i + 1], weight, bias)) for i in (0, 1, 2)
    )


@torch.no_grad()
def test_where_it_pays():
    wide, weight, _ = arguments(128, 128, (48, 48))
    assert pays(wide, weight)
    assert not pays(wide[..., :32], weight)
    assert not pays(wide.bfloat16(), weight.bfloat16())
    assert not pays(wide.double(), weight.double())
    assert not pays(wide[:, :64], weight[:, :64])
    assert not pays(wide.to("meta"), weight.to("meta"))
    with torch.enable_grad():
        assert not pays(wide, weight)


def test_layers_use_it_without_gradients_alone(monkeypatch):
    calls = []
    monkeypatch.setattr(
        winograd, "convolve", lambda *values: calls.append(values) or convolve(*values)
    )
    layer = winograd_conv(nn)(128, 128, 3, padding=1)
    x = torch.randn(1, 128, 50, 47)
    layer(x).sum().backward()
    assert layer.weight.grad is not None
    assert not calls
    with torch.no_grad():
        assert torch.allclose(layer(x), F.conv2d(x, layer.weight, layer.bias, padding=1), atol=1e-5)
    assert len(calls) == 1


def test_it_sees_the_weights_as_a_host_gives_them():
    class Operations:
        class Conv2d(nn.Conv2d):
            def forward(self, x):
                return self._conv_forward(x, self.weight * 2, None)

    layer = winograd_conv(Operations)(128, 128, 3, padding=1)
    x = torch.randn(1, 128, 48, 48)
    with torch.no_grad():
        assert torch.allclose(layer(x), F.conv2d(x, layer.weight * 2, padding=1), atol=1e-5)
