"""Degradations: every preset at every size, seeds, probabilities and order of steps."""

import hashlib
import math

import numpy as np
import pytest
import torch
from degrading import SIZES, generator, picture
from numeric import direct_convolution

from varestorer_core.degradation import (
    PRESETS,
    degrade,
    get_preset,
    kernels,
    picture_generator,
    resizing,
)
from varestorer_core.degradation.compression import compress
from varestorer_core.degradation.presets import Preset
from varestorer_core.degradation.steps import EitherOrder, OneOf, Sizes, Sometimes
from varestorer_core.errors import ImageError, SettingError


def digest(image):
    return hashlib.sha256(image.numpy().tobytes()).hexdigest()


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("scale", [1, 2.5, 4])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3), (23, 17), (40, 56)])
def test_size_and_values(preset, scale, size):
    for seed in range(3):
        result = degrade(picture(*size), preset, generator(seed), scale=scale)
        wanted = tuple(max(1, round(side / scale)) for side in size)
        assert result.shape == (3, *wanted)
        assert result.dtype == torch.float32
        assert result.min() >= 0
        assert result.max() <= 1
        torch.testing.assert_close(result * 255, (result * 255).round(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_seed_decides_every_byte(preset):
    first, again, other = (
        degrade(picture(), preset, picture_generator(seed, 3)) for seed in (5, 5, 6)
    )
    assert digest(first) == digest(again)
    assert digest(first) != digest(other)
    assert digest(first) != digest(degrade(picture(), preset, picture_generator(5, 4)))


def test_nothing_but_the_generator_is_random():
    before = torch.random.get_rng_state()
    np.random.seed(0)
    first = degrade(picture(), "real", generator())
    np.random.seed(1)
    assert digest(first) == digest(degrade(picture(), "real", generator()))
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_input_is_left_alone():
    image = picture()
    copy = image.clone()
    for preset in PRESETS:
        degrade(image, preset, generator())
    assert torch.equal(image, copy)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_does_damage(preset):
    assert (degrade(picture(), preset, generator()) - picture()).abs().mean() > 0.005
    assert get_preset(preset).summary


@pytest.mark.parametrize(
    ("image", "preset", "scale", "error", "words"),
    [
        (torch.zeros(1, 4, 4), "x4", 1, ImageError, r"\(1, 4, 4\)"),
        (torch.zeros(3, 0, 4), "x4", 1, ImageError, "positive sides"),
        (torch.full((3, 4, 4), math.nan), "x4", 1, ImageError, "NaN"),
        (torch.zeros(3, 4, 4), "nonsense", 1, SettingError, "official, real, mild"),
        (torch.zeros(3, 4, 4), "x4", 0.5, SettingError, "at least 1, got 0.5"),
        (torch.zeros(3, 4, 4), "x4", math.nan, SettingError, "got nan"),
    ],
)
def test_bad_arguments(image, preset, scale, error, words):
    with pytest.raises(error, match=words):
        degrade(image, preset, generator(), scale=scale)


def test_official_ranges():
    soft, shrink, grain, jpeg = PRESETS["official"].steps
    assert (soft.sigma, soft.size, soft.isotropic) == ((0.1, 12.0), (41, 41), 0.5)
    assert (shrink.divisor, shrink.filter) == ((1.0, 12.0), "bilinear")
    assert grain.sigma == (0.0, 15.0)
    assert jpeg.quality == (30, 100)
    assert PRESETS["official"].final_filter == "bilinear"


def test_official_chain_against_plain_calls():
    """The same random numbers, drawn here, and the same operations in the same order."""
    image, rng = picture(), generator(7)
    rng.integers(20, 21)
    first, second, angle = rng.uniform(0.1, 12), rng.uniform(0.1, 12), rng.uniform(0, math.pi)
    second = first if rng.random() < 0.5 else second
    rng.choice(1, p=[1.0])
    soft = direct_convolution(image, kernels.gaussian(41, (first, second), angle))
    factor = 1 / rng.uniform(1, 12)
    size = (max(1, round(40 * factor)), max(1, round(56 * factor)))
    small = torch.nn.functional.interpolate(soft[None], size, mode="bilinear")[0]
    sigma = rng.uniform(0, 15) / 255
    rng.random()
    small = small + sigma * torch.from_numpy(rng.standard_normal((3, *size), dtype=np.float32))
    small = compress(small.clamp(0, 1), int(rng.integers(30, 101)))
    wanted = torch.nn.functional.interpolate(small[None], (40, 56), mode="bilinear")[0]
    result = degrade(image, "official", generator(7))
    torch.testing.assert_close(result, wanted, atol=0.6 / 255, rtol=0)


def test_x4_at_scale_4_ends_with_its_compression():
    """Its small picture is the result, without resampling."""
    image = picture(64, 96)
    first, *others = PRESETS["x4"].steps
    rng = generator(1)
    small = first(image, rng, SIZES)
    for step in others:
        small = step(small, rng, Sizes((64, 96), (16, 24)))
    result = degrade(image, "x4", generator(1), scale=4)
    torch.testing.assert_close(result, small)


class Add:
    """A step that is identified by the value it adds."""

    def __init__(self, number):
        self.number = number

    def __call__(self, image, generator, sizes):
        return image * 10 + self.number


def test_chances():
    zero = torch.zeros(1)
    rng = generator()
    often = [Sometimes(0.8, Add(1))(zero, rng, SIZES).item() for _ in range(500)]
    assert np.mean(often) == pytest.approx(0.8, abs=0.06)
    choices = OneOf(((0.25, Add(1)), (0.75, Add(2))))
    drawn = [choices(zero, rng, SIZES).item() for _ in range(500)]
    assert np.mean(drawn) == pytest.approx(1.75, abs=0.06)
    both = EitherOrder((Add(1), Add(2)), (Add(3),))
    assert {both(zero, rng, SIZES).item() for _ in range(50)} == {123.0, 312.0}


def test_a_preset_of_ones_own():
    result = degrade(picture(), Preset("nothing", ()), generator(), scale=2)
    wanted = resizing.resize(picture(), (20, 28), "bicubic", antialias=True)
    torch.testing.assert_close(result, wanted.clamp(0, 1), atol=0.51 / 255, rtol=0)


def test_raising_between_steps_cancels():
    told = []

    def on_step(done, total):
        told.append((done, total))
        if done == 2:
            raise KeyboardInterrupt

    image = torch.rand(3, 20, 24)
    with pytest.raises(KeyboardInterrupt):
        degrade(image, "official", np.random.default_rng(0), on_step=on_step)
    steps = len(get_preset("official").steps) + 1
    assert told == [(0, steps), (1, steps), (2, steps)]
    told.clear()
    on_step = lambda *step: told.append(step)  # noqa: E731
    watched = degrade(image, "official", np.random.default_rng(0), on_step=on_step)
    assert torch.equal(watched, degrade(image, "official", np.random.default_rng(0)))
    assert told[-1] == (steps, steps)
