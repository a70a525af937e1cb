"""The student on files, with tiny networks: official layouts, errors, and the exported adapter."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from varestorer_core.checkpoint import load_transformer, read_checkpoint
from varestorer_core.checkpoint.keys import TOKENIZER_TO_OFFICIAL, apply_renames, chunk_blocks
from varestorer_core.checkpoint.save import save_safetensors, sha256
from varestorer_core.cli.main import main
from varestorer_core.config import VARESTORER_2B, TransformerConfig
from varestorer_core.distill.adapters import (
    adapters_of,
    student_on_teacher,
    trainable_parameters,
)
from varestorer_core.distill.base import BaseFiles
from varestorer_core.distill.picture_folder import PictureFolder
from varestorer_core.distill.run import RunSettings, trained_student
from varestorer_core.errors import CheckpointError, ImageError
from varestorer_core.lora.factors import merge_adapter, split_adapter
from varestorer_core.lora.file import load_adapter
from varestorer_core.models.bsq import pyramid_tokens
from varestorer_core.models.transformer import VARTransformer
from varestorer_core.schedule import get_schedule

SCHEDULE = get_schedule(1.0, "0.06M")


@pytest.fixture
def files(tmp_path, make_transformer, make_tokenizer):
    """Return (base, VAE) in the official layouts, whose tile at 0.06M is 32 pixels."""
    torch.manual_seed(1)
    teacher = make_transformer(depth=2, embed_dim=16, ffn_dim=16, codebook_dim=4)
    state = {chunk_blocks(name, 1): value for name, value in teacher.state_dict().items()}
    torch.save(state, tmp_path / "base.pth")
    tokenizer = make_tokenizer(
        codebook_dim=4, base_channels=32, channel_multipliers=(1, 1), norm_groups=32
    )
    state = tokenizer.state_dict()
    renamed = {apply_renames(name, TOKENIZER_TO_OFFICIAL): value for name, value in state.items()}
    torch.save({"vae": renamed}, tmp_path / "vae.pth")
    return tmp_path / "base.pth", tmp_path / "vae.pth"


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos" / "deep"
    folder.mkdir(parents=True)
    for seed, size in enumerate(((40, 60), (70, 36))):
        pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}.png")
    return folder.parent


def distill(stage, out, files, *more):
    named = ("--base", files[0], "--vae", files[1]) if files else ()
    return main(["distill", stage, "--out", str(out), *map(str, named), *map(str, more)])


def train(out, files, photos, *more, steps=2):
    """Train adapters of rank 2 for two steps at the smallest tile."""
    return distill(
        "student", out, files, "--data", photos, "--rank", 2, "--pixel-class", "0.06M",
        "--base-dtype", "fp32", "--steps", steps, "--validation-pictures", 1,
        "--learning-rate", 0.05, *more,
    )  # fmt: skip


def read(path):
    with safe_open(path, "pt") as file:
        return {k: file.get_tensor(k) for k in file.keys()}, file.metadata()  # noqa: SIM118


def test_two_steps_then_the_adapter_on_its_base_is_the_trained_student(
    tmp_path, files, photos, capsys, caplog
):
    out = tmp_path / "run"
    assert train(out, files, photos) == 0
    assert "trainable parameters" in caplog.text
    assert list((out / "student" / "sheets").glob("*.png"))
    assert distill("export", out, None, "--note", "micro") == 0
    path = out / "export" / "varestorer_adapter.safetensors"
    assert [path] == list(path.parent.iterdir())  # the base and the VAE are files already
    assert path.name in capsys.readouterr().out

    factors, metadata = read(path)
    assert metadata["varestorer.base_sha256"] == sha256(files[0])
    assert metadata["varestorer.note"] == "micro"
    metrics = json.loads(metadata["varestorer.metrics"])
    assert metrics["step"] == 2
    assert {"val_psnr", "val_accuracy"} <= metrics.keys()

    settings = RunSettings(
        out=out, base=BaseFiles(files[0], files[1], "0.06M", "fp32"), transformer=config_of(out)
    )
    student = trained_student(settings)
    for name, value in adapters_of(student).state_dict().items():
        torch.testing.assert_close(factors[name].float(), value, rtol=1e-3, atol=1e-6)

    tensors, base_metadata = read_checkpoint(files[0])
    base = load_transformer(dict(tensors), base_metadata)
    state = base.state_dict()
    owners = load_adapter(
        factors, metadata, state, base.config, base_sha256=sha256(files[0]), name=path.name
    )
    assert len(owners) == 2 * 5
    bits = torch.rand(1, SCHEDULE.num_tokens, 4) > 0.5
    tokens = pyramid_tokens(bits, SCHEDULE, "long")

    def logits(strength):
        merged = load_transformer(merge_adapter(state, factors, strength))
        with torch.no_grad():
            return merged(tokens, merged.encode_text(), SCHEDULE)

    with torch.no_grad():
        wanted = student(tokens, student.encode_text(), SCHEDULE)
        plain = base(tokens, base.encode_text(), SCHEDULE)
    torch.testing.assert_close(logits(1.0), wanted, rtol=1e-2, atol=1e-2)
    assert torch.equal(logits(0.0), plain)
    assert not torch.allclose(wanted, plain, atol=0.1)

    with pytest.raises(CheckpointError, match="trained on another base"):
        load_adapter(factors, metadata, state, base.config, base_sha256="0" * 64)


def config_of(out):
    values = json.loads((out / "config.json").read_text())
    return TransformerConfig(**values["transformer"])


def test_stopping_and_resuming_gives_the_same_adapters(tmp_path, files, photos):
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    assert train(whole, files, photos) == 0
    assert train(halves, files, photos, "--stop-at", 1) == 0
    assert train(halves, files, photos, "--resume") == 0
    states = [torch.load(o / "student" / "state.pt")["modules"]["student"] for o in (whole, halves)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_the_defaults_are_those_of_the_paper(tmp_path, files):
    from varestorer_core.cli import distill as command
    from varestorer_core.cli.main import build_parser

    def settings(*more):
        named = ["--base", str(files[0]), "--vae", str(files[1]), "--out", str(tmp_path / "x")]
        return command.run_settings_from(build_parser().parse_args(["distill", *more, *named]))

    student = settings("student").student_settings
    assert (student.kl, student.mse, student.perceptual_weight) == (0.1, 0.25, 0.5)
    assert student.cross_entropy == 0
    assert (student.lora_rank, student.degradation) == (32, ("official",))
    assert student.checkpointing
    assert not settings("student", "--no-checkpointing").student_settings.checkpointing
    assert settings("all", "--steps", "3").steps["student"] == 3


def test_another_base_is_refused(tmp_path, files, photos, make_transformer, capsys):
    out = tmp_path / "run"
    assert train(out, files, photos, steps=1) == 0
    other = make_transformer(depth=2, embed_dim=16, ffn_dim=16, codebook_dim=4)
    torch.save(other.state_dict(), tmp_path / "other.pth")
    assert train(out, (tmp_path / "other.pth", files[1]), photos, "--resume") == 1
    error = capsys.readouterr().err
    assert "was started with another base: base.pth with SHA-256" in error
    assert "got other.pth" in error
    assert distill("student", out, None) == 1
    assert "Specify them again: --base and --vae" in capsys.readouterr().err
    assert distill("student", out, files, "--pixel-class", "0.25M") == 1
    assert "pixel class 0.06M, got 0.25M" in capsys.readouterr().err


def test_files_of_another_kind_are_refused(tmp_path, files, make_transformer, capsys):
    base, vae = files
    student = make_transformer(depth=1, embed_dim=16, ffn_dim=16, codebook_dim=4, lora_rank=2)
    torch.save(student.state_dict(), tmp_path / "student.pth")
    assert distill("student", tmp_path / "x", (tmp_path / "student.pth", vae)) == 1
    assert "already contains adapters" in capsys.readouterr().err
    assert distill("student", tmp_path / "x", (vae, base)) == 1
    assert "base.pth is a VARestorer transformer, expected a visual" in capsys.readouterr().err
    other = make_transformer(depth=1, embed_dim=16, ffn_dim=16)
    torch.save(other.state_dict(), tmp_path / "six.pth")
    assert distill("student", tmp_path / "x", (tmp_path / "six.pth", vae)) == 1
    assert "six.pth uses 6 bits per token, but vae.pth uses 4" in capsys.readouterr().err
    assert distill("teacher", tmp_path / "x", files) == 1
    assert "there is no teacher to train" in capsys.readouterr().err


def test_a_student_can_be_the_base_and_then_there_is_no_teacher(
    tmp_path, files, photos, make_transformer, caplog
):
    student = make_transformer(
        depth=1, embed_dim=16, ffn_dim=16, codebook_dim=4, lq_prior=True, pixel_class="0.06M"
    )
    base = tmp_path / "student.safetensors"
    save_safetensors(student.state_dict(), base, kind="transformer", config=student.config)
    assert train(tmp_path / "run", (base, files[1]), photos) == 0
    assert "there is no teacher" in caplog.text
    assert ",kl," not in (tmp_path / "run" / "student" / "log.csv").read_text()
    assert distill("export", tmp_path / "run", None) == 0
    factors, metadata = read(tmp_path / "run" / "export" / "varestorer_adapter.safetensors")
    loaded = load_transformer(*read_checkpoint(base))
    assert load_adapter(factors, metadata, loaded.state_dict(), loaded.config)


def test_training_goes_on_from_an_adapter(tmp_path, files, photos, capsys):
    assert train(tmp_path / "first", files, photos) == 0
    assert distill("export", tmp_path / "first", None) == 0
    adapter = tmp_path / "first" / "export" / "varestorer_adapter.safetensors"
    still = ("--init", adapter, "--learning-rate", 1e-12)
    assert train(tmp_path / "second", files, photos, *still, steps=1) == 0
    assert distill("export", tmp_path / "second", None) == 0
    factors, _ = read(tmp_path / "second" / "export" / adapter.name)
    for name, value in read(adapter)[0].items():
        assert torch.equal(factors[name], value), name
    assert train(tmp_path / "third", files, photos, *still, "--rank", 3) == 1
    assert "has adapters of rank 2, but this run trains rank 3" in capsys.readouterr().err


def test_a_converted_base_keeps_the_hash_of_its_source(tmp_path, files):
    tensors, _ = read_checkpoint(files[0])
    loaded = load_transformer(dict(tensors))
    save_safetensors(
        split_adapter(loaded.state_dict())[0], tmp_path / "base.safetensors",
        kind="transformer", config=loaded.config, source_sha256=sha256(files[0]),
    )  # fmt: skip
    converted = BaseFiles(tmp_path / "base.safetensors", files[1])
    assert converted.record()["base"]["sha256"] == sha256(files[0])


def test_adapters_of_the_official_shape_have_27_million_parameters():
    from dataclasses import replace

    teacher = VARTransformer(replace(VARESTORER_2B, lora_rank=0), device="meta")
    student = VARTransformer(VARESTORER_2B, device="meta")
    count = sum(p.numel() for n, p in student.named_parameters() if ".lora_" in n)
    assert count == 27_262_976
    assert sum(p.numel() for p in teacher.parameters()) == 2_204_564_032
    small = VARTransformer(TransformerConfig(16, 1, 2, 4, 8, 16, text_rows=2))
    assert trainable_parameters(student_on_teacher(small, 1)) == 13 * 16 * 1


def test_a_folder_gives_the_same_pictures_for_the_same_generator(photos):
    folder = PictureFolder(photos, 32)
    draws = [folder.draw(3, 32, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert draws[0].shape == (3, 32, 32, 3)
    assert draws[0].dtype == np.uint8
    assert np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])


def test_pictures_that_cannot_be_used_are_skipped_and_named(photos, caplog):
    (photos / "broken.png").write_bytes(b"no picture")
    Image.new("RGB", (31, 90)).save(photos / "small.png")
    good = (photos / "deep" / "0.png").read_bytes()
    (photos / "deep" / "0.png").write_bytes(good[: len(good) // 2])  # detected when it is drawn
    folder = PictureFolder(photos, 32)
    assert len(folder.files) == 2
    assert "2 of 4 pictures skipped" in caplog.text
    assert "1 unreadable: broken.png; 1 smaller than 32 pixels: small.png" in caplog.text
    assert folder.draw(4, 32, torch.Generator().manual_seed(0)).shape == (4, 32, 32, 3)
    assert "0.png skipped" in caplog.text


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(ImageError, match="must be an existing folder"):
        PictureFolder(tmp_path / "none", 32)
    with pytest.raises(ImageError, match="at least 32 x 32 pixels, got none"):
        PictureFolder(tmp_path, 32)


def test_corrections_of_the_encoder_are_exported_as_plain_weights(tmp_path, files, photos, capsys):
    # The encoder is trained on squares of 192 pixels in memory.
    pixels = np.random.default_rng(0).integers(0, 256, (200, 210, 3), np.uint8)
    Image.fromarray(pixels).save(photos / "large.png")
    out = tmp_path / "run"
    options = (
        "--data", photos, "--pixel-class", "0.06M", "--base-dtype", "fp32", "--steps", 2,
        "--validation-pictures", 1, "--learning-rate", 0.05, "--batch", 2,
    )  # fmt: skip
    assert distill("encoder", out, files, *options, "--encoder-rank", 2) == 0
    assert train(out, files, photos) == 0
    assert distill("export", out, None) == 1
    assert "Specify the run's files again: --base and --vae" in capsys.readouterr().err
    assert distill("export", out, files) == 0
    exported, _ = read(out / "export" / "varestorer_tokenizer.safetensors")
    before = torch.load(files[1], weights_only=True)["vae"]
    renamed = {apply_renames(name, TOKENIZER_TO_OFFICIAL): name for name in exported}
    assert renamed.keys() == before.keys()
    changed = {
        official
        for official, name in renamed.items()
        if not torch.equal(exported[name], before[official].to(exported[name]))
    }
    assert changed
    assert all(name.startswith("encoder.") for name in changed)
