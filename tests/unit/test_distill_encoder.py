"""The encoder stage sees its own quantisation in the later part of its run."""

import numpy as np
import pytest
import torch

from varestorer_core.config import TokenizerConfig
from varestorer_core.distill.held_out import HeldOut
from varestorer_core.distill.loop import LoopSettings
from varestorer_core.distill.train_encoder import EncoderSettings, EncoderStage
from varestorer_core.models.bsq import quantize
from varestorer_core.models.tokenizer import VisualTokenizer

STEPS = 100


@pytest.fixture
def stage():
    tokenizer = VisualTokenizer(TokenizerConfig(4, 8, (1, 2), num_res_blocks=1, norm_groups=1))
    held_out = HeldOut(np.zeros((1, 32, 32, 3), np.uint8))
    settings = EncoderSettings(
        pixel_class="0.06M", batch=64, continuous_until=0.6, quantized_from=0.9
    )
    return EncoderStage(tokenizer, LoopSettings(STEPS), held_out, settings=settings)


@pytest.mark.parametrize(
    ("step", "least", "most"), [(0, 0, 0), (60, 0, 0), (75, 0.2, 0.8), (90, 1, 1), (99, 1, 1)]
)
def test_the_share_of_quantised_samples_rises_from_none_to_all(
    stage, monkeypatch, step, least, most
):
    """What is decoded is either a sample's features or the codes of its bits."""
    decoded, encoded = [], []
    encode, decode = stage.adapted.encode, stage.adapted.decoder.forward
    monkeypatch.setattr(
        stage.adapted, "encode", lambda images: encoded.append(encode(images)) or encoded[-1]
    )
    monkeypatch.setattr(
        stage.adapted.decoder, "forward", lambda codes: decoded.append(codes) or decode(codes)
    )
    generator = torch.Generator().manual_seed(0)
    clean, lq = torch.rand(2, 64, 3, 32, 32, generator=generator) * 2 - 1
    losses = stage.step(step, {"clean": clean, "lq": lq}, generator)
    codes = quantize(encoded[0], stage.schedule).summed_codes
    plain = [torch.equal(d, e) for d, e in zip(decoded[0], encoded[0], strict=True)]
    taken = [torch.allclose(d, c, atol=1e-6) for d, c in zip(decoded[0], codes, strict=True)]
    assert [p != t for p, t in zip(plain, taken, strict=True)] == [True] * 64
    assert least <= sum(taken) / 64 <= most
    losses["loss"].backward()
    gradient = stage.adapted.encoder.conv_in.weight.grad
    assert gradient is not None
    assert float(gradient.abs().sum()) > 0


def test_it_is_measured_on_bits(stage, tmp_path):
    """As restoring does, at any step: features that are not quantised would look better than results."""
    pictures = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    stage.held_out = HeldOut(pictures)
    clean = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        figures = stage.evaluate(0, tmp_path)
        bits = quantize(stage.adapted.encode(clean), stage.schedule).summed_codes
        error = (stage.adapted.decode(bits) - clean).square().mean()
    assert figures["val_psnr"] == pytest.approx(10 * np.log10(4 / float(error)), abs=1e-3)
