"""The stages that fine-tune the decoder on bits of degraded or restored pictures."""

import csv
import dataclasses

import pytest
import torch
from safetensors import safe_open

from varestorer_core.config import TokenizerConfig, TransformerConfig
from varestorer_core.distill.export import trained_weights
from varestorer_core.distill.held_out import HeldOut
from varestorer_core.distill.loop import LoopSettings
from varestorer_core.distill.procedural import generate_picture
from varestorer_core.distill.run import STAGES, RunSettings, run_export, run_stage
from varestorer_core.distill.run.networks import adapted_tokenizer, crisp_tokenizer
from varestorer_core.distill.train_decoder import CRISP, DecoderSettings, DecoderStage
from varestorer_core.distill.train_encoder import EncoderSettings
from varestorer_core.distill.train_student import StudentSettings
from varestorer_core.distill.train_teacher import TeacherSettings
from varestorer_core.distill.train_tokenizer import TokenizerSettings
from varestorer_core.errors import CheckpointError, SettingError
from varestorer_core.models.bsq import quantize
from varestorer_core.models.tokenizer import VisualTokenizer

TOKENIZER = TokenizerConfig(4, 8, (1, 2), num_res_blocks=1, norm_groups=1)
TRANSFORMER = TransformerConfig(
    embed_dim=16,
    depth=1,
    num_heads=2,
    codebook_dim=4,
    text_channels=8,
    ffn_dim=16,
    text_rows=2,
    pixel_class="0.06M",
)
DECODER_STAGES = ("decoder", "student_decoder", "crisp_decoder")


def settings_for(out, **changes) -> RunSettings:
    values = {
        "pictures": 4,
        "picture_size": 40,
        "validation_pictures": 2,
        "steps": dict.fromkeys(STAGES, 2),
        "tokenizer": TOKENIZER,
        "transformer": TRANSFORMER,
        "tokenizer_settings": TokenizerSettings(batch=4),
        "teacher_settings": TeacherSettings(batch=2),
        "encoder_settings": EncoderSettings(batch=2),
        "decoder_settings": DecoderSettings(batch=2),
        "crisp_settings": dataclasses.replace(CRISP, batch=2, adversarial_from=1),
        "student_settings": StudentSettings(batch=2),
    }
    return RunSettings(out=out, **{**values, **changes})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run with all its stages."""
    settings = settings_for(tmp_path_factory.mktemp("run"))
    for stage in STAGES:
        assert run_stage(stage, settings)
    return settings


def decoder_of(settings, stage):
    return trained_weights(settings.out / stage / "state.pt", "decoder")


def test_every_decoder_starts_from_the_one_before(finished):
    # With so few steps at such rates, a decoder is closer to its predecessor than to any other.
    weights = {stage: decoder_of(finished, stage) for stage in DECODER_STAGES}
    tokenizer = trained_weights(finished.out / "tokenizer" / "state.pt", "tokenizer")
    weights["tokenizer"] = {
        name.removeprefix("decoder."): value
        for name, value in tokenizer.items()
        if name.startswith("decoder.")
    }

    def distance(one, other):
        return sum(float((weights[one][n] - weights[other][n]).abs().sum()) for n in weights[one])

    for before, after in (("tokenizer", "decoder"), ("decoder", "student_decoder")):
        assert distance(before, after) > 0
    assert distance("student_decoder", "crisp_decoder") < distance("decoder", "crisp_decoder")
    assert distance("decoder", "student_decoder") < distance("tokenizer", "student_decoder")


def test_each_stage_reads_what_the_ones_before_it_left(finished):
    for stage, before in (("student", "decoder"), ("crisp_decoder", "student_decoder")):
        state = adapted_tokenizer(finished, before=stage).decoder.state_dict()
        wanted = decoder_of(finished, before)
        assert all(torch.equal(state[name], wanted[name]) for name in wanted)
    state = adapted_tokenizer(finished).decoder.state_dict()
    assert torch.equal(
        state["conv_in.weight"], decoder_of(finished, "student_decoder")["conv_in.weight"]
    )
    encoder = trained_weights(finished.out / "encoder" / "state.pt", "encoder")
    for stage in DECODER_STAGES:
        found = adapted_tokenizer(finished, before=stage).encoder.state_dict()
        assert all(torch.equal(found[name], encoder[name]) for name in encoder)


def test_the_crisp_decoder_is_exported_as_a_tokenizer_of_its_own(finished):
    written = {path.name: path for path in run_export(finished, "note")}
    assert set(written) == {
        "tiny_transformer.safetensors",
        "tiny_tokenizer.safetensors",
        "tiny_tokenizer_crisp.safetensors",
    }
    for name, stage in (("", "student_decoder"), ("_crisp", "crisp_decoder")):
        with safe_open(written[f"tiny_tokenizer{name}.safetensors"], "pt") as file:
            bias = file.get_tensor("decoder.conv_in.bias")
        assert torch.equal(bias, decoder_of(finished, stage)["conv_in.bias"])


def test_an_interrupted_stage_with_an_adversary_goes_on_to_the_same_numbers(finished):
    whole = decoder_of(finished, "crisp_decoder")
    (finished.out / "crisp_decoder" / "state.pt").unlink()
    assert not run_stage("crisp_decoder", dataclasses.replace(finished, stop_at=1))
    assert run_stage("crisp_decoder", dataclasses.replace(finished, resume=True))
    again = decoder_of(finished, "crisp_decoder")
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    with (finished.out / "crisp_decoder" / "log.csv").open() as file:
        names = {row["name"] for row in csv.DictReader(file)}
    assert {"discriminator", "adversarial", "val_gradient_energy", "val_psnr"} <= names


def stage_on(tokenizer, **changes):
    pictures = [torch.tensor(generate_picture(0, i, size=32)) for i in range(2)]
    settings = dataclasses.replace(DecoderSettings(pixel_class="0.06M", batch=2), **changes)
    held_out = HeldOut(torch.stack(pictures).numpy(), "cpu", settings.degradation)
    stage = DecoderStage(tokenizer, LoopSettings(steps=2), held_out, settings=settings)
    images = torch.stack(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    return stage, {"clean": images, "lq": torch.nn.functional.avg_pool2d(images, 3, 1, 1)}


def test_only_the_decoder_trains_and_the_bits_stay():
    torch.manual_seed(0)
    tokenizer = VisualTokenizer(TOKENIZER)
    stage, batch = stage_on(tokenizer)
    bits = quantize(tokenizer.encode(batch["lq"]), stage.schedule).bits
    stage.step(0, batch, torch.Generator())["loss"].backward()
    assert all(p.grad is not None for p in tokenizer.decoder.parameters())
    assert all(p.grad is None for p in tokenizer.encoder.parameters())
    assert torch.equal(bits, quantize(tokenizer.encode(batch["lq"]), stage.schedule).bits)
    assert set(stage.modules) == {"decoder"}


def test_the_adversary_counts_from_its_step_on():
    torch.manual_seed(0)
    stage, batch = stage_on(VisualTokenizer(TOKENIZER), adversarial=1.0, adversarial_from=5)
    early, late = (stage.step(step, batch, torch.Generator()) for step in (4, 5))
    plain = [
        losses["reconstruction"] + losses["gradient_similarity"] + losses["gradient_deviation"]
        for losses in (early, late)
    ]
    assert early["loss"].item() == pytest.approx(plain[0].item())
    assert late["loss"].item() == pytest.approx((plain[1] + late["adversarial"]).item())


def test_a_run_without_these_stages_has_no_crisp_decoder(tmp_path):
    settings = settings_for(tmp_path)
    assert crisp_tokenizer(settings) is None
    with pytest.raises(CheckpointError, match="needs the trained tokenizer"):
        run_stage("decoder", settings)


def test_decoders_of_files_stay_as_they_are(tmp_path):
    with pytest.raises(SettingError, match="decoder of a file is not changed"):
        run_stage("student_decoder", settings_for(tmp_path, base=object()))
