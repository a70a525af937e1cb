"""Estimates of memory compared with the peak of tensor bytes, counted from shapes alone."""

import dataclasses

import pytest
import torch

from varestorer_core.assets import TINY_TOKENIZER, TINY_TRANSFORMER, asset_path
from varestorer_core.checkpoint import CastLayers, identify, read_checkpoint
from varestorer_core.config import INFINITY_VAE_D32, VARESTORER_2B, TokenizerConfig
from varestorer_core.estimates import decoder_bytes, encoder_bytes, transformer_bytes
from varestorer_core.models.tokenizer import VisualTokenizer
from varestorer_core.models.transformer import VARTransformer
from varestorer_core.schedule import get_schedule

DTYPES = [torch.float32, torch.bfloat16]
TOKENIZERS = {
    "official": INFINITY_VAE_D32,
    "narrow": TokenizerConfig(
        codebook_dim=8, base_channels=16, channel_multipliers=(1, 1, 2, 2), norm_groups=4
    ),
    "bundled": None,
}


def bundled(name):
    return identify(*read_checkpoint(asset_path(name))).config


def unfused(q, k, v, mask=None):
    """Attend with all scores in memory."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    return (scores if mask is None else scores.add_(mask)).softmax(-1) @ v


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", ["official", "bundled"])
def test_a_tile_where_attention_is_not_fused(size, dtype, batch, peak_bytes):
    config = VARESTORER_2B if size == "official" else bundled(TINY_TRANSFORMER)
    config = dataclasses.replace(config, lora_rank=0, depth=2)
    schedule = get_schedule(1.0, config.pixel_class)
    model = VARTransformer(
        config, dtype=dtype, compute_dtype=dtype, attention=unfused, device="meta"
    )
    tokens, d = schedule.num_tokens_long, config.codebook_dim
    sequence = torch.empty(batch, tokens - 1, d, device="meta")
    bits = torch.empty(batch, schedule.num_tokens, d, device="meta", dtype=torch.bool)
    with torch.inference_mode():
        text = model.encode_text()
        peak = peak_bytes(lambda: model(sequence, text, schedule, lq_bits=bits))
    estimate = batch * transformer_bytes(config, dtype, tokens, fused=False)
    assert peak <= estimate <= 2 * peak
    assert batch * transformer_bytes(config, dtype, tokens) < peak


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("stored", [None, torch.float8_e4m3fn])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", ["official", "bundled"])
def test_a_tile_in_the_transformer(size, dtype, stored, batch, peak_bytes):
    """Also for matrices in float8, of which a copy in the wider dtype exists during multiplication."""
    config = VARESTORER_2B if size == "official" else bundled(TINY_TRANSFORMER)
    config = dataclasses.replace(config, lora_rank=0, depth=2)  # blocks come one after the other
    schedule = get_schedule(1.0, config.pixel_class)
    model = VARTransformer(
        config,
        operations=CastLayers if stored else torch.nn,
        dtype=stored or dtype,
        compute_dtype=dtype,
        device="meta",
    )
    tokens, d = schedule.num_tokens_long - 1, config.codebook_dim
    sequence = torch.empty(batch, tokens, d, device="meta")
    bits = torch.empty(batch, schedule.num_tokens, d, device="meta", dtype=torch.bool)
    with torch.inference_mode():
        text = model.encode_text()
        peak = peak_bytes(lambda: model(sequence, text, schedule, lq_bits=bits))
    estimate = batch * transformer_bytes(config, dtype, schedule.num_tokens_long)
    assert peak <= estimate <= 2 * peak


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", list(TOKENIZERS))
def test_a_tile_in_the_tokenizer(size, dtype, batch, peak_bytes):
    config = TOKENIZERS[size] or bundled(TINY_TOKENIZER)
    tokenizer = VisualTokenizer(config, device="meta", decoder_dtype=dtype)
    side = 256
    grid, pixels = side // config.patch_size, batch * side * side
    images = torch.empty(batch, 3, side, side, device="meta")
    codes = torch.empty(batch, config.codebook_dim, grid, grid, device="meta")
    with torch.inference_mode():
        encoding = peak_bytes(lambda: tokenizer.encode(images))
        decoding = peak_bytes(lambda: tokenizer.decode(codes))
    assert encoding <= encoder_bytes(config, pixels) <= 2 * encoding
    assert decoding <= decoder_bytes(config, pixels, dtype) <= 2 * decoding


@pytest.mark.parametrize(
    ("network", "measured"),
    [
        # Slope of reserved memory over batches of 1 to 8 on an H100, PyTorch 2.11 (docs/benchmarks.md).
        ("encode", 945e6),
        ("decode", 1163e6),
    ],
)
def test_a_gpu_needs_no_more_than_estimated(network, measured):
    if network == "encode":
        estimate = encoder_bytes(INFINITY_VAE_D32, 512 * 512, gpu=True)
    else:
        estimate = decoder_bytes(INFINITY_VAE_D32, 512 * 512, torch.bfloat16, gpu=True)
    assert measured <= estimate <= 1.25 * measured
