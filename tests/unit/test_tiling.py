"""Tile layouts: coverage, evenness, reflection; blending: constants, identity, seams."""

import dataclasses
from itertools import pairwise

import pytest
import torch

from varestorer_core.errors import SettingError
from varestorer_core.tiles.tiling import (
    TileMerger,
    bounce_indices,
    extract_tiles,
    plan_tiles,
)

CASES = [
    (128, 128, 128, 16),
    (129, 128, 128, 16),
    (200, 333, 64, 0),
    (70, 90, 32, 31),
    (65, 1000, 64, 40),
    (5, 7, 16, 4),
    (1, 1, 16, 4),
    (1, 4000, 128, 16),
    (4000, 1, 128, 16),
    (30, 100, 32, 8),
]


def starts(length, tile, overlap, ring=0):
    return list(plan_tiles(length, 1, tile, overlap, ring).rows)


@pytest.mark.parametrize(("height", "width", "tile", "overlap"), CASES)
def test_tiles_cover_with_overlap_and_spread_evenly(height, width, tile, overlap):
    layout = plan_tiles(height, width, tile, overlap)
    for edges, length in ((layout.rows, height), (layout.columns, width)):
        gaps = [after - before for before, after in pairwise(edges)]
        several = length > tile - tile // 16
        ring = tile // 8 if several else (tile - length) // 2
        assert edges[0] == (-ring if several else (length - tile) // 2)
        assert edges[-1] == (length + ring - tile if several else (length - tile) // 2)
        assert all(gap <= tile - overlap for gap in gaps)
        assert not gaps or max(gaps) - min(gaps) <= 1
        # One tile fewer could not keep the overlap.
        assert len(edges) == 1 or (len(edges) - 2) * (tile - overlap) < length + 2 * ring - tile
    assert len(layout) == len(layout.rows) * len(layout.columns)


def test_fewest_tiles():
    assert starts(512, 512, 128) == [0]
    assert starts(896, 512, 128) == [0, 384]
    assert starts(897, 512, 128) == [0, 192, 385]
    assert starts(1024, 512, 0) == [0, 512]


def test_large_tiles_stand_alone_and_small_ones_have_something_beside_the_picture():
    assert starts(512, 512, 64, ring=None) == [0]  # of the official models
    assert starts(256, 256, 64, ring=None) == [0]
    assert starts(120, 128, 64, ring=None) == [-4]
    assert starts(121, 128, 64, ring=None) == [-16, 9]
    assert starts(128, 128, 64, ring=None) == [-16, 16]


def test_a_ring_surrounds_the_picture_but_not_where_one_tile_fits():
    assert starts(512, 512, 128, 32) == [0]
    assert starts(832, 512, 128, 32) == [-32, 352]
    assert starts(833, 512, 128, 32) == [-32, 160, 353]
    assert starts(300, 512, 128, 32) == [-106]


@pytest.mark.parametrize(("tile", "overlap"), [(64, 64), (64, 65), (64, -1)])
def test_overlap_is_checked(tile, overlap):
    with pytest.raises(SettingError, match=f"0 <= overlap < tile, got overlap={overlap}"):
        plan_tiles(100, 100, tile, overlap)


def test_layout_is_checked():
    good = plan_tiles(50, 100, 32, 8)
    for change in (
        {"positions": good.positions[:-1]},
        {"positions": ()},
        {"positions": ((0, 0),)},
        {"positions": good.positions[::-1]},
        {"height": 51},
        {"tile": 0},
    ):
        with pytest.raises(SettingError):
            dataclasses.replace(good, **change)


def test_bounce_indices():
    assert bounce_indices(-3, 12, 4).tolist() == [3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1, 2]
    assert bounce_indices(-2, 5, 1).tolist() == [0] * 5


def test_extracted_tiles_are_the_picture():
    image = torch.rand(3, 50, 70)
    layout = plan_tiles(50, 70, 32, 8)
    tiles = extract_tiles(image, layout)
    assert tiles.shape == (len(layout), 3, 32, 32)
    for tile, (y, x) in zip(tiles, layout.positions, strict=True):
        rows, columns = bounce_indices(y, 32, 50), bounce_indices(x, 32, 70)
        assert torch.equal(tile, image[:, rows][:, :, columns])
    assert torch.equal(extract_tiles(image, layout, 2, 4), tiles[2:4])
    with pytest.raises(ValueError, match="50 x 70"):
        extract_tiles(image[:, :49], layout)


def test_short_sides_are_reflected_on_both_sides():
    image = torch.arange(6.0).view(1, 2, 3)
    (tile,) = extract_tiles(image, plan_tiles(2, 3, 6, 2))
    assert tile[0, 0].tolist() == [2, 1, 0, 1, 2, 1]  # the picture begins at column 2, row 2
    assert tile[0, :, 2].tolist() == [0, 3, 0, 3, 0, 3]
    (tile,) = extract_tiles(image[:, :1, :1] + 5, plan_tiles(1, 1, 4, 0))
    assert torch.equal(tile, torch.full((1, 4, 4), 5.0))


@pytest.mark.parametrize(("height", "width", "tile", "overlap"), CASES)
def test_constant_and_picture_come_back(height, width, tile, overlap):
    layout = plan_tiles(height, width, tile, overlap)
    image = torch.rand(2, height, width)
    image[1] = 0.7
    merger = TileMerger(layout)
    for index in reversed(range(len(layout))):
        merger.add(index, extract_tiles(image, layout, index, index + 1)[0])
    merged = merger.result()
    assert merged.shape == image.shape
    assert merged.dtype == torch.float32
    # Thousands of tiles over one pixel (overlap 63 of 64) accumulate slightly more rounding.
    assert (merged - image).abs().max() <= (1e-6 if overlap <= 0.75 * tile else 1e-5)
    if len(layout) == 1:
        assert torch.equal(merged, image)


def test_seam_is_a_monotone_cross_fade_over_the_actual_overlap():
    layout = plan_tiles(32, 50, 32, 4, ring=0)  # two columns, 14 pixels in common
    merger = TileMerger(layout)
    merger.add(0, torch.zeros(1, 32, 32))
    merger.add(1, torch.ones(1, 32, 32))
    row = merger.result()[0, 16]
    assert torch.equal(row[:18], torch.zeros(18))
    assert torch.equal(row[32:], torch.ones(18))
    assert (row[18:32].diff() > 0).all()
    assert torch.allclose(row[18:32] + row[18:32].flip(0), torch.ones(14))
    # Without ramps at the picture's border, all rows are equal.
    assert torch.equal(merger.result()[0], row.expand(32, 50))


def test_half_precision_tiles_are_blended_in_float32():
    layout = plan_tiles(40, 40, 32, 8)
    merger = TileMerger(layout)
    for index in range(len(layout)):
        merger.add(index, torch.full((3, 32, 32), 0.3, dtype=torch.bfloat16))
    expected = torch.tensor(0.3, dtype=torch.bfloat16).float()
    assert torch.allclose(merger.result(), expected, atol=1e-6)


def test_merger_is_used_in_order():
    layout = plan_tiles(40, 40, 32, 8)
    merger = TileMerger(layout)
    with pytest.raises(RuntimeError, match="4 were not added"):
        merger.result()
    merger.add(0, torch.zeros(3, 32, 32))
    with pytest.raises(ValueError, match="index 0 again"):
        merger.add(0, torch.zeros(3, 32, 32))
    with pytest.raises(ValueError, match="32 x 32"):
        merger.add(1, torch.zeros(3, 16, 16))
