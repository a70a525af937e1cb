import pytest
import torch
import torch.nn.functional as F
from torch import nn

from varestorer_core.models import strips
from varestorer_core.models.autoencoder import ResidualBlock
from varestorer_core.models.resampling import doubling_conv


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (2, 8)])
def test_doubling_and_convolving_at_once_equals_one_after_the_other(size):
    layer = doubling_conv(nn)(4, 4, 3, padding=1)
    x = torch.randn(2, 4, *size)
    plain = F.conv2d(F.interpolate(x, scale_factor=2.0), layer.weight, layer.bias, padding=1)
    with torch.no_grad():
        assert torch.allclose(layer(x), plain, atol=1e-5)
    assert torch.allclose(layer(x), plain, atol=1e-5)


def test_doubling_sees_the_weights_as_a_host_gives_them():
    class Operations:
        class Conv2d(nn.Conv2d):
            def forward(self, x):
                return self._conv_forward(x, self.weight * 2, None)

    layer = doubling_conv(Operations)(4, 4, 3, padding=1)
    x = torch.randn(1, 4, 3, 3)
    with torch.no_grad():
        plain = F.conv2d(F.interpolate(x, scale_factor=2.0), layer.weight * 2, padding=1)
        assert torch.allclose(layer(x), plain, atol=1e-5)


def test_gradients_pass_the_doubling():
    layer = doubling_conv(nn)(2, 2, 3, padding=1)
    layer(torch.randn(1, 2, 3, 3)).sum().backward()
    assert layer.weight.grad is not None


@pytest.mark.parametrize("strip", [100, 1000])
@pytest.mark.parametrize("width", [8, 16])
def test_work_in_place_leaves_the_input_alone(width, strip, monkeypatch):
    monkeypatch.setattr(strips, "_STRIP", strip)
    block = ResidualBlock(8, width, 4, nn)
    x = torch.randn(1, 8, 6, 6)
    before = x.clone()
    with torch.no_grad():
        quick = block(x)
    assert torch.equal(x, before)
    assert torch.allclose(quick, block(x), atol=1e-5)


@torch.no_grad()
def test_strips_give_what_whole_maps_give(monkeypatch):
    monkeypatch.setattr(strips, "_STRIP", 100)
    block = ResidualBlock(8, 16, 4, nn)
    x = torch.randn(2, 8, 9, 7)
    in_strips = block(x)
    assert (in_strips - block.double()(x.double())).abs().max() < 1e-5


@torch.no_grad()
def test_overwriting_gives_the_same(monkeypatch):
    monkeypatch.setattr(strips, "_STRIP", 100)
    block = ResidualBlock(8, 8, 4, nn)
    x = torch.randn(1, 8, 6, 6)
    assert torch.equal(block(x), block(x.clone(), overwrite=True))
