"""The tokenizer's layers on a CPU against the plain ones."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from varestorer_core.cpu import accelerate, autoencoder, resampling, strips
from varestorer_core.models.autoencoder import Downsample, ResidualBlock, Upsample


def strips_of(size, monkeypatch):
    monkeypatch.setattr(strips, "_STRIP", size)


@pytest.fixture(params=["small strips", "one strip"])
def strip_size(request, monkeypatch):
    if request.param == "small strips":
        monkeypatch.setattr(strips, "_STRIP", 8 * 13 * 2)


@pytest.fixture
def doubling(monkeypatch):
    """Double small feature maps at once, too, and return the list of their sizes."""
    sizes = []
    monkeypatch.setattr(resampling, "_LEAST_PIXELS", 0)
    monkeypatch.setattr(
        autoencoder,
        "doubled",
        lambda x, *rest: sizes.append(x.shape) or resampling.doubled(x, *rest),
    )
    return sizes


def both(layer, x):
    """Return what the plain layer computes and what the accelerated one does."""
    with torch.no_grad():
        plain = layer(x)
        return plain, accelerate(layer)(x)


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (2, 8), (7, 9), (12, 13)])
def test_doubling_and_convolving_at_once_equals_one_after_the_other(size, strip_size, doubling):
    plain, fast = both(Upsample(8, nn), torch.randn(2, 8, *size))
    assert torch.allclose(fast, plain, atol=1e-5)
    assert doubling == [(2, 8, *size)]


@pytest.mark.parametrize(("size", "at_once"), [((31, 32), False), ((32, 32), True)])
def test_only_maps_with_enough_pixels_are_doubled_at_once(size, at_once):
    assert resampling.doubles_at_once(torch.empty(1, 4, *size)) is at_once


@pytest.mark.parametrize("size", [(2, 2), (8, 8), (7, 9), (12, 13)])
def test_halving_in_strips_equals_the_whole(size, strip_size):
    plain, fast = both(Downsample(8, nn), torch.randn(2, 8, *size))
    assert torch.allclose(fast, plain, atol=1e-5)


def test_doubling_uses_the_weights_that_a_host_passes(doubling):
    class Operations:
        class Conv2d(nn.Conv2d):
            def forward(self, x):
                return self._conv_forward(x, self.weight * 2, None)

    plain, fast = both(Upsample(4, Operations), torch.randn(1, 4, 3, 3))
    assert torch.allclose(fast, plain, atol=1e-5)
    assert doubling == [(1, 4, 3, 3)]


@pytest.mark.parametrize("layer", [Upsample(2, nn), Downsample(2, nn), ResidualBlock(2, 4, 1, nn)])
def test_gradients_pass(layer):
    x = torch.randn(1, 2, 4, 4)
    accelerate(layer)(x).sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())


@pytest.mark.parametrize("strip", [100, 1000])
@pytest.mark.parametrize("width", [8, 16])
def test_work_in_place_leaves_the_input_alone(width, strip, monkeypatch):
    strips_of(strip, monkeypatch)
    x = torch.randn(2, 8, 9, 7)
    before = x.clone()
    plain, fast = both(ResidualBlock(8, width, 4, nn), x)
    assert torch.equal(x, before)
    assert torch.allclose(fast, plain, atol=1e-5)


def test_switched_off_the_plain_layers_run(monkeypatch):
    strips_of(100, monkeypatch)
    monkeypatch.setenv("VARESTORER_CPU_KERNELS", "off")
    x = torch.randn(2, 8, 9, 7)
    plain, fast = both(ResidualBlock(8, 16, 4, nn), x)
    assert torch.equal(fast, plain)


def test_a_copy_computes_with_its_own_weights():
    from copy import deepcopy

    layer = accelerate(ResidualBlock(8, 8, 4, nn))
    copy = deepcopy(layer)
    nn.init.zeros_(layer.conv2.weight)
    x = torch.randn(1, 8, 6, 6)
    with torch.no_grad():
        h = copy.conv2(F.silu(copy.norm2(copy.conv1(F.silu(copy.norm1(x))))))
        assert torch.allclose(copy(x), x + h, atol=1e-5)
