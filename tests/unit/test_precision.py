import pytest
import torch

from varestorer_core.assets import TINY_TOKENIZER, asset_path
from varestorer_core.checkpoint import load_tokenizer, read_checkpoint
from varestorer_core.errors import VARestorerError
from varestorer_core.loaded import LoadedStages
from varestorer_core.precision import decoder_dtype, has_fast_bfloat16
from varestorer_core.restorer import Restorer

CPU = torch.device("cpu")


def test_only_the_decoder_follows_the_weights():
    tensors, metadata = read_checkpoint(asset_path(TINY_TOKENIZER))
    original = load_tokenizer(tensors, metadata)
    loaded = load_tokenizer(tensors, metadata, decoder_dtype=torch.bfloat16)
    assert {p.dtype for p in loaded.encoder.parameters()} == {torch.float32}
    assert {p.dtype for p in loaded.decoder.parameters()} == {torch.bfloat16}
    codes = torch.randn(1, original.config.codebook_dim, 4, 4)
    with torch.inference_mode():
        near, exact = loaded.decode(codes).float(), original.decode(codes)
    assert not torch.equal(near, exact)
    assert torch.allclose(near, exact, atol=0.1)


def test_float32_weights_decode_in_float32():
    assert decoder_dtype(torch.float32, CPU) == torch.float32


def test_bfloat16_is_used_where_the_device_has_it(monkeypatch):
    for fast in (False, True):
        monkeypatch.setattr(
            torch.cpu, "get_capabilities", lambda fast=fast: {"avx512_bf16": fast}, raising=False
        )
        assert has_fast_bfloat16(CPU) == fast
        expected = torch.bfloat16 if fast else torch.float32
        assert decoder_dtype(torch.bfloat16, CPU) == expected
    assert not has_fast_bfloat16(torch.device("mps"))


@pytest.mark.parametrize("network", ["VAE's encoder", "transformer", "VAE's decoder"])
def test_values_that_overflow_name_their_network(make_transformer, make_tokenizer, network):
    """NaN would pass for bits, and the picture be noise."""
    transformer, tokenizer = make_transformer(lq_prior=True), make_tokenizer()
    layer = {
        "VAE's encoder": tokenizer.encoder.conv_out,
        "transformer": transformer.blocks[0].ffn.fc2,
        "VAE's decoder": tokenizer.decoder.conv_out,
    }[network]
    layer.weight.data.fill_(float("inf"))
    restorer = Restorer(LoadedStages(transformer, tokenizer))
    with pytest.raises(VARestorerError, match=rf"The {network} returned NaN.*fp16.*bf16 or fp32"):
        restorer.restore([torch.rand(3, 40, 40)], upscale=1.0)


def test_a_cleaner_that_overflows_is_named(make_transformer, make_tokenizer):
    """On the canvas, the host loads it, whatever its values are."""

    def clean(tiles):
        return tiles * float("nan")

    stages = LoadedStages(make_transformer(lq_prior=True), make_tokenizer(), clean)
    with pytest.raises(VARestorerError, match="The cleaner returned NaN"):
        Restorer(stages).restore([torch.rand(3, 40, 40)], upscale=1.0)
