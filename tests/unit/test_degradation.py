"""Degradations: every preset at every size, seeds, and each kind of damage against a plain formula."""

import hashlib
import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

from varestorer_core.color_space import linear_to_srgb, srgb_to_linear
from varestorer_core.degradation import (
    PRESETS,
    blur,
    degrade,
    get_preset,
    kernels,
    low_light,
    noise,
    picture_generator,
    resizing,
)
from varestorer_core.degradation.compression import Jpeg, compress
from varestorer_core.degradation.presets import Preset
from varestorer_core.degradation.rain import Rain
from varestorer_core.degradation.steps import EitherOrder, OneOf, Sizes, Sometimes
from varestorer_core.errors import ImageError, SettingError

SIZES = Sizes((8, 8), (8, 8))


def picture(height=40, width=56):
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    waves = 0.5 + 0.4 * torch.sin(9 * x + 5 * y)
    return torch.stack([waves, x, y])


def generator(seed=0):
    return np.random.default_rng(seed)


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
    """The same numbers drawn by hand, the same operations in the same order."""
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


def direct_convolution(image, kernel):
    """Convolve (C, H, W) position by position."""
    half = kernel.shape[0] // 2
    padded = np.pad(image.numpy(), ((0, 0), (half, half), (half, half)), mode="reflect")
    flipped = kernel[::-1, ::-1]
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape, axis=(1, 2))
    return torch.from_numpy((windows * flipped).sum(axis=(-2, -1)).astype(np.float32))


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (13, 8)])
def test_convolution(size):
    kernel = kernels.gaussian(7, (1.0, 2.5), 0.4)
    kernel[0, 5] += 0.2  # not symmetric
    image = torch.rand(3, *size)
    wanted = direct_convolution(image, kernel)
    torch.testing.assert_close(blur.convolve(image, kernel), wanted, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "kernel",
    [
        kernels.gaussian(21, (0.1, 0.1)),
        kernels.gaussian(41, (12.0, 0.1), 1.0),
        kernels.generalised_gaussian(21, (2.0, 3.0), 0.5, beta=0.5),
        kernels.generalised_gaussian(21, (0.2, 0.2), beta=4.0),
        kernels.plateau(7, (1.0, 1.0), beta=2.0),
        kernels.sinc(21, math.pi / 5),
        kernels.sinc(7, math.pi),
        kernels.line(30.0, 0.5, 0.3),
    ],
)
def test_kernels_keep_the_brightness_and_are_centred(kernel):
    assert kernel.shape[0] == kernel.shape[1]
    assert kernel.shape[0] % 2 == 1
    assert kernel.dtype == np.float32
    assert np.isfinite(kernel).all()
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    assert kernel.argmax() == kernel.size // 2
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-7)


def test_gaussian_formula():
    kernel = kernels.gaussian(41, (2.0, 4.0), math.pi / 2)
    # Turned by a right angle, the first axis is the vertical one.
    assert kernel[22, 20] / kernel[20, 20] == pytest.approx(math.exp(-0.5), rel=1e-5)
    assert kernel[20, 24] / kernel[20, 20] == pytest.approx(math.exp(-0.5), rel=1e-5)


def test_shapes_of_higher_order():
    flat = kernels.generalised_gaussian(21, (4.0, 4.0), beta=4.0)
    assert flat[10, 12] / flat[10, 10] == pytest.approx(math.exp(-0.5 * 0.5**8), rel=1e-5)
    top = kernels.plateau(21, (4.0, 4.0), beta=2.0)
    assert top[10, 14] / top[10, 10] == pytest.approx(0.5, rel=1e-5)


def test_sinc_passes_low_frequencies_only():
    spectrum = np.abs(np.fft.fft2(kernels.sinc(41, 1.0), (128, 128)))[0]
    frequency = 2 * math.pi * np.arange(65) / 128
    assert spectrum[:65][frequency < 0.7].min() > 0.85
    assert spectrum[:65][frequency > 1.4].max() < 0.15


def test_gaussian_noise():
    flat = torch.full((3, 200, 200), 0.5)
    colour = noise.GaussianNoise((10.0, 10.0))(flat, generator(), SIZES) - flat
    assert colour.std() * 255 == pytest.approx(10, rel=0.02)
    assert not torch.equal(colour[0], colour[1])
    grey = noise.GaussianNoise((10.0, 10.0), grey=1.0)(flat, generator(), SIZES)
    assert torch.equal(grey[0], grey[2])


def test_poisson_noise_grows_with_brightness():
    deviations = []
    for value in (0.1, 0.4):
        flat = torch.full((3, 200, 200), value)
        noisy = noise.PoissonNoise((1.0, 1.0))(flat, generator(), SIZES)
        assert noisy.mean() == pytest.approx(value, abs=0.001)
        assert noisy.std() == pytest.approx(math.sqrt(value / 256), rel=0.02)
        deviations.append(noisy.std().item())
    assert deviations[1] == pytest.approx(2 * deviations[0], rel=0.03)
    grey = noise.PoissonNoise((1.0, 1.0), grey=1.0)(flat, generator(), SIZES)
    assert torch.equal(grey[0], grey[2])


def test_salt_and_pepper():
    flat = torch.full((3, 300, 300), 0.5)
    result = noise.SaltAndPepper((0.1, 0.1))(flat, generator(), SIZES)
    assert torch.equal(result[0], result[1])
    assert (result == 0).float().mean() == pytest.approx(0.05, rel=0.1)
    assert (result == 1).float().mean() == pytest.approx(0.05, rel=0.1)


def test_jpeg_is_pillows():
    image = (picture() * 255).round() / 255
    file = io.BytesIO()
    samples = (image * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
    Image.fromarray(samples).save(file, "JPEG", quality=20)
    wanted = np.asarray(Image.open(file)).transpose(2, 0, 1)
    result = Jpeg((20, 20))(image, generator(), SIZES)
    assert np.array_equal((result * 255).round().byte().numpy(), wanted)


def test_jpeg_has_a_longest_side():
    with pytest.raises(ImageError, match="65500 pixels a side, got 65501 x 1"):
        compress(torch.zeros(3, 1, 65501), 50)


def test_low_light_takes_its_share_of_the_light():
    flat = torch.full((3, 64, 64), 0.8)
    step = low_light.LowLight((0.1, 0.1), (1e7, 1e7), (0.0, 0.0))
    dark = step(flat, generator(), SIZES).double()
    light = srgb_to_linear(dark).mean() / srgb_to_linear(flat.double()).mean()
    assert light == pytest.approx(0.1, rel=1e-3)


def test_srgb_curve_and_back():
    values = torch.linspace(0, 1, 101, dtype=torch.float64)
    torch.testing.assert_close(linear_to_srgb(srgb_to_linear(values)), values, atol=1e-6, rtol=0)
    assert srgb_to_linear(torch.tensor(0.5)).item() == pytest.approx(0.2140, abs=1e-4)


def test_rain_only_adds_light_to_a_dark_picture():
    image = torch.full((3, 60, 60), 0.2)
    step = Rain((0.003, 0.003), (15.0, 15.0), (0.6, 0.6), (20.0, 20.0), (0.6, 0.6), (0.1, 0.1))
    result = step(image, generator(), SIZES)
    veiled = 0.2 + 0.1 * (0.75 - 0.2)
    assert result.min() >= veiled - 1e-5
    assert result.max() > 0.4
    assert (result > veiled + 0.05).float().mean() < 0.5


@pytest.mark.parametrize("choice", ["area", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("size", [(3, 4), (17, 30), (3, 30)])
def test_resizing_keeps_flat_pictures_flat(choice, size):
    flat = torch.full((3, 8, 10), 0.25)
    result = resizing.resize(flat, size, choice)
    torch.testing.assert_close(result, torch.full((3, *size), 0.25), atol=1e-5, rtol=0)


def test_area_averages():
    image = torch.rand(3, 8, 8)
    wanted = image.view(3, 2, 4, 2, 4).mean(dim=(2, 4))
    torch.testing.assert_close(resizing.resize(image, (2, 2), "area"), wanted)


def test_x4_at_scale_4_ends_with_its_compression():
    """Its small picture is the result: nothing resamples it again."""
    image = picture(64, 96)
    first, *others = PRESETS["x4"].steps
    rng = generator(1)
    small = first(image, rng, SIZES)
    for step in others:
        small = step(small, rng, Sizes((64, 96), (16, 24)))
    result = degrade(image, "x4", generator(1), scale=4)
    torch.testing.assert_close(result, small)


class Add:
    """A step that can be told from others by what it adds."""

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
