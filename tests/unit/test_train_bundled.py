"""The script that trains the bundled model runs through all its stages, with shapes that they accept."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from varestorer_core.cli.distill_stages import check_options
from varestorer_core.config import tokenizer_config, transformer_config
from varestorer_core.distill.degrade import parse_mix
from varestorer_core.distill.run import STAGES
from varestorer_core.distill.skip_start import initialise_skip_path
from varestorer_core.models.tokenizer import VisualTokenizer
from varestorer_core.models.transformer import VARTransformer

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(
    params=[
        ("", "cpu"),
        ("start.safetensors", "cpu"),
        ("", "cuda"),
        ("start.safetensors", "cuda"),
    ]
)
def commands(tmp_path, request):
    """Return the arguments of every command that the script runs, by stage; from nothing and from a tokenizer file."""
    start, device = request.param
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\nprintf '%s\\t' \"$@\" >> $RECORD; echo >> $RECORD\n")
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    record = tmp_path / "record"
    environment = {**os.environ, "PYTHON": str(fake), "RECORD": str(record)}
    environment |= {"INIT": start, "DEVICE": device}
    script = [str(BENCHMARKS / "train_bundled.sh"), "DATA", "RUN"]
    subprocess.run(script, check=True, env=environment)
    lines = [line.rstrip("\t").split("\t") for line in record.read_text().splitlines()]
    arguments = {line[3]: line[4:] for line in lines}
    assert ("--init" in arguments["tokenizer"]) == bool(start)
    return arguments


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
def test_every_stage_runs_once_after_those_it_needs(commands):
    assert set(commands) == {*STAGES, "export"}
    order = list(commands)
    for before, after in (
        ("tokenizer", "encoder"),
        ("encoder", "decoder"),
        ("teacher", "student"),
        ("decoder", "student"),
        ("student", "student_decoder"),
        ("student_decoder", "crisp_decoder"),
        ("crisp_decoder", "export"),
    ):
        assert order.index(before) < order.index(after)


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
def test_the_command_line_accepts_every_stage(commands, monkeypatch, tmp_path):
    from varestorer_core.cli import distill, main

    parsed = {}
    monkeypatch.setattr(distill, "run", lambda args: parsed.update({args.stage: args}) or 0)
    for stage, arguments in commands.items():
        assert main.main(["distill", stage, *arguments]) == 0
    assert set(parsed) == {*STAGES, "export"}
    for stage, args in parsed.items():
        check_options(args)
        assert args.resume or stage == "export", stage
        if args.degradation:
            assert len(parse_mix(args.degradation)) == 5


def test_the_shapes_fit_each_other_and_the_size_that_may_be_bundled():
    shapes = json.loads((BENCHMARKS / "bundled.json").read_text())
    tokenizer = VisualTokenizer(tokenizer_config(shapes["tokenizer"]))
    config = transformer_config(shapes["transformer"])
    assert config.codebook_dim == tokenizer.config.codebook_dim
    initialise_skip_path(tokenizer, 0)  # refuses shapes that it cannot start
    numbers = [p.numel() for p in VARTransformer(config).parameters()]
    numbers += [p.numel() for p in tokenizer.parameters()]
    # Twice the decoder, faithful and crisp, in half precision.
    numbers += [p.numel() for p in tokenizer.decoder.parameters()]
    assert 2 * sum(numbers) < 24e6
