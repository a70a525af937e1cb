"""`varestorer distill` from its arguments to its files."""

import argparse
import json

import pytest

from varestorer_core.cli import distill
from varestorer_core.config import TokenizerConfig, TransformerConfig, to_dict


@pytest.fixture
def shapes(tmp_path):
    transformer = TransformerConfig(16, 1, 2, 4, 8, 16, text_rows=2, pixel_class="0.06M")
    tokenizer = TokenizerConfig(4, 4, (1, 2), num_res_blocks=1, norm_groups=1)
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
                 "--pictures", "2", "--batch", "1", "--note", "micro")  # fmt: skip
    assert args.run(args) == 0
    printed = capsys.readouterr().out
    for name in ("tiny_transformer.safetensors", "tiny_tokenizer.safetensors"):
        assert (out / "export" / name).exists()
        assert name in printed
    assert json.loads((out / "config.json").read_text()) == json.loads(shapes.read_text())


def test_arguments_reach_the_settings(tmp_path, shapes):
    args = parse("student", "--out", str(tmp_path), "--config", str(shapes), "--kl", "0",
                 "--degradation", "official,real", "--steps", "7", "--seed", "3", "--causal",
                 "--entropy", "0.1", "--ema", "0.99", "--accumulate", "3")  # fmt: skip
    settings = distill.settings_from(args)
    assert settings.student_settings.kl == 0
    assert settings.tokenizer_settings.entropy == 0.1
    assert (settings.ema, settings.accumulate) == (0.99, 3)
    assert settings.student_settings.causal
    assert settings.student_settings.degradation == ("official", "real")
    assert settings.encoder_settings.degradation == ("official", "real")
    assert settings.steps["student"] == 7
    assert settings.seed == 3
    assert settings.tokenizer.codebook_dim == 4


def test_a_file_that_is_no_configuration_is_refused(tmp_path):
    (tmp_path / "x.json").write_text("{}")
    args = parse("all", "--out", str(tmp_path), "--config", str(tmp_path / "x.json"))
    with pytest.raises(ValueError, match="not a training configuration"):
        args.run(args)
