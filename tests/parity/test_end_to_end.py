"""Whole pictures through every stage, in the official tile layout with its 8-bit blending."""

import numpy as np
import pytest
import torch

from varestorer_core.cleaner import load_cleaner
from varestorer_core.models.bsq import dequantize, pyramid_tokens, quantize
from varestorer_core.models.sampling import sample_bits
from varestorer_core.schedule import get_schedule
from varestorer_core.tiles.official_tiling import restore_official, to_8bit


@pytest.fixture(scope="module")
def stages(goldens):
    pytest.importorskip("spandrel", reason="the cleaner needs spandrel, which is not installed")
    with torch.no_grad():
        cleaner = load_cleaner(dict(goldens.load("weights_swinir")), name="weights_swinir")
        model = goldens.transformer()
        return cleaner, goldens.tokenizer(), model, model.encode_text(*goldens.texts("e2e"))


@pytest.mark.parametrize("tiled", [False, True])
def test_end_to_end(goldens, stages, close, same_picture, tiled):
    cleaner, tokenizer, model, text = stages
    tensors, case = goldens.load("e2e"), f"tiled{int(tiled)}"
    schedule = get_schedule(1.0, "0.25M")
    tile, _ = schedule.pixel_size(tokenizer.config.patch_size)
    seen = {}

    def restore_tile(picture):
        image = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255 * 2 - 1
        seen["swin_out_every8"] = cleaner(image)[..., ::8, ::8]
        features = tokenizer.encode(cleaner(image))
        seen["x_long"] = pyramid_tokens(quantize(features, schedule).bits, schedule, "long")
        logits = model(seen["x_long"], text, schedule)
        seen["logits"] = logits.flatten(2)
        restored = tokenizer.decode(dequantize(sample_bits(logits), schedule))
        return to_8bit(restored[0].permute(1, 2, 0).numpy())

    rgb = restore_official(
        tensors[f"in.image_{case}_u8"].numpy(),
        goldens.config["e2e"]["sr_scale"],
        restore_tile,
        tiled=tiled,
        tile=tile,
    )
    bgr = torch.from_numpy(np.ascontiguousarray(rgb[..., ::-1]))
    same_picture(case, bgr, tensors[f"out.fp32.{case}.bgr_u8"])
    limits = {"swin_out_every8": (5e-5, None), "x_long": (2e-6, None), "logits": (3e-4, 3e-6)}
    for name, (largest, rms) in limits.items():
        if f"out.fp32.{case}.{name}" in tensors:
            close(name, seen[name], tensors[f"out.fp32.{case}.{name}"], largest, rms)
