"""Memory of the stages around the networks, counted in bytes of tensors."""

import pytest
import torch

from varestorer_core.color import match_color
from varestorer_core.pipeline import decode_tiles, encode_pyramid
from varestorer_core.schedule import get_schedule
from varestorer_core.settings import RestoreSettings
from varestorer_core.tiles.tile_bits import TileBits, TileCodes

SCHEDULE = get_schedule(1.0, "0.06M")
SIDE = 900
OUTPUT = 3 * SIDE * SIDE * 4
"""Bytes of the output in float32."""


def blank_picture():
    return torch.rand(3, SIDE // 2, SIDE // 2)


def test_the_counter_counts(peak_bytes):
    def work():
        x = torch.zeros(1000)
        y = x + 1
        del x
        z = y.view(10, 100)
        del y
        return z * 2

    assert peak_bytes(work) == 2 * 4000


@pytest.mark.parametrize(("method", "limit"), [("wavelet", 2.5), ("adain", 2.1), ("lab", 2.5)])
def test_colours_are_matched_beside_two_pictures(method, limit, monkeypatch, peak_bytes):
    monkeypatch.setattr("varestorer_core.color._BAND", 2**12)
    image, source = torch.rand(3, SIDE, SIDE), torch.rand(3, SIDE, SIDE)
    assert peak_bytes(lambda: match_color(image, source, method, in_place=True)) < limit * OUTPUT


@pytest.mark.parametrize("masked", [False, True])
def test_the_stages_take_less_than_four_outputs(masked, monkeypatch, peak_bytes):
    monkeypatch.setattr("varestorer_core.color._BAND", 2**12)
    masks = [torch.rand(SIDE, SIDE)] if masked else None
    d, grid = 4, SCHEDULE.last_grid

    def work():
        pyramid = encode_pyramid(
            [blank_picture()],
            lambda tiles: tiles.new_zeros(len(tiles), d, *grid),
            RestoreSettings(upscale=2.0, overlap=16),
            schedule=SCHEDULE,
            patch_size=8,
            masks=masks,
        )
        codes = torch.zeros(len(pyramid.bits), d, *grid)
        decode_tiles(
            lambda part: torch.zeros(len(part), 3, 128, 128),
            codes,
            pyramid.geometry,
            color_match="wavelet",
        )

    assert peak_bytes(work) < 4 * OUTPUT


def test_tiles_of_four_pixels_and_64_bits_a_token_take_less_than_three_outputs(
    monkeypatch, peak_bytes
):
    """For the bundled model, bits of one byte each and codes would already take 2.8 outputs."""
    monkeypatch.setattr("varestorer_core.color._BAND", 2**12)
    schedule, d, kept, unpacked = get_schedule(1.0, "0.25M"), 64, [], []

    def work():
        pyramid = encode_pyramid(
            [blank_picture()],
            lambda tiles: tiles.new_zeros(len(tiles), d, *schedule.last_grid),
            RestoreSettings(upscale=2.0, overlap=16),
            schedule=schedule,
            patch_size=4,
        )
        restored = TileBits(*pyramid.bits.shape)
        # No tensors, so what they hold is not counted while they work.
        kept.append(pyramid.bits.nbytes + restored.nbytes)
        unpacked.append(2 * len(pyramid.bits) * schedule.num_tokens * d)
        geometry = pyramid.geometry
        decode_tiles(
            lambda part: torch.zeros(len(part), 3, 128, 128),
            TileCodes(restored, schedule),
            geometry,
            color_match="wavelet",
        )

    assert peak_bytes(work) + kept[0] < 3 * OUTPUT
    assert kept[0] <= unpacked[0] / 8  # whatever the number of tiles
