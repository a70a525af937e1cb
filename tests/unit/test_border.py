"""The outermost pixels of smooth pictures, with the bundled model.

The rule: the largest error of the 4 outermost pixels of each side is at most twice the largest error inside, which is
32 pixels and more from the border.
"""

from pathlib import Path

import pytest

from varestorer_core.pictures import read_picture
from varestorer_core.resize import resize_lanczos

CASES = Path(__file__).parents[1] / "data" / "pictures"
SMOOTH = ("flat_red.png", "flat_grey.png", "sky.png")


def errors(restorer, rgb):
    """Return the largest error at the border and inside of a picture, restored to twice its size."""
    restored = restorer.restore(rgb, upscale=2.0)
    error = (restored - resize_lanczos(rgb, restored.shape[-2:])).abs().amax(0)
    outer = [error[:4], error[-4:], error[:, :4], error[:, -4:]]
    return max(float(part.max()) for part in outer), float(error[32:-32, 32:-32].max())


@pytest.mark.parametrize("name", SMOOTH)
def test_the_border_is_at_most_twice_as_far_off_as_the_inside(bundled, name):
    border, inside = errors(bundled, read_picture(CASES / name).rgb[:, :80, :80])
    assert border <= 2 * inside


@pytest.mark.parametrize("side", [60, pytest.param(64, marks=pytest.mark.slow)])
def test_a_picture_of_about_one_tile(bundled, side):
    """64 pixels are exactly one tile at twice the size; 60 are the most that are restored in one tile.

    So little is inside that chance decides about the largest error of one picture: all three count together.
    """
    found = []
    for name in SMOOTH:
        rgb = read_picture(CASES / name).rgb[:, :side, :side].contiguous()
        rgb = rgb if rgb.shape[-1] == side else rgb[:, :1, :1].expand(3, side, side)
        found.append(errors(bundled, rgb))
    assert max(border for border, _ in found) <= 2 * max(inside for _, inside in found)


def test_that_the_ring_is_what_does_it(bundled, monkeypatch):
    from varestorer_core.tiles import geometry

    plan = geometry.plan_tiles
    monkeypatch.setattr(geometry, "plan_tiles", lambda *given: plan(*given, ring=0))
    red = read_picture(CASES / "flat_red.png").rgb[:, :64, :64]
    border, inside = errors(bundled, red)
    assert border > 10 * inside
