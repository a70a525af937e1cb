"""The official tiling alone; parity/test_tiles.py compares it with recordings."""

import numpy as np
import pytest
from PIL import Image

from varestorer_core.errors import SettingError
from varestorer_core.tiles.official_tiling import (
    blend_tiles,
    crop_tile,
    pad_ring,
    restore_official,
    tile_positions,
    tile_weights,
    to_8bit,
)


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("height", "width", "upscale"), [(20, 31, 1), (33, 17, 2), (5, 6, 1.5)])
def test_tiling_without_a_model_only_resizes(height, width, upscale):
    lq = picture(height, width)
    restored = restore_official(lq, upscale, lambda tile: tile, tiled=True, tile=32, overlap=8)
    size = (round(width * upscale), round(height * upscale))
    expected = np.asarray(Image.fromarray(lq).resize(size, Image.Resampling.LANCZOS))
    assert np.array_equal(restored, expected)


def test_untiled_squeezes_into_one_square():
    seen = []

    def restore(tile):
        seen.append(tile.shape)
        return tile

    assert restore_official(picture(20, 31), 2, restore, tiled=False, tile=64).shape == (40, 62, 3)
    assert restore_official(picture(32, 32), 2, restore, tiled=False, tile=64).shape == (64, 64, 3)
    assert seen == [(64, 64, 3)] * 2


def test_positions_and_overlap():
    assert tile_positions(97, 32, 8) == [0, 24, 48, 65]
    assert tile_positions(32, 32, 40) == [0]  # a single tile never looks at the overlap
    with pytest.raises(SettingError, match="overlap=32 and tile=32"):
        tile_positions(33, 32, 32)


def test_ring_equals_numpy_reflection():
    image = picture(5, 9)
    assert np.array_equal(
        pad_ring(image, 12), np.pad(image, ((12,) * 2, (12,) * 2, (0, 0)), "reflect")
    )
    assert np.array_equal(pad_ring(image[:1, :1], 2), np.broadcast_to(image[0, 0], (5, 5, 3)))


def test_crop_reflects_the_piece():
    image = picture(10, 12)
    tile, valid = crop_tile(image, 7, 0, 8)
    assert valid == (3, 8)
    assert np.array_equal(tile[:, :8], image[[7, 8, 9, 8, 7, 8, 9, 8]][:, :8])


def test_weights_are_a_window():
    window = tile_weights(6, 9)
    assert window.shape == (6, 9)
    assert window.dtype == np.float32
    assert window.max() == 1
    assert np.array_equal(window, window[::-1, ::-1])


def test_blending_rounds_half_to_even():
    # All four pixels of a 2 x 2 tile are centre pixels, so every weight is 1.
    low, high = np.full((2, 2, 3), 10, np.uint8), np.full((2, 2, 3), 11, np.uint8)
    same_place = [(0, 0, 2, 2)] * 2
    assert (blend_tiles([low, high], same_place, (2, 2)) == 10).all()
    assert (blend_tiles([high, high + 1], same_place, (2, 2)) == 12).all()


def test_8bit_truncates():
    values = np.array([-1, 1, 2 * 127.999 / 255 - 1], np.float32)
    assert to_8bit(values).tolist() == [0, 255, 127]
