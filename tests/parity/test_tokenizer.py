"""Encoder, quantiser and decoder of the visual tokenizer."""

import pytest
import torch
import torch.nn.functional as F

from varestorer_core.models.bsq import dequantize, quantize, running_sums


@pytest.fixture(scope="module")
def tokenizer(goldens):
    return goldens.tokenizer()


@pytest.fixture(scope="module")
def bits(goldens):
    """(B, L, d) from one tensor (B, 1, h, w, d) per scale."""
    tensors = goldens.load("vae")
    scales = [tensors[f"out.bits.{k}"] for k in range(goldens.small.num_scales)]
    return torch.cat([scale.flatten(1, 3) for scale in scales], dim=1).bool()


def test_encoder(goldens, tokenizer, close):
    tensors = goldens.load("vae")
    image = tensors["in.image_u8"].permute(2, 0, 1)[None].float() / 255 * 2 - 1
    close("features", tokenizer.encode(image), tensors["out.raw"], 5e-5)


def test_quantiser(goldens, bits, close):
    tensors = goldens.load("vae")
    quantized = quantize(tensors["out.raw"], goldens.small)
    assert torch.equal(quantized.bits, bits)
    close("summed codes", quantized.summed_codes, tensors["out.quant_sum"], 2e-6)


def test_codes_from_bits(goldens, bits, close):
    tensors = goldens.load("vae")
    expected = (
        tensors["out.summed_codes_from_bits"].flatten(2).unflatten(2, goldens.small.last_grid)
    )
    close("summed codes", dequantize(bits, goldens.small), expected, 2e-6)


def test_running_sums(goldens, bits, close):
    sums = list(running_sums(bits, goldens.small))
    for match, expected in goldens.recorded("vae", r"out\.var_inputs\.(\d+)"):
        scale_idx = int(match[1])
        grid = goldens.small.grids[scale_idx + 1]
        actual = F.adaptive_avg_pool2d(sums[scale_idx], grid)
        close(match[0], actual, expected.flatten(2).unflatten(2, grid), 2e-6)


def test_decoder(goldens, tokenizer, close):
    tensors = goldens.load("vae")
    decoded = tokenizer.decode(tensors["out.quant_sum"])
    close("image", decoded, tensors["out.decoded_from_quant"], 1e-4)
