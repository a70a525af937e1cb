"""Output sizes, and Lanczos resampling against Pillow's 8-bit result."""

import numpy as np
import pytest
import torch
from PIL import Image

from varestorer_core.errors import SettingError
from varestorer_core.resize import resize_lanczos, target_size


@pytest.mark.parametrize(
    ("height", "width", "upscale", "expected"),
    [
        (70, 123, 2.5, (175, 308)),
        (5, 3, 0.5, (2, 2)),
        (1, 1, 0.2, (1, 1)),
        (1, 4000, 0.25, (1, 1000)),
        (10, 10, 1.0, (10, 10)),
    ],
)
def test_target_size(height, width, upscale, expected):
    assert target_size(height, width, upscale) == expected


@pytest.mark.parametrize("upscale", [0, -1, float("nan"), float("inf")])
def test_upscale_is_checked(upscale):
    with pytest.raises(SettingError, match="upscale must be a positive number"):
        target_size(10, 10, upscale)


@pytest.mark.parametrize("size", [(31, 77), (9, 11), (20, 80), (1, 1)])
def test_equals_pillow_up_to_its_rounding(size):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    # Smooth enough that Pillow's clipping between its two passes does not matter.
    pixels = np.asarray(Image.fromarray(pixels).resize((30, 20), Image.Resampling.BOX))
    picture = Image.fromarray(pixels // 4 + 96)
    expected = np.asarray(picture.resize(size[::-1], Image.Resampling.LANCZOS), dtype=np.float32)
    image = torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255
    resized = resize_lanczos(image, size)
    assert resized.shape == (3, *size)
    difference = resized * 255 - torch.from_numpy(expected.copy()).permute(2, 0, 1)
    assert difference.abs().max() <= 1.1  # two roundings to 8 bits in Pillow


def test_equal_size_is_returned_unchanged():
    image = torch.rand(3, 5, 6)
    assert resize_lanczos(image, (5, 6)) is image


def test_range_channels_and_type():
    image = (torch.rand(5, 12, 12) > 0.5).to(torch.float16)
    resized = resize_lanczos(image, (30, 7))
    assert resized.shape == (5, 30, 7)
    assert resized.dtype == torch.float16
    assert resized.min() >= 0
    assert resized.max() <= 1
    assert torch.equal(resized[2:3], resize_lanczos(image[2:3], (30, 7)))


def test_keeps_more_than_8_bits():
    ramp = torch.linspace(0.5, 0.501, 64).expand(1, 8, 64)
    assert resize_lanczos(ramp, (16, 128)).unique().numel() > 32


def test_picture_of_one_pixel():
    assert torch.allclose(resize_lanczos(torch.full((3, 1, 1), 0.4), (4, 5)), torch.tensor(0.4))
