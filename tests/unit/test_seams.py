"""The seam score, and the absence of seams by it in restored smooth pictures and photographs."""

import pytest
import torch

from varestorer_core.assets import DEMO_LQ, DEMO_ORIGINAL, asset_path
from varestorer_core.evaluate import seam_score
from varestorer_core.evaluate.seams import tile_borders
from varestorer_core.pictures import read_picture
from varestorer_core.resize import resize_lanczos
from varestorer_core.tiles.tiling import TileMerger, plan_tiles

LAYOUT = plan_tiles(50, 96, 32, 8, ring=0)
OVERLAP = 16
"""The largest of the bundled model."""


def test_borders_are_where_tiles_begin_and_end():
    assert LAYOUT.columns == (0, 21, 42, 64)
    assert tile_borders(LAYOUT.columns, 96, 32) == [21, 32, 42, 53, 64, 74]
    assert tile_borders((0,), 20, 32) == []
    assert tile_borders((0, 16), 32, 16) == [16]


def test_a_ramp_scores_one():
    ramp = torch.arange(96.0)[None, None] + torch.arange(50.0)[None, :, None]
    assert seam_score(ramp.expand(3, 50, 96), LAYOUT) == pytest.approx(1)


def test_the_score_is_the_formula():
    picture = torch.rand(3, 50, 96, dtype=torch.float64)
    inside, border = [], []
    for x in range(1, 96):
        step = (picture[:, :, x] - picture[:, :, x - 1]).abs().mean()
        (border if x in tile_borders(LAYOUT.columns, 96, 32) else inside).append(step)
    for y in range(1, 50):
        step = (picture[:, y] - picture[:, y - 1]).abs().mean()
        (border if y in tile_borders(LAYOUT.rows, 50, 32) else inside).append(step)
    expected = torch.stack(border).mean() / torch.stack(inside).mean()
    assert seam_score(picture, LAYOUT) == pytest.approx(expected.item())


def test_flat_pictures_and_flat_tiles():
    assert seam_score(torch.full((3, 50, 96), 0.5), LAYOUT) == 1
    patches = torch.zeros(3, 50, 96)
    patches[:, :, 21:] = 1
    assert seam_score(patches, LAYOUT) == float("inf")


def test_a_hard_cut_scores_high_and_a_cross_fade_does_not():
    def merged(layout):
        merger = TileMerger(layout)
        for index in range(len(layout)):  # tiles that disagree, as sampled ones do
            merger.add(index, torch.rand(3, 1, 1) + 0.1 * torch.rand(3, 32, 32))
        return merger.result()

    assert (
        seam_score(merged(plan_tiles(96, 96, 32, 0, ring=0)), plan_tiles(96, 96, 32, 0, ring=0)) > 3
    )
    assert (
        seam_score(merged(plan_tiles(96, 96, 32, 16, ring=0)), plan_tiles(96, 96, 32, 16, ring=0))
        < 1
    )


def test_a_reference_takes_the_content_out():
    content = torch.rand(3, 50, 96) * 0.1
    content[:, :, 21:] += 1  # an edge of the picture that happens to be where a tile begins
    assert seam_score(content, LAYOUT) > 2
    assert seam_score(content, LAYOUT, reference=content) == pytest.approx(1)


def test_what_has_no_score_is_refused():
    with pytest.raises(ValueError, match="50 x 96"):
        seam_score(torch.rand(3, 50, 95), LAYOUT)
    with pytest.raises(ValueError, match="tile borders"):
        seam_score(torch.rand(3, 20, 20), plan_tiles(20, 20, 32, 8))


def grey():
    return torch.full((3, 100, 132), 0.5)


def gradient():
    y, x = torch.meshgrid(torch.linspace(0.1, 0.9, 100), torch.linspace(0, 1, 132), indexing="ij")
    return torch.stack([x, y, (x + y) / 2])


def restored(restorer, picture, overlap, detail):
    """Return a picture at twice its size, and the layout of its tiles."""
    (result,) = restorer.restore([picture], upscale=2.0, overlap=overlap, detail=detail)
    return result, plan_tiles(*result.shape[1:], restorer.stages.tile, overlap)


def moved_scores(result, layout, source=None):
    """Return the seam score of a picture, and those of places inside of its tiles: the same grid, moved over it."""

    def score(shift):
        moved = [
            None if p is None else p.roll((-shift, -shift), dims=(1, 2)) for p in (result, source)
        ]
        return seam_score(moved[0], layout, reference=moved[1])

    borders = {
        x
        for starts, length in ((layout.rows, layout.height), (layout.columns, layout.width))
        for x in tile_borders(starts, length, layout.tile)
    }
    shifts = [s for s in range(1, 64) if not {x + s for x in borders} & borders]
    assert len(shifts) > 15
    return score(0), [score(shift) for shift in shifts]


@pytest.mark.parametrize("detail", [0.0, 1.0])
@pytest.mark.parametrize("picture", [grey, gradient])
def test_no_seams_in_smooth_pictures(bundled, picture, detail):
    """There are places inside of tiles that step as much as the borders do."""
    at_borders, inside = moved_scores(*restored(bundled, picture(), OVERLAP, detail))
    assert at_borders <= max(inside)


SIDE = 272
"""Of a restored photograph: 36 tiles of 64 pixels at that overlap."""


def scores_of_photograph(restorer, name, overlap, side=SIDE):
    """Return the seam score of a restored photograph, and those of places inside of its tiles.

    Edges of the picture lie where they lie: so the source's score is taken out, and what that leaves to
    chance is seen at other places, by the same grid of borders moved over the picture.
    """
    photograph = read_picture(asset_path(name)).rgb
    (result,) = restorer.restore([photograph], upscale=side / photograph.shape[-1], overlap=overlap)
    source = resize_lanczos(photograph, (side, side))
    layout = plan_tiles(side, side, restorer.stages.tile, overlap)
    return moved_scores(result, layout, source)


@pytest.mark.parametrize("name", [DEMO_ORIGINAL, DEMO_LQ])
def test_no_seams_in_photographs(bundled, name):
    """There are places inside of tiles that step as much as the borders do."""
    at_borders, inside = scores_of_photograph(bundled, name, OVERLAP)
    assert at_borders <= max(inside)


def test_tiles_that_do_not_overlap_show_in_a_photograph(bundled):
    side = 4 * 64 - 2 * 8  # four tiles cover the picture and its ring exactly
    at_borders, inside = scores_of_photograph(bundled, DEMO_LQ, 0, side)
    assert at_borders > 1.1 * max(inside)
