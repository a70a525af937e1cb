"""Options of `varestorer distill` that a stage does not use are refused before any work."""

import argparse
import re

import pytest

from varestorer_core.cli import UsageError, distill
from varestorer_core.cli.distill_stages import STAGES


def parse(*arguments):
    parser = argparse.ArgumentParser()
    distill.add_parser(parser.add_subparsers(required=True))
    return parser.parse_args(["distill", *arguments])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            "teacher --kl 1",
            "--kl has no effect in the stage teacher, only in student, ablation and all",
        ),
        ("tokenizer --rank 2", "--rank has no effect in the stage tokenizer, only in student"),
        (
            "student --entropy 1",
            "--entropy has no effect in the stage student, only in tokenizer and all",
        ),
        ("teacher --degradation x4", "--degradation has no effect in the stage teacher"),
        ("export --steps 9", "--steps has no effect in the stage export, only in tokenizer"),
        ("export --no-amp", "--no-amp has no effect in the stage export"),
        (
            "student --note mine",
            "--note has no effect in the stage student, only in export and all",
        ),
        (
            "all --size 128",
            "--size has no effect in the stage all, only in ablation. Leave it out.",
        ),
        ("student --seeds 1", "--seeds has no effect in the stage student, only in ablation"),
        ("ablation --seed 1", "--seed has no effect in the stage ablation"),
        ("tokenizer --no-cross-scale", "--no-cross-scale has no effect in the stage tokenizer"),
        ("tokenizer --squares 4", "--squares has an effect only together with --data"),
        ("student --base-dtype fp32", "--base-dtype has an effect only together with --base"),
    ],
)
def test_an_option_without_effect_is_refused(tmp_path, arguments, words):
    args = parse(*arguments.split(), "--out", str(tmp_path / "run"))
    with pytest.raises(UsageError, match=re.escape(words)):
        args.run(args)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("stage", [name for name in STAGES if name not in ("import", "export")])
def test_options_of_every_training_stage(tmp_path, stage):
    used = "--steps 9 --batch 2 --minutes 1 --ema 0.9 --workers 0 --threads 1 --device cpu --learning-rate 1e-3"
    settings = distill.run_settings_from(parse(stage, "--out", str(tmp_path), *used.split()))
    assert (settings.ema, settings.workers) == (0.9, 0)


def test_all_accepts_the_options_of_every_stage(tmp_path):
    used = "--kl 1 --entropy 1 --encoder-rank 2 --adversarial 0.1 --note mine --seed 3 --squares 2"
    args = parse("all", "--out", str(tmp_path / "run"), "--data", str(tmp_path), *used.split())
    assert distill.run_settings_from(args).student_settings.kl == 1
