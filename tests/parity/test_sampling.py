"""From given logits to bits exactly, to codes, and to the finished 8-bit picture."""

import numpy as np
import pytest
import torch

from varestorer_core.models.bsq import dequantize
from varestorer_core.models.sampling import gumbel, sample_bits
from varestorer_core.tiles.official_tiling import to_8bit


@pytest.mark.parametrize("case", ["argmax", "gumbel"])
def test_sampling(goldens, close, same_picture, case):
    tensors = goldens.load("sampling")
    logits = tensors["in.logits"].unflatten(-1, (-1, 2))
    noise = None
    if case == "gumbel":
        noise = gumbel(tensors["out.gumbel.uniform_noise"]).reshape(logits.shape)
    bits = sample_bits(logits, noise)
    assert torch.equal(bits, tensors[f"out.{case}.bits"].bool())
    codes = dequantize(bits, goldens.small)
    close("summed codes", codes, tensors[f"out.{case}.summed_codes"], 2e-6)
    image = goldens.tokenizer().decode(codes)
    for match, expected in goldens.recorded("sampling", rf"out\.{case}\.image_every(\d+)"):
        step = int(match[1])
        close(match[0], image[..., ::step, ::step], expected, 1e-4)
    rgb = to_8bit(image.permute(0, 2, 3, 1).numpy())
    bgr = torch.from_numpy(np.ascontiguousarray(rgb[..., ::-1]))
    same_picture("picture", bgr, tensors[f"out.{case}.image_u8_bgr"])
