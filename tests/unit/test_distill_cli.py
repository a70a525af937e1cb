"""`varestorer distill`: arguments and output files."""

import argparse
import json
import re

import pytest
import torch

from varestorer_core.cli import UsageError, distill
from varestorer_core.cli.main import main
from varestorer_core.config import TokenizerConfig, TransformerConfig, to_dict
from varestorer_core.devices import choose_device


@pytest.fixture
def shapes(tmp_path):
    transformer = TransformerConfig(16, 1, 2, 4, 8, 16, text_rows=2, pixel_class="0.06M")
    tokenizer = TokenizerConfig(4, 8, (1, 2), num_res_blocks=1, norm_groups=1)
    path = tmp_path / "shapes.json"
    values = {"tokenizer": to_dict(tokenizer), "transformer": to_dict(transformer)}
    path.write_text(json.dumps(values))
    return path


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    distill.add_parser(parser.add_subparsers(required=True))
    return parser.parse_args(["distill", *arguments])


def test_all_trains_and_exports(tmp_path, shapes, capsys):
    out = tmp_path / "run"
    args = parse("all", "--out", str(out), "--config", str(shapes), "--steps", "2",
                 "--pictures", "2", "--validation-pictures", "1", "--batch", "1", "--note", "micro")  # fmt: skip
    assert args.run(args) == 0
    printed = capsys.readouterr().out
    for name in ("tiny_transformer.safetensors", "tiny_tokenizer.safetensors"):
        assert (out / "export" / name).exists()
        assert name in printed
    assert json.loads((out / "config.json").read_text()) == json.loads(shapes.read_text())


def test_arguments_reach_the_settings(tmp_path, shapes):
    args = parse("all", "--out", str(tmp_path), "--config", str(shapes), "--kl", "0",
                 "--degradation", "official,real", "--steps", "7", "--seed", "3", "--causal",
                 "--entropy", "0.1", "--ema", "0.99", "--accumulate", "3", "--compile", "--no-amp",
                 "--save-every", "5", "--evaluate-every", "6", "--workers", "2", "--minutes", "9")  # fmt: skip
    settings = distill.run_settings_from(args)
    assert settings.student_settings.kl == 0
    assert settings.tokenizer_settings.entropy == 0.1
    assert (settings.ema, settings.accumulate) == (0.99, 3)
    assert settings.compile_options == {}
    assert (settings.save_every, settings.evaluate_every, settings.workers) == (5, 6, 2)
    assert settings.deadline is not None
    stages = ("tokenizer", "teacher", "encoder", "decoder", "crisp", "student")
    assert not any(getattr(settings, f"{stage}_settings").amp for stage in stages)
    assert settings.student_settings.causal
    assert settings.student_settings.degradation == ("official", "real")
    assert settings.encoder_settings.degradation == ("official", "real")
    assert settings.steps["tokenizer"] == 7
    assert settings.seed == 3
    assert settings.tokenizer.codebook_dim == 4


def test_a_file_that_is_no_configuration_is_refused(tmp_path):
    (tmp_path / "x.json").write_text("{}")
    args = parse("all", "--out", str(tmp_path), "--config", str(tmp_path / "x.json"))
    with pytest.raises(ValueError, match="not a training configuration"):
        args.run(args)


def test_ablations_by_their_names(tmp_path):
    def student(*flags):
        args = parse("student", "--out", str(tmp_path), *flags)
        return distill.run_settings_from(args).student_settings

    full = student()
    assert (full.kl, full.mse, full.perceptual_weight, full.cross_entropy) == (0.1, 0.25, 0.5, 0)
    assert not full.causal
    alone = student("--no-distill")
    assert (alone.kl, alone.mse, alone.perceptual_weight, alone.cross_entropy) == (0, 0, 0, 1)
    without = student("--no-kl", "--cross-entropy", "1")
    assert (without.kl, without.mse, without.cross_entropy) == (0, 0.25, 1)
    assert student("--no-cross-scale") == student("--causal")
    assert student("--no-cross-scale").causal
    assert student("--rank", "3").lora_rank == student("--lora-rank", "3").lora_rank == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["student", "--no-distill", "--kl", "1"], "--no-distill trains on cross entropy alone"),
        (["student", "--no-distill", "--no-kl"], "--no-distill trains on cross entropy alone"),
        (["student", "--no-kl", "--kl", "1"], "--no-kl and --kl 1 contradict each other"),
        (["student", "--base", "x.pth"], "--base and --vae belong together"),
        (["student", "--base", "x.pth", "--vae", "y.pth"], "--base x.pth: no such file"),
        (["student", "--pixel-class", "0.06M"], "only together with --base"),
        (["student", "--init", "x.pth"], "--init has an effect only in the stages tokenizer"),
        (["student", "--prompt", "a dog"], "--prompt and --text-encoder belong together"),
        (["teacher", "--accelerate"], "--accelerate trains the student only"),
        (["ablation", "--no-kl"], "The ablation trains every variant itself"),
        (
            ["ablation", "--seeds", "1,x"],
            "--seeds must be comma-separated whole numbers, got '1,x'",
        ),
        (["ablation", "--seeds=-1"], "--seeds must be 0 or more"),
    ],
)
def test_wrong_usage(tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    args = parse(*arguments, "--out", str(tmp_path / "run"))
    with pytest.raises(UsageError, match=re.escape(words)):
        args.run(args)


def test_the_ablation_has_steps_of_its_own(tmp_path):
    settings = distill.run_settings_from(parse("ablation", "--out", str(tmp_path), "--steps", "9"))
    assert settings.steps["student"] == 9


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--pictures", "0"),
        ("--pictures", "-5"),
        ("--pictures", "100000000000"),
        ("--validation-pictures", "0"),
        ("--threads", "100000000"),  # PyTorch ends the process
        ("--workers", "100000"),
        ("--learning-rate", "nan"),
        ("--minutes", "inf"),
        ("--kl", "nan"),
        ("--ema", "1"),
        ("--batch", "0"),
        ("--data", "nowhere"),
        ("--validation", "nowhere"),
        ("--config", "nowhere.json"),
        ("--init", "nowhere.safetensors"),
        ("--degradation", "nothing"),
        ("--device", "nothing"),
        pytest.param(
            "--device",
            "cuda:99",
            marks=pytest.mark.skipif(torch.cuda.device_count() > 99, reason="there are 100"),
        ),
    ],
)
def test_wrong_values_are_refused_before_anything_is_made(
    tmp_path, monkeypatch, capsys, option, value
):
    monkeypatch.chdir(tmp_path)
    assert_refused(["distill", "tokenizer", "--out", "run", option, value])
    assert capsys.readouterr().err.strip()
    assert not list(tmp_path.iterdir())


def test_a_missing_stage_is_named_before_pictures_are_drawn_or_a_state_is_overwritten(
    tmp_path, shapes, capsys
):
    state = tmp_path / "run" / "teacher" / "state.pt"
    state.parent.mkdir(parents=True)
    state.write_bytes(b"earlier work")
    arguments = ["distill", "teacher", "--out", str(tmp_path / "run"), "--config", str(shapes)]
    assert main([*arguments, "--pictures", "2", "--overwrite"]) == 1
    assert "needs the trained tokenizer" in capsys.readouterr().err
    assert state.read_bytes() == b"earlier work"
    assert not list((tmp_path / "run").glob("*.npy"))


def test_a_run_cannot_be_where_a_file_is(tmp_path, capsys):
    (tmp_path / "run").write_text("mine")
    assert_refused(["distill", "tokenizer", "--out", str(tmp_path / "run")])
    assert "is not a folder" in capsys.readouterr().err
    assert (tmp_path / "run").read_text() == "mine"


def assert_refused(arguments):
    """Check that the command ends with a usage error in one sentence."""
    try:
        code = main(arguments)
    except SystemExit as end:
        code = end.code
    assert code in (1, 2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("export --recommend detail=x", "expected a number"),
        ("export --recommend detail=7", "detail must be"),
        ("export --recommend seed=1", "can recommend color_match, detail, fidelity"),
        ("student --task rain", "only in the stages export"),
    ],
)
def test_recommendations_are_checked_before_any_work(tmp_path, capsys, arguments, words):
    assert main(["distill", *arguments.split(), "--out", str(tmp_path / "run")]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_device_is_chosen_unless_it_is_given(tmp_path):
    """The option is that of `restore`: auto is a device of this machine."""
    settings = distill.run_settings_from(parse("tokenizer", "--out", str(tmp_path)))
    assert settings.device == str(choose_device("auto"))


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory."), None])
def test_memory_that_runs_out_while_networks_are_built_is_a_sentence(
    tmp_path, monkeypatch, capsys, shapes, error
):
    def build(*args, **kwargs):
        raise error or RuntimeError("another reason")

    monkeypatch.setattr("varestorer_core.distill.run.stages.TokenizerStage", build)
    out = tmp_path / "run"
    arguments = [
        "distill",
        "tokenizer",
        "--out",
        str(out),
        "--config",
        str(shapes),
        "--pictures",
        "1",
        "--validation-pictures",
        "1",
    ]
    if error is None:
        with pytest.raises(RuntimeError, match="another reason"):
            main(arguments)
        return
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert "not enough memory" in said
    options = set(re.findall(r"--[a-z-]+", said))
    assert options == {"--batch", "--checkpointing", "--device"}
    assert not list(out.glob("*.npy"))


def test_another_configuration_than_the_run_s_own_is_refused(tmp_path, shapes, capsys):
    out = tmp_path / "run"
    start = [
        "distill",
        "tokenizer",
        "--out",
        str(out),
        "--pictures",
        "1",
        "--validation-pictures",
        "1",
        "--batch",
        "1",
    ]
    assert main([*start, "--config", str(shapes), "--steps", "1"]) == 0
    values = json.loads(shapes.read_text())
    values["tokenizer"]["base_channels"] *= 2
    other = tmp_path / "other.json"
    other.write_text(json.dumps(values))
    capsys.readouterr()
    assert main([*start, "--config", str(other), "--steps", "2", "--resume"]) != 0
    assert "networks of other shapes" in capsys.readouterr().err


def test_eighty_pictures_are_measured_unless_told_otherwise(tmp_path):
    settings = distill.run_settings_from(parse("tokenizer", "--out", str(tmp_path)))
    assert settings.validation_pictures == 80
