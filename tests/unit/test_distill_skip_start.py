"""Initialisation of a new tokenizer: a linear autoencoder, to which the blocks are added."""

import dataclasses

import numpy as np
import pytest
import torch

from varestorer_core.config import TokenizerConfig
from varestorer_core.distill.loop import LoopSettings, train
from varestorer_core.distill.procedural import generate_picture
from varestorer_core.distill.skip_start import (
    SkipSettings,
    SkipStage,
    initialise_skip_path,
    join_blocks,
    skip_decode,
    skip_encode,
    skip_parameters,
)
from varestorer_core.distill.sources import Squares
from varestorer_core.distill.train_tokenizer import prefix_schedule
from varestorer_core.errors import SettingError
from varestorer_core.models.bsq import quantize
from varestorer_core.models.tokenizer import VisualTokenizer
from varestorer_core.schedule import get_schedule

SCHEDULE = prefix_schedule(get_schedule(1.0, "0.06M"), 5)
CONFIG = TokenizerConfig(8, 16, (1, 2), num_res_blocks=1, norm_groups=2)


def to_tensor(pictures):
    return torch.from_numpy(pictures).permute(0, 3, 1, 2) / 127.5 - 1


def fit(folder, pictures, seed=0, resume=False, stop_at=None, config=CONFIG, **settings):
    """Return a new tokenizer whose skip path was trained."""
    tokenizer = VisualTokenizer(config)
    stage = SkipStage(tokenizer, SCHEDULE, seed, settings=SkipSettings(**settings))
    loop = dataclasses.replace(stage.loop(LoopSettings(steps=9, seed=seed)), stop_at=stop_at)
    if train(folder, stage, Squares(pictures), loop, resume=resume) == loop.steps:
        stage.join(Squares(pictures))
    return tokenizer


@pytest.fixture(scope="module")
def pictures():
    return np.stack([generate_picture(0, i, size=32) for i in range(8)])


def test_blocks_join_without_changing_what_the_skip_path_does(pictures):
    tokenizer = VisualTokenizer(CONFIG)
    initialise_skip_path(tokenizer, 0)
    images = to_tensor(pictures)[:, :, :16, :16]
    with torch.no_grad():
        features = skip_encode(tokenizer.encoder, images)
        codes = quantize(features, SCHEDULE).summed_codes
        output = skip_decode(tokenizer.decoder, codes)
        join_blocks(tokenizer, images, codes)
        # Equal except for the effect of each picture's own contrast on its groups' standard deviations.
        relative = (tokenizer.encoder(images) - features).std() / features.std()
        assert float(relative) < 0.1
        relative = (tokenizer.decoder(codes) - output).std() / output.std()
        assert float(relative) < 0.1


def test_fitting_learns_to_carry_a_picture(tmp_path, pictures):
    tokenizer = fit(tmp_path, pictures, steps=60, batch=4)
    images = to_tensor(pictures)[:, :, :16, :16]
    with torch.no_grad():
        output = tokenizer(images, SCHEDULE)
    mean = images.mean((0, 2, 3), keepdim=True).expand_as(images)
    # 2 dB better.
    assert (output - images).square().mean() < 10**-0.2 * (mean - images).square().mean()


def test_an_interrupted_start_gives_the_same_start(tmp_path, pictures):
    whole = fit(tmp_path / "whole", pictures, 3, steps=4, batch=2)
    fit(tmp_path / "cut", pictures, 3, steps=4, batch=2, stop_at=2)
    resumed = fit(tmp_path / "cut", pictures, 3, resume=True, steps=4, batch=2).state_dict()
    assert all(torch.equal(value, resumed[name]) for name, value in whole.state_dict().items())


def test_only_the_way_round_the_blocks_is_trained_alone():
    tokenizer = VisualTokenizer(CONFIG)
    skip = {id(p) for p in skip_parameters(tokenizer)}
    names = {n for n, p in tokenizer.named_parameters() if id(p) in skip}
    assert "encoder.down.0.downsample.conv.weight" in names
    assert "decoder.up.0.block.0.nin_shortcut.bias" in names
    assert not any("conv1" in n or "conv2" in n or "norm" in n for n in names)


@pytest.mark.parametrize(
    "config",
    [
        TokenizerConfig(8, 4, (1, 2), num_res_blocks=1, norm_groups=1),
        TokenizerConfig(8, 16, (1, 1), num_res_blocks=1, norm_groups=2),
    ],
)
def test_too_narrow_a_network_says_what_to_change(config):
    with pytest.raises(SettingError, match="base_channels"):
        SkipStage(VisualTokenizer(config), SCHEDULE, 0)
