"""Each kind of damage compared with a simple formula."""

import io
import math

import numpy as np
import pytest
import torch
from degrading import SIZES, generator, picture
from numeric import direct_convolution
from PIL import Image

from varestorer_core.color_space import linear_to_srgb, srgb_to_linear
from varestorer_core.degradation import (
    blur,
    kernels,
    low_light,
    noise,
    resizing,
)
from varestorer_core.degradation.compression import Jpeg, compress
from varestorer_core.degradation.rain import Rain
from varestorer_core.errors import ImageError


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
    # Rotated by 90 degrees, the first axis is the vertical one.
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


def test_jpeg_has_no_limit_of_pillow(monkeypatch):
    """Pillow refuses pictures above 179 megapixels, fewer than the package accepts."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert compress(torch.rand(3, 32, 32), 90).shape == (3, 32, 32)


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
