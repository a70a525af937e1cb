"""PSNR and SSIM against scikit-image."""

import math

import pytest
import torch

from varestorer_core.evaluate import psnr, ssim


def pictures(height=37, width=50):
    generator = torch.Generator().manual_seed(0)
    reference = torch.rand(3, height, width, generator=generator)
    noise = torch.randn(3, height, width, generator=generator)
    return (reference + 0.1 * noise).clamp(0, 1), reference


def test_against_scikit_image():
    metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    picture, reference = pictures()
    a, b = picture.double().numpy(), reference.double().numpy()
    assert psnr(picture, reference) == pytest.approx(
        metrics.peak_signal_noise_ratio(b, a, data_range=1.0), abs=1e-9
    )
    wanted = metrics.structural_similarity(
        a,
        b,
        channel_axis=0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1.0,
    )
    assert ssim(picture, reference) == pytest.approx(wanted, abs=1e-9)


def test_equal_pictures():
    picture, _ = pictures()
    assert psnr(picture, picture) == math.inf
    assert ssim(picture, picture) == pytest.approx(1)


def test_shapes_are_checked():
    picture, reference = pictures()
    with pytest.raises(ValueError, match="same size"):
        psnr(picture, reference[:, 1:])
    with pytest.raises(ValueError, match="11 x 11"):
        ssim(picture[:, :10], reference[:, :10])
