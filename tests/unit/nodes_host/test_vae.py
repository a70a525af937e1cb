"""The host's VAE nodes with our VAE."""

import pytest
import torch


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
