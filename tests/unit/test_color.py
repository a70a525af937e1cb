"""Colour matching: identities, what each method equalises, and CIELAB against scikit-image."""

import numpy as np
import pytest
import torch

from varestorer_core.color import COLOR_MATCHES, match_color
from varestorer_core.color_space import lab_to_rgb, rgb_to_lab
from varestorer_core.errors import SettingError


def picture(seed, height=40, width=56):
    """Return smooth colours with fine noise, away from the ends of the range."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 3, 4, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[0]
    fine = torch.rand(3, height, width, generator=generator)
    return (0.35 + 0.25 * smooth + 0.05 * fine).clamp(0, 1)


@pytest.mark.parametrize("method", COLOR_MATCHES)
def test_same_picture_stays(method):
    image = picture(1)
    before = image.clone()
    assert torch.allclose(match_color(image, image, method), before, atol=2e-6)
    assert torch.equal(image, before)


def test_none_is_the_very_same():
    image = picture(1)
    assert match_color(image, picture(2), "none") is image


def test_wavelet_takes_a_colour_cast_away_and_keeps_detail():
    source = picture(1)
    detail = 0.02 * torch.randn(3, 40, 56, generator=torch.Generator().manual_seed(3))
    cast = source + torch.tensor([0.1, -0.05, 0.07])[:, None, None]
    matched = match_color(cast + detail, source, "wavelet")
    assert torch.allclose(matched.mean((1, 2)), source.mean((1, 2)), atol=3e-3)
    kept = matched - source
    correlation = torch.corrcoef(torch.stack([kept.flatten(), detail.flatten()]))[0, 1]
    assert correlation > 0.95


def test_wavelet_has_no_border_artefacts():
    # A constant shift is a pure low frequency, so it must also vanish in the corners.
    source = picture(1, 33, 47)
    matched = match_color(source + 0.1, source, "wavelet")
    assert torch.allclose(matched, source, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (3, 3)])
@pytest.mark.parametrize("method", COLOR_MATCHES)
def test_tiny_pictures(method, size):
    matched = match_color(torch.full((3, *size), 0.5), torch.full((3, *size), 0.25), method)
    assert matched.shape == (3, *size)
    assert torch.isfinite(matched).all()
    if method != "none":
        assert torch.allclose(matched, torch.tensor(0.25), atol=1e-4)


def test_adain_matches_mean_and_deviation():
    image, source = picture(1), picture(2)
    matched = match_color(image, source, "adain")
    assert torch.allclose(matched.mean((1, 2)), source.mean((1, 2)), atol=1e-4)
    assert torch.allclose(matched.std((1, 2)), source.std((1, 2)), atol=1e-4)


def test_lab_matches_mean_and_deviation_in_lab():
    image, source = picture(1), picture(2)
    matched, target = rgb_to_lab(match_color(image, source, "lab")), rgb_to_lab(source)
    assert torch.allclose(matched.mean((1, 2)), target.mean((1, 2)), atol=0.1)
    assert torch.allclose(matched.std((1, 2)), target.std((1, 2)), atol=0.1)


def test_lab_equals_scikit_image():
    color = pytest.importorskip("skimage.color", reason="scikit-image is the reference for CIELAB")
    image = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0))
    image[:, 0] = torch.linspace(0, 1, 30)  # greys, black and white included
    image[:, 1] = torch.eye(3)[:, torch.arange(30) % 3]  # pure colours
    reference = color.rgb2lab(image.permute(1, 2, 0).double().numpy())
    lab = rgb_to_lab(image)
    assert np.abs(lab.permute(1, 2, 0).numpy() - reference).max() < 2e-2
    assert torch.allclose(lab_to_rgb(lab), image, atol=1e-4)


@pytest.mark.parametrize("method", ["wavelet", "adain", "lab"])
def test_result_is_in_range_and_float32(method):
    image = (torch.rand(3, 24, 24) > 0.5).to(torch.bfloat16)
    matched = match_color(image, torch.rand(3, 24, 24) ** 4, method)
    assert matched.dtype == torch.float32
    assert matched.min() >= 0
    assert matched.max() <= 1


def test_bad_arguments():
    with pytest.raises(SettingError, match="none, wavelet, adain, lab, got 'hsv'"):
        match_color(picture(1), picture(2), "hsv")
    with pytest.raises(ValueError, match="same shape"):
        match_color(picture(1), picture(1)[:, :-1], "adain")


@pytest.mark.parametrize("method", ["wavelet", "adain", "lab"])
def test_bands_and_memory_change_nothing(method, monkeypatch):
    image, source = picture(1), picture(2)
    whole = match_color(image, source, method)
    monkeypatch.setattr("varestorer_core.color._BAND", 200)
    assert torch.allclose(match_color(image, source, method), whole, atol=2e-6)
    before = source.clone()
    result = match_color(image, source, method, in_place=True)
    assert result.data_ptr() == image.data_ptr()
    assert torch.allclose(result, whole, atol=2e-6)
    assert torch.equal(source, before)
