"""A tokenizer initialised from a file: the same outputs, more blocks, and errors for files that do not fit."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from varestorer_core.cli import main
from varestorer_core.config import TokenizerConfig, TransformerConfig, to_dict
from varestorer_core.distill.export import export_model
from varestorer_core.distill.procedural import generate_picture
from varestorer_core.distill.run import RunSettings, run_stage, trained_tokenizer
from varestorer_core.distill.stage_names import STAGES
from varestorer_core.distill.train_tokenizer import TokenizerSettings
from varestorer_core.distill.warm_start import start_from_file
from varestorer_core.errors import CheckpointError, SettingError
from varestorer_core.models.autoencoder import ResidualBlock
from varestorer_core.models.tokenizer import VisualTokenizer
from varestorer_core.schedule import get_schedule

SCHEDULE = get_schedule(1.0, "0.06M")
SMALL = TokenizerConfig(4, 8, (1, 2), num_res_blocks=1, norm_groups=1)
LARGE = dataclasses.replace(SMALL, num_res_blocks=3)
TRANSFORMER = TransformerConfig(16, 1, 2, 4, 8, 16, text_rows=2, pixel_class="0.06M")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a tokenizer with one block per level, and its file (matrices in half precision)."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("trained") / "small.safetensors"
    tokenizer = VisualTokenizer(SMALL).eval()
    with torch.no_grad():
        for parameter in tokenizer.parameters():
            parameter.copy_(parameter.half())
    export_model(tokenizer, path, "")
    return tokenizer, path


def pictures():
    squares = np.stack([generate_picture(0, i, size=32) for i in range(3)])
    return torch.from_numpy(squares).permute(0, 3, 1, 2) / 127.5 - 1


@pytest.mark.parametrize("config", [SMALL, LARGE])
def test_the_first_output_is_that_of_the_file(trained, config):
    small, path = trained
    tokenizer = VisualTokenizer(config)
    start_from_file(tokenizer, path, seed=0)
    images = pictures()
    with torch.no_grad():
        assert torch.equal(tokenizer.encode(images), small.encode(images))
        expected, found = small(images, SCHEDULE), tokenizer(images, SCHEDULE)
        assert torch.equal(found, expected)


def test_added_blocks_can_learn(trained):
    _, path = trained
    tokenizer = VisualTokenizer(LARGE)
    start_from_file(tokenizer, path, seed=0)
    added = [
        block
        for name, block in tokenizer.named_modules()
        if isinstance(block, ResidualBlock) and name.endswith(("block.2", "block.3"))
    ]
    assert len(added) == 2 + 4  # two levels: the encoder has three blocks each, the decoder four
    features = tokenizer.encoder(pictures())
    (tokenizer.decoder(features) - pictures()).square().mean().backward()
    for block in added:
        assert block.conv2.weight.grad is not None
        assert block.conv2.weight.grad.abs().max() > 0


def test_added_blocks_depend_on_the_seed_alone(trained):
    _, path = trained
    states = []
    for seed in (3, 3, 4):
        tokenizer = VisualTokenizer(LARGE)
        start_from_file(tokenizer, path, seed)
        states.append(torch.cat([p.detach().flatten() for p in tokenizer.parameters()]))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"codebook_dim": 5}, "bits per token 4 instead of 5"),
        ({"base_channels": 16}, "base_channels 8 instead of 16"),
        ({"channel_multipliers": (1, 3)}, "channel_multipliers"),
        ({"norm_groups": 2}, "norm_groups 1 instead of 2"),
    ],
)
def test_other_shapes_are_refused(trained, change, words):
    tokenizer = VisualTokenizer(dataclasses.replace(SMALL, **change))
    with pytest.raises(SettingError, match="does not fit the run") as caught:
        start_from_file(tokenizer, trained[1], 0)
    assert words in str(caught.value)


def test_more_blocks_in_the_file_than_in_the_run_are_refused(tmp_path):
    path = tmp_path / "large.safetensors"
    export_model(VisualTokenizer(LARGE), path, "")
    with pytest.raises(SettingError, match="num_res_blocks 3 instead of 1 or fewer"):
        start_from_file(VisualTokenizer(SMALL), path, 0)


def test_the_stage_starts_from_the_file_and_notes_it(tmp_path, trained):
    small, path = trained
    settings = RunSettings(
        out=tmp_path,
        pictures=4,
        picture_size=40,
        validation_pictures=2,
        steps=dict.fromkeys(STAGES, 1),
        learning_rate=1e-12,
        tokenizer=LARGE,
        transformer=TRANSFORMER,
        tokenizer_settings=TokenizerSettings(batch=2),
        init=path,
    )
    assert run_stage("tokenizer", settings)
    assert not (tmp_path / "tokenizer" / "skip").exists()
    images = pictures()
    with torch.no_grad():
        found = trained_tokenizer(settings)(images, SCHEDULE)
        assert float((found - small(images, SCHEDULE)).abs().mean()) < 1e-4
    record = json.loads((tmp_path / "tokenizer" / "settings.json").read_text())["settings"]
    assert record["init"]["file"] == "small.safetensors"
    # Another initialisation is another run, which is not continued by mistake.
    with pytest.raises(CheckpointError, match="init"):
        run_stage("tokenizer", dataclasses.replace(settings, init=None, resume=True))


def test_the_command_says_where_the_option_has_no_effect(tmp_path, trained, capsys):
    config = tmp_path / "config.json"
    config.write_text(
        json.dumps({"tokenizer": to_dict(LARGE), "transformer": to_dict(TRANSFORMER)})
    )
    start = ["distill", "student", "--out", str(tmp_path / "run"), "--init"]
    assert main.main([*start, str(trained[1])]) == 2
    assert "only in the stages tokenizer and all" in capsys.readouterr().err
    start[1] = "tokenizer"
    assert main.main([*start, str(tmp_path / "absent")]) == 2
    assert "no such file" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
