"""The host's VAE nodes with our VAE."""

import pytest
import torch

from varestorer_core.schedule import get_schedule


@pytest.fixture
def vae(stand_in, make_tokenizer):
    """Return a VAE that decodes in bf16."""
    return stand_in.load("vae").VARestorerVAE(make_tokenizer())


@pytest.mark.parametrize("method", ["encode", "encode_tiled"])
def test_pixels_are_not_rounded_before_they_are_encoded(vae, method):
    image = torch.rand(1, 32, 32, 3)
    expected = vae.tokenizer.encode(image.movedim(-1, 1) * 2 - 1)
    assert vae.vae_dtype == torch.bfloat16
    assert torch.equal(getattr(vae, method)(image), expected)
    assert vae.vae_dtype == torch.bfloat16  # for decoding


def test_the_type_for_decoding_comes_back_after_an_error(vae):
    with pytest.raises(RuntimeError):
        vae.encode(torch.rand(1, 32, 32, 5))
    assert vae.vae_dtype == torch.bfloat16


@pytest.mark.parametrize("method", ["encode", "encode_tiled", None])
def test_only_latents_of_unknown_origin_are_announced_as_tiles(vae, stand_in, monkeypatch, method):
    said = []
    monkeypatch.setattr(stand_in.load("vae"), "announce", said.append)
    vae.vae_dtype = torch.float32
    config = vae.tokenizer.config
    side, _ = get_schedule(1.0, config.pixel_class).pixel_size(config.patch_size)
    image = torch.rand(2, side, side, 3)
    latents = vae.tokenizer.encode(image.movedim(-1, 1) * 2 - 1)
    vae.decode(latents if method is None else getattr(vae, method)(image))
    assert len(said) == (method is None)
