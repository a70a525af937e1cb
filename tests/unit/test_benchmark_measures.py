"""The measures of `varestorer benchmark` against other implementations, and the frequency analysis by hand."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from varestorer_core.benchmark.frequency import BANDS, BINS, band_psnr, radial_spectrum
from varestorer_core.benchmark.measures import BUILT_IN, MEASURES, built_in
from varestorer_core.benchmark.niqe import niqe
from varestorer_core.distill.procedural import generate_picture

NIQE_SHARP, NIQE_BLURRED = 3.06495, 6.57614


def picture(seed=0, size=200):
    return torch.tensor(generate_picture(seed, 0, size=size)).permute(2, 0, 1) / 255


def noisy(clean, sigma=0.05):
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    return (clean + sigma * noise).clamp(0, 1)


def luma(image):
    return (image.permute(1, 2, 0).double().numpy() * [65.481, 128.553, 24.966]).sum(-1) + 16


@pytest.mark.parametrize("crop", [0, 4])
def test_psnr_and_ssim_equal_those_of_scikit_image(crop):
    clean = picture()
    bad = noisy(clean)
    values = built_in(bad, clean, crop=crop)
    inside = slice(crop, -crop or None)
    one, other = (image[:, inside, inside] for image in (bad, clean))
    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = {
        "psnr_y": peak_signal_noise_ratio(luma(other), luma(one), data_range=255),
        "ssim_y": structural_similarity(luma(other), luma(one), data_range=255, **window),
        "psnr_rgb": peak_signal_noise_ratio(other.numpy(), one.numpy(), data_range=1),
        "ssim_rgb": structural_similarity(
            other.numpy(), one.numpy(), data_range=1, channel_axis=0, **window
        ),
    }
    for name, value in expected.items():
        assert values[name] == pytest.approx(value, abs=1e-3), name
    assert set(values) == set(BUILT_IN)


def test_equal_pictures_and_small_ones():
    small = picture(size=40)
    values = built_in(small, small)
    assert values["psnr_y"] == values["psnr_low"] == math.inf
    assert values["ssim_y"] == pytest.approx(1)
    assert values["niqe"] is None  # two blocks of 96 x 96 pixels do not fit
    with pytest.raises(ValueError, match="at least 19 x 19"):
        built_in(small[:, :18, :18], small[:, :18, :18], crop=4)


def test_niqe_equals_that_of_basicsr():
    """Values of BasicSR 1.4.2's calculate_niqe on scikit-image's astronaut, 512 x 512, and a blurred version."""
    from scipy.ndimage import uniform_filter
    from skimage import data

    photograph = data.astronaut()
    blurred = np.stack([uniform_filter(photograph[..., c], 5) for c in range(3)], axis=-1)
    for pixels, expected in ((photograph, NIQE_SHARP), (blurred, NIQE_BLURRED)):
        tensor = torch.from_numpy(pixels).permute(2, 0, 1) / 255
        assert niqe(tensor) == pytest.approx(expected, abs=2e-3)


def test_the_bands_share_the_whole_error():
    clean = picture()
    bad = noisy(clean)
    bands = band_psnr(bad, clean)
    total = sum(10 ** (-value / 10) for value in bands.values())
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    expected = ((bad - clean) * weights).sum(0).square().mean()
    assert total == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize(("cycles", "band"), [(4, "low"), (16, "middle"), (48, "high")])
def test_a_wave_is_in_its_band(cycles, band):
    """Over 128 pixels: 1/32, 1/8 and 3/8 cycles per pixel."""
    wave = 0.1 * torch.sin(2 * math.pi * cycles * torch.arange(128) / 128).expand(3, 128, 128)
    grey = torch.full((3, 128, 128), 0.5)
    bands = band_psnr(grey + wave, grey)
    assert bands[band] == pytest.approx(-10 * math.log10(0.1**2 / 2), abs=1e-3)
    assert all(value > 80 for name, value in bands.items() if name != band)
    spectrum = radial_spectrum(grey + wave)
    assert spectrum.argmax() == int(cycles / 128 * 2 * BINS)
    assert len(spectrum) == BINS
    assert set(BANDS) == {"low", "middle", "high"}


def test_better_is_the_lower_rank():
    assert MEASURES["psnr_y"].rank(30) < MEASURES["psnr_y"].rank(20)
    assert MEASURES["niqe"].rank(3) < MEASURES["niqe"].rank(5)
    assert MEASURES["gradient_energy"].rank(0.9) < MEASURES["gradient_energy"].rank(1.3)
