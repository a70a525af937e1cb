"""Metrics compared with scikit-image, and with direct implementations of their definitions."""

import math

import numpy as np
import pytest
import torch

from varestorer_core import metrics as measures
from varestorer_core.metrics import decibels, gmsd, gradient_energy, ms_ssim, num_sizes, psnr, ssim


def pictures(height=37, width=50):
    generator = torch.Generator().manual_seed(0)
    reference = torch.rand(3, height, width, generator=generator)
    noise = torch.randn(3, height, width, generator=generator)
    return (reference + 0.1 * noise).clamp(0, 1).double(), reference.double()


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


def test_decibels_are_those_of_the_pictures():
    picture, reference = (2 * x - 1 for x in pictures())
    error = float((picture - reference).square().mean())
    expected = float(psnr(picture, reference, data_range=2.0))
    assert decibels(error, data_range=2.0) == pytest.approx(expected, abs=1e-9)
    assert decibels(0.01) == pytest.approx(20)


def test_equal_pictures():
    picture, _ = pictures()
    assert psnr(picture, picture) == decibels(0.0) == math.inf
    assert ssim(picture, picture) == pytest.approx(1)


def test_shapes_are_checked():
    picture, reference = pictures()
    with pytest.raises(ValueError, match="same size"):
        psnr(picture, reference[:, 1:])
    with pytest.raises(ValueError, match="11 x 11"):
        ssim(picture[:, :10], reference[:, :10])


def plain_ms_ssim(x, y, sizes):
    """The definition, window by window, one channel after the other."""
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    weights = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333][:sizes])
    weights /= weights.sum()
    values = []
    for a, b in zip(x, y, strict=True):
        product = 1.0
        for index in range(sizes):
            full, structure = [], []
            for top in range(a.shape[0] - 10):
                for left in range(a.shape[1] - 10):
                    p, q = (z[top : top + 11, left : left + 11] for z in (a, b))
                    mean_p, mean_q = (window * p).sum(), (window * q).sum()
                    var_p, var_q = (
                        (window * (z - m) ** 2).sum() for z, m in ((p, mean_p), (q, mean_q))
                    )
                    covariance = (window * (p - mean_p) * (q - mean_q)).sum()
                    structure.append((2 * covariance + 0.0009) / (var_p + var_q + 0.0009))
                    luminance = (2 * mean_p * mean_q + 1e-4) / (mean_p**2 + mean_q**2 + 1e-4)
                    full.append(luminance * structure[-1])
            last = index == sizes - 1
            product *= np.mean(full if last else structure) ** weights[index]
            height, width = (side // 2 * 2 for side in a.shape)
            a, b = (
                z[:height, :width].reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))
                for z in (a, b)
            )
        values.append(product)
    return np.mean(values)


def test_ms_ssim_against_its_definition():
    picture, reference = pictures(45, 53)
    wanted = plain_ms_ssim(picture.double().numpy(), reference.double().numpy(), 3)
    assert ms_ssim(picture, reference) == pytest.approx(wanted, abs=1e-9)


def test_ms_ssim_uses_as_many_sizes_as_fit():
    assert [num_sizes(side) for side in (11, 21, 22, 43, 44, 88, 175, 176, 5000)] == [
        *(1, 1, 2, 2, 3, 4, 4, 5, 5)
    ]
    picture, reference = pictures(21, 60)
    assert ms_ssim(picture, reference) == pytest.approx(float(ssim(picture, reference)), abs=1e-12)
    picture, _ = pictures(180, 177)
    assert ms_ssim(picture, picture) == pytest.approx(1)


def test_ms_ssim_of_opposite_pictures_is_a_number():
    picture, _ = pictures(48, 48)
    assert 0 <= ms_ssim(1 - picture, picture) < 0.1


def plain_gmsd(x, y):
    """The definition, pixel by pixel."""
    magnitudes = []
    for image in (x, y):
        grey = 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]
        height, width = (side // 2 * 2 for side in grey.shape)
        half = grey[:height, :width].reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))
        magnitude = np.empty((half.shape[0] - 2, half.shape[1] - 2))
        for top, left in np.ndindex(*magnitude.shape):
            part = half[top : top + 3, left : left + 3]
            across = (part[:, 0] - part[:, 2]).sum() / 3
            down = (part[0] - part[2]).sum() / 3
            magnitude[top, left] = math.hypot(across, down) * 255
        magnitudes.append(magnitude)
    first, second = magnitudes
    return ((2 * first * second + 170) / (first**2 + second**2 + 170)).std()


def test_gmsd_against_its_definition():
    picture, reference = pictures(21, 30)
    wanted = plain_gmsd(picture.double().numpy(), reference.double().numpy())
    assert gmsd(picture, reference) == pytest.approx(wanted, abs=1e-9)
    assert gmsd(picture, picture) == pytest.approx(0, abs=1e-9)


def test_gmsd_gradients_against_scikit_image():
    filters = pytest.importorskip("skimage.filters", reason="scikit-image is not installed")
    grey = pictures(12, 15)[0][0]
    wanted = np.hypot(filters.prewitt_h(grey.numpy()), filters.prewitt_v(grey.numpy()))[1:-1, 1:-1]
    # Twice as large, since the filter works at half size.
    large = grey.repeat_interleave(2, 0).repeat_interleave(2, 1).expand(3, -1, -1)
    ours = measures._gradient_magnitude(large, 1.0, 0.0).numpy()
    np.testing.assert_allclose(ours, wanted, atol=1e-12)


def test_gradient_energy():
    ramp = torch.arange(5.0).div(10).expand(3, 4, 5)
    assert gradient_energy(ramp) == pytest.approx(0.01)
    assert gradient_energy(ramp.transpose(1, 2)) == pytest.approx(0.01)
    assert gradient_energy(torch.full((3, 6, 6), 0.3)) == 0
    assert gradient_energy(torch.rand(3, 1, 1)) == 0
    picture, _ = pictures()
    soft = torch.nn.functional.avg_pool2d(picture[None], 3, 1)[0]
    assert gradient_energy(soft) < 0.5 * gradient_energy(picture)


@pytest.mark.parametrize(("metric", "least"), [(ssim, 11), (ms_ssim, 11), (gmsd, 6)])
def test_smallest_pictures(metric, least):
    metric(torch.rand(3, least, 40), torch.rand(3, least, 40))
    with pytest.raises(ValueError, match=f"{least} x {least} pixels"):
        metric(torch.rand(3, 40, least - 1), torch.rand(3, 40, least - 1))
    with pytest.raises(ValueError, match="same size"):
        metric(torch.rand(3, 40, 40), torch.rand(3, 40, 41))


@pytest.mark.parametrize("metric", [psnr, ssim, ms_ssim, gmsd])
def test_batches_and_gradients(metric):
    first, second = (torch.stack([x, x.flip(-1) ** 2]) for x in pictures())
    single = [metric(a, b) for a, b in zip(first, second, strict=True)]
    together = metric(first, second)
    assert together.shape == (2,)
    assert torch.allclose(together, torch.stack(single), atol=1e-12)
    assert metric(first[None], second[None]).shape == (1, 2)
    first.requires_grad_()
    metric(first, second).sum().backward()
    assert bool(torch.isfinite(first.grad).all())
    assert bool((first.grad != 0).any())
