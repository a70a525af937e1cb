"""The three stages with tiny networks: resuming, copying, straight-through gradients, export."""

import csv
import dataclasses
import json

import pytest
import torch
from safetensors import safe_open

from varestorer_core.config import (
    TokenizerConfig,
    TransformerConfig,
    to_dict,
    tokenizer_config,
)
from varestorer_core.distill.export import export_model
from varestorer_core.distill.initialise import initialise, student_from_teacher
from varestorer_core.distill.loop import TrainingError
from varestorer_core.distill.losses import log_odds
from varestorer_core.distill.procedural import generate_picture
from varestorer_core.distill.run import (
    STAGES,
    RunSettings,
    adapted_tokenizer,
    run_export,
    run_stage,
    trained_student,
    trained_tokenizer,
)
from varestorer_core.distill.self_correction import flipped_pyramid
from varestorer_core.distill.skip_start import initialise_skip_path
from varestorer_core.distill.train_encoder import EncoderSettings
from varestorer_core.distill.train_student import StudentSettings, straight_through_codes
from varestorer_core.distill.train_teacher import TeacherSettings
from varestorer_core.distill.train_tokenizer import TokenizerSettings
from varestorer_core.errors import CheckpointError, SettingError
from varestorer_core.models.bsq import dequantize, pyramid_tokens, quantize
from varestorer_core.models.tokenizer import VisualTokenizer
from varestorer_core.models.transformer import VARTransformer
from varestorer_core.schedule import get_schedule

SCHEDULE = get_schedule(1.0, "0.06M")
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


def settings_for(out, **changes) -> RunSettings:
    values = {
        "pictures": 4,
        "picture_size": 40,
        "validation_pictures": 2,
        "steps": dict.fromkeys(STAGES, 4),
        "tokenizer": TOKENIZER,
        "transformer": TRANSFORMER,
        "tokenizer_settings": TokenizerSettings(batch=4),
        "teacher_settings": TeacherSettings(batch=2),
        "encoder_settings": EncoderSettings(batch=2),
        "student_settings": StudentSettings(batch=2, cross_entropy=1.0),
    }
    return RunSettings(out=out, **{**values, **changes})


def weights_of(folder, part: str = "modules") -> dict[str, torch.Tensor]:
    state = torch.load(folder / "state.pt", weights_only=True)[part]
    return {f"{m}.{k}": v for m, part in state.items() for k, v in part.items()}


def equal(a, b):
    """Return whether two parts of a state are equal; an adversary's includes its optimiser."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(value, b[name]) for name, value in a.items())
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def test_every_stage_resumes_to_the_same_numbers(tmp_path):
    averaged = {
        "ema": 0.6,
        "accumulate": 2,
        "steps": dict.fromkeys(STAGES, 2),
        "validation_pictures": 1,
    }
    whole, halves = (settings_for(tmp_path / name, **averaged) for name in ("whole", "halves"))
    for stage in STAGES:
        run_stage(stage, whole)
        run_stage(stage, dataclasses.replace(halves, stop_at=1))
        run_stage(stage, dataclasses.replace(halves, resume=True))
        for part in ("modules", "ema"):
            expected, got = (
                weights_of(whole.out / stage, part),
                weights_of(halves.out / stage, part),
            )
            assert expected.keys() == got.keys()
            for name, value in expected.items():
                assert equal(value, got[name]), (stage, part, name)
    assert list((whole.out / "tokenizer" / "sheets").glob("*.png"))
    assert list((whole.out / "student" / "sheets").glob("*.png"))
    with (whole.out / "student" / "log.csv").open() as file:
        names = {row["name"] for row in csv.DictReader(file)}
    assert {"loss", "kl", "mse", "structural", "cross_entropy", "val_psnr"} <= names

    raw, result = weights_of(whole.out / "student"), trained_student(whole).state_dict()
    assert not torch.equal(raw["student.word_embed.weight"], result["word_embed.weight"])
    average = weights_of(whole.out / "student", "ema")["student.word_embed.weight"]
    assert torch.equal(average, result["word_embed.weight"])
    plain, adapted = trained_tokenizer(whole), adapted_tokenizer(whole, before="decoder")
    assert torch.equal(plain.decoder.conv_in.weight, adapted.decoder.conv_in.weight)
    assert not torch.equal(plain.encoder.conv_in.weight, adapted.encoder.conv_in.weight)

    exported = run_export(whole, note="a test", name="micro")
    with safe_open(exported[0], "pt") as file:
        metadata = file.metadata()
        loaded = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert metadata["varestorer.kind"] == "transformer"
    assert metadata["varestorer.note"] == "a test"
    assert json.loads(metadata["varestorer.config"])["lq_prior"] is True
    for name, value in trained_student(whole).state_dict().items():
        torch.testing.assert_close(loaded[name].float(), value, rtol=1e-3, atol=1e-6)


def test_every_stage_leaves_the_batch_that_it_failed_on(tmp_path):
    settings = settings_for(tmp_path, steps=dict.fromkeys(STAGES, 2))
    for stage in STAGES:
        run_stage(stage, settings)
        wild = dataclasses.replace(
            settings, learning_rate=1e35, steps={stage: 4}, resume=True, allow_changes=True
        )
        with pytest.raises(TrainingError, match="bad_batch"):
            run_stage(stage, wild)
        kept = torch.load(tmp_path / stage / "bad_batch.pt", weights_only=True)
        names = {"clean"} if stage in ("tokenizer", "teacher") else {"clean", "lq"}
        assert kept["batches"][0].keys() == names
        for pictures in kept["batches"][0].values():
            assert pictures.shape[1] == 3
            assert float(pictures.abs().max()) <= 1
        weights_of(tmp_path / stage)


def test_a_stage_is_not_continued_with_other_shapes(tmp_path):
    settings = settings_for(tmp_path, steps=dict.fromkeys(STAGES, 1))
    for stage in STAGES:
        run_stage(stage, settings)
    adapters = StudentSettings(batch=1, lora_rank=2)
    resumed = dataclasses.replace(
        settings, student_settings=adapters, resume=True, allow_changes=True
    )
    with pytest.raises(CheckpointError, match="same stage and configuration"):
        run_stage("student", resumed)
    wider = dataclasses.replace(TOKENIZER, base_channels=16)
    config = {"tokenizer": to_dict(wider), "transformer": to_dict(TRANSFORMER)}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="same stage and configuration"):
        run_stage("tokenizer", dataclasses.replace(settings, resume=True, allow_changes=True))


def test_a_stage_without_its_predecessor_says_so(tmp_path):
    with pytest.raises(CheckpointError, match="distill tokenizer"):
        run_stage("teacher", settings_for(tmp_path))


def test_tokenizer_export_round_trip(tmp_path):
    tokenizer = VisualTokenizer(TOKENIZER)
    initialise_skip_path(tokenizer, 0)
    path = export_model(tokenizer, tmp_path / "deep" / "tokenizer.safetensors", note="")
    with safe_open(path, "pt") as file:
        assert tokenizer_config(json.loads(file.metadata()["varestorer.config"])) == TOKENIZER
        state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    assert state.keys() == tokenizer.state_dict().keys()
    again = VisualTokenizer(TOKENIZER)
    again.load_state_dict(state)
    images = torch.rand(1, 3, 32, 32) * 2 - 1
    torch.testing.assert_close(again.encode(images), tokenizer.encode(images), rtol=0, atol=1e-2)


def test_adapter_run_trains_and_exports_only_adapters(tmp_path, caplog):
    settings = settings_for(tmp_path, steps=dict.fromkeys(STAGES, 1))
    settings = dataclasses.replace(settings, student_settings=StudentSettings(batch=1, lora_rank=2))
    for stage in STAGES:
        run_stage(stage, settings)
    assert all(".lora_" in name for name in weights_of(tmp_path / "student"))
    earlier = tmp_path / "export" / "tiny_transformer.safetensors"
    earlier.parent.mkdir()
    earlier.write_bytes(b"of a run with all weights")
    base, path, *_ = run_export(settings, note="")
    assert f"{earlier} is from an earlier training" in caplog.text
    assert base.name == "tiny_base.safetensors"
    with safe_open(path, "pt") as file:
        assert file.metadata()["varestorer.kind"] == "adapter"
        assert all(".lora_" in name for name in file.keys())  # noqa: SIM118


def test_the_decoder_can_train_with_the_student(tmp_path):
    together = StudentSettings(batch=2, train_decoder=True)
    settings = settings_for(tmp_path, student_settings=together)
    for stage in ("tokenizer", "teacher"):
        run_stage(stage, settings)
    before = adapted_tokenizer(settings).decoder.state_dict()
    run_stage("student", settings)
    trained = weights_of(tmp_path / "student")
    after = adapted_tokenizer(settings)
    for name, value in after.decoder.state_dict().items():
        assert torch.equal(value, trained[f"decoder.{name}"])
    assert any(not torch.equal(before[name], trained[f"decoder.{name}"]) for name in before)
    # Stages before the student's end do not have it.
    alone = adapted_tokenizer(settings, before="student").decoder.state_dict()
    assert all(torch.equal(before[name], value) for name, value in alone.items())
    tokenizer_file = run_export(settings, "")[1]
    with safe_open(tokenizer_file, "pt") as file:
        config = tokenizer_config(json.loads(file.metadata()["varestorer.config"]))
    assert config.pixel_class == TRANSFORMER.pixel_class
    with pytest.raises(SettingError, match="needs a loss of the picture"):
        StudentSettings(train_decoder=True, mse=0, perceptual_weight=0)


def test_student_starts_as_a_copier():
    teacher = VARTransformer(TRANSFORMER)
    initialise(teacher, 0)
    student = student_from_teacher(teacher)
    bits = torch.rand(2, SCHEDULE.num_tokens, 4) > 0.5
    tokens = pyramid_tokens(bits, SCHEDULE, "long")
    logits = student(tokens, student.encode_text(), SCHEDULE, lq_bits=bits)
    assert torch.equal(log_odds(logits) > 0, bits)


def test_straight_through_codes_are_the_hard_ones_and_pass_gradients():
    logits = torch.randn(1, SCHEDULE.num_tokens, 4, 2, requires_grad=True)
    codes = straight_through_codes(logits, SCHEDULE)
    torch.testing.assert_close(codes, dequantize(log_odds(logits) > 0, SCHEDULE))
    codes.square().sum().backward()
    assert logits.grad is not None
    assert float(logits.grad.abs().sum()) > 0


def test_pyramid_without_flips_is_the_plain_one():
    features = torch.randn(2, 4, 16, 16)
    target, seen = flipped_pyramid(features, SCHEDULE, torch.Generator().manual_seed(0), 0.0)
    expected = quantize(features, SCHEDULE).bits
    assert torch.equal(target, expected)
    assert torch.equal(seen, expected)


def test_pyramid_with_flips_differs_in_at_most_that_share():
    features = torch.randn(2, 4, 16, 16)
    target, seen = flipped_pyramid(features, SCHEDULE, torch.Generator().manual_seed(0), 0.3)
    share = float((target != seen).float().mean())
    assert 0 < share < 0.35


def test_a_folder_of_pictures_can_be_trained_on(tmp_path):
    from PIL import Image

    (tmp_path / "data").mkdir()
    Image.fromarray(generate_picture(0, 0, size=64)).save(tmp_path / "data" / "a.png")
    settings = settings_for(
        tmp_path / "run",
        data=tmp_path / "data",
        validation=tmp_path / "data",
        steps={"tokenizer": 1},
    )
    run_stage("tokenizer", settings)
    assert trained_tokenizer(settings).config == TOKENIZER
