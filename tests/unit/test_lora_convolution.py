"""Fine-tuning of the tokenizer's encoder by low-rank corrections."""

import copy
import dataclasses

import pytest
import torch
from torch import nn

from varestorer_core.cli import distill
from varestorer_core.cli.main import build_parser
from varestorer_core.config import TokenizerConfig
from varestorer_core.distill.run import RunSettings, adapted_tokenizer, run_stage
from varestorer_core.distill.train_encoder import EncoderSettings
from varestorer_core.distill.train_tokenizer import TokenizerSettings
from varestorer_core.lora.convolution import (
    LowRankCorrection,
    add_low_rank,
    merge_low_rank,
    merged_weights,
)
from varestorer_core.models.tokenizer import VisualTokenizer


@pytest.fixture
def encoder(make_tokenizer):
    return make_tokenizer().encoder


def stir(module):
    """Set every correction to a random value."""
    for part in module.modules():
        if isinstance(part, LowRankCorrection):
            nn.init.normal_(part.up, std=0.1)


def test_fresh_corrections_change_nothing_and_alone_train(encoder):
    images = torch.rand(1, 3, 32, 32)
    before = encoder(images)
    add_low_rank(encoder, 2, seed=0)
    assert torch.equal(encoder(images), before)
    trained = [name for name, p in encoder.named_parameters() if p.requires_grad]
    assert trained
    assert all(name.endswith((".up", ".down")) for name in trained)
    convolutions = [m for m in encoder.modules() if isinstance(m, nn.Conv2d)]
    assert len(trained) == 2 * len(convolutions)


def test_merging_gives_the_same_pictures_under_the_plain_names(encoder):
    images, names = torch.rand(1, 3, 32, 32), encoder.state_dict().keys()
    plain = copy.deepcopy(encoder)
    add_low_rank(encoder, 2, seed=0)
    stir(encoder)
    wanted = encoder(images)
    assert not torch.allclose(wanted, plain(images))

    state = merged_weights(encoder.state_dict())
    assert state.keys() == names
    plain.load_state_dict(state)
    assert torch.allclose(plain(images), wanted, atol=1e-6)
    merge_low_rank(encoder)
    assert encoder.state_dict().keys() == names
    assert torch.allclose(encoder(images), wanted, atol=1e-6)


def test_weights_without_corrections_stay_as_they_are(encoder):
    state = encoder.state_dict()
    merged = merged_weights(state)
    assert merged.keys() == state.keys()
    assert all(merged[name] is state[name] for name in state)


def test_the_stage_resumes_and_its_successors_read_it(tmp_path, make_transformer):
    tokenizer = TokenizerConfig(4, 8, (1, 2), num_res_blocks=1, norm_groups=1)
    settings = RunSettings(
        out=tmp_path / "whole",
        pictures=4,
        picture_size=40,
        steps=dict.fromkeys(("tokenizer", "encoder"), 2),
        tokenizer_settings=TokenizerSettings(batch=2),
        encoder_settings=EncoderSettings(batch=2, rank=2),
        tokenizer=tokenizer,
        transformer=make_transformer(codebook_dim=4).config,
    )
    run_stage("tokenizer", settings)
    run_stage("encoder", settings)
    whole = adapted_tokenizer(settings).state_dict()

    state = tmp_path / "whole" / "encoder" / "state.pt"
    state.unlink()
    run_stage("encoder", dataclasses.replace(settings, stop_at=1))
    run_stage("encoder", dataclasses.replace(settings, resume=True))
    resumed = adapted_tokenizer(settings).state_dict()
    assert whole.keys() == VisualTokenizer(tokenizer).state_dict().keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_the_option(tmp_path):
    parse = build_parser().parse_args
    settings = distill.run_settings_from(
        parse(["distill", "encoder", "--out", str(tmp_path), "--encoder-rank", "4"])
    )
    assert settings.encoder_settings.rank == 4
