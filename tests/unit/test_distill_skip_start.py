"""How a new tokenizer starts: a linear autoencoder that the blocks then join."""

import numpy as np
import pytest
import torch

from varestorer_core.config import TokenizerConfig
from varestorer_core.distill.data import to_tensor
from varestorer_core.distill.losses import psnr
from varestorer_core.distill.procedural import generate_picture
from varestorer_core.distill.skip_start import (
    SkipSettings,
    fit_skip_path,
    initialise_skip_path,
    join_blocks,
    skip_decode,
    skip_encode,
    skip_parameters,
)
from varestorer_core.distill.train_tokenizer import prefix_schedule
from varestorer_core.errors import SettingError
from varestorer_core.models.bsq import quantize
from varestorer_core.models.tokenizer import VisualTokenizer
from varestorer_core.schedule import get_schedule

SCHEDULE = prefix_schedule(get_schedule(1.0, "0.06M"), 5)
CONFIG = TokenizerConfig(8, 16, (1, 2), num_res_blocks=1, norm_groups=2)


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
        # Equal but for the share of each picture's own contrast in its groups' standard deviations.
        relative = (tokenizer.encoder(images) - features).std() / features.std()
        assert float(relative) < 0.1
        relative = (tokenizer.decoder(codes) - output).std() / output.std()
        assert float(relative) < 0.1


def test_fitting_learns_to_carry_a_picture(pictures):
    tokenizer = VisualTokenizer(CONFIG)
    fit_skip_path(tokenizer, pictures, SCHEDULE, 0, settings=SkipSettings(steps=60, batch=4))
    images = to_tensor(pictures)[:, :, :16, :16]
    with torch.no_grad():
        output = tokenizer(images, SCHEDULE)
    mean = images.mean((0, 2, 3), keepdim=True).expand_as(images)
    assert psnr(output, images) > psnr(mean, images) + 2


def test_the_same_seed_gives_the_same_start(pictures):
    states = []
    for _ in range(2):
        tokenizer = VisualTokenizer(CONFIG)
        fit_skip_path(tokenizer, pictures, SCHEDULE, 3, settings=SkipSettings(steps=2, batch=2))
        states.append(tokenizer.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


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
def test_too_narrow_a_network_says_what_to_change(pictures, config):
    with pytest.raises(SettingError, match="base_channels"):
        fit_skip_path(VisualTokenizer(config), pictures, SCHEDULE, 0)
