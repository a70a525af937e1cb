"""`distill STAGE --help`: the options of the stage with its defaults; and what a refused run leaves."""

import re

import pytest

from varestorer_core.cli.distill_stages import STAGES
from varestorer_core.cli.main import main
from varestorer_core.distill.run import DEFAULT_STEPS
from varestorer_core.distill.run.settings import LEARNING_RATES


def help_of(capsys, *stage):
    with pytest.raises(SystemExit) as end:
        main(["distill", *stage, "--help"])
    assert end.value.code == 0
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("stage", list(DEFAULT_STEPS))
def test_defaults_are_those_of_the_stage(capsys, stage):
    text = help_of(capsys, stage)
    assert re.search(rf"number of optimiser steps \(default: {DEFAULT_STEPS[stage]}[);]", text)
    assert re.search(rf"peak learning rate \(default: {LEARNING_RATES[stage]:g}[);]", text)
    assert re.search(r"pictures per step \(default: \d", text)
    assert "--task" not in text
    assert "--seeds" not in text
    assert ("--kl KL" in text) == (stage == "student")
    assert ("--commitment WEIGHT" in text) == (stage == "tokenizer")
    assert ("--base FILE" in text) == (stage in ("encoder", "student"))


def test_help_of_other_stages(capsys):
    assert "--steps STEPS" not in help_of(capsys, "export")
    assert "--task" in help_of(capsys, "export")
    together = help_of(capsys, "all")
    assert "--kl KL" in together
    for option in ("--seeds", "--photographs", "--preset", "--model"):
        assert option not in together
    everything = help_of(capsys)
    for option in ("--kl", "--commitment", "--task", "--seeds"):
        assert option in everything
    assert "default: 1e-4" not in everything
    for stage in STAGES:
        assert "--out" in help_of(capsys, stage)


def test_a_refused_run_leaves_no_configuration(tmp_path, capsys):
    out = tmp_path / "run"
    command = ["distill", "student", "--out", str(out), "--device", "cpu", "--workers", "0"]
    assert main(command) == 1
    assert "Train it first" in capsys.readouterr().err
    assert [path.name for path in out.rglob("*")] == [".lock"]


def test_an_empty_degradation_is_refused(tmp_path, capsys):
    command = ["distill", "student", "--out", str(tmp_path / "run"), "--degradation", ""]
    assert main(command) == 1
    assert "degradation preset, got none" in capsys.readouterr().err
