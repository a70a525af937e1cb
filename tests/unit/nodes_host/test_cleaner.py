"""A cleaner beside the VAE in the memory of the host's device."""

from types import SimpleNamespace

import pytest
import torch

from .conftest import Patcher


@pytest.fixture
def stages(stand_in, make_tokenizer):
    """Return a function that creates stages with a cleaner of a number of patchers."""
    vae = stand_in.load("vae").VARestorerVAE(make_tokenizer())

    def make(**cleaner):
        network = torch.nn.Conv2d(3, 3, 3, padding=1).requires_grad_(False)
        cleaner = SimpleNamespace(
            model=network, scale=1, input_channels=3, output_channels=3, **cleaner
        )
        return stand_in.load("stages").HostStages(vae=vae, cleaner=cleaner)

    return make


def encode(stand_in, stages, **settings):
    settings = stand_in.load("stages").RestoreSettings(upscale=1.0, **settings)
    return stages.encode([torch.rand(3, 40, 40)], settings)


def test_one_request_loads_the_vae_and_a_managed_cleaner(stand_in, stages):
    patcher = Patcher(None)
    made = stages(patcher=patcher)
    encode(stand_in, made)
    ((models, asked),) = stand_in.loads
    assert models == [made.vae.patcher, patcher]
    assert asked["force_full_load"]
    pixels = 256 * 256  # of a tile
    cleaning = stand_in.load("cleaner").cleaner_bytes(pixels)
    assert asked["memory_required"] >= max(cleaning, made.vae.encode_bytes(pixels))
    assert stand_in.freed == []


def test_a_cleaner_that_is_not_managed_goes_first(stand_in, stages):
    made = stages()
    done = []
    stand_in.management.free_memory = lambda *_: done.append("cleaner")
    stand_in.management.load_models_gpu = lambda *_, **__: done.append("vae")
    encode(stand_in, made)
    assert done == ["cleaner", "vae"]


def test_a_model_that_enlarges_is_refused_before_anything_is_loaded(stand_in, stages):
    made = stages(patcher=Patcher(None))
    made._cleaner.scale = 4
    with pytest.raises(Exception, match="must keep the picture's size"):
        encode(stand_in, made)
    assert stand_in.loads == stand_in.freed == []


@pytest.mark.parametrize("side", ["input_channels", "output_channels"])
@pytest.mark.parametrize("count", [1, 4])
def test_a_model_of_other_channels_is_refused_before_anything_is_loaded(
    stand_in, stages, side, count
):
    made = stages(patcher=Patcher(None))
    setattr(made._cleaner, side, count)
    with pytest.raises(Exception, match=r"must read and return 3 channels \(RGB\), got"):
        encode(stand_in, made)
    assert stand_in.loads == stand_in.freed == []
