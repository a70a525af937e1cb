"""Conversion of masks of any size to soft-edged masks of the output's size."""

import pytest
import torch

from varestorer_core.errors import SettingError
from varestorer_core.tiles.masking import feathered, output_mask


def half(height=40, width=60, edge=30):
    mask = torch.zeros(height, width)
    mask[:, edge:] = 1
    return mask


@pytest.mark.parametrize("feather", [1, 2, 3, 7, 12])
def test_far_away_nothing_changes_to_the_last_bit(feather):
    soft = feathered(half(), feather)
    assert torch.equal(soft[:, : 30 - feather], torch.zeros(40, 30 - feather))
    assert torch.equal(soft[:, 30 + feather :], torch.ones(40, 30 - feather))


def test_the_edge_is_a_smooth_symmetric_rise():
    row = feathered(half(), 9)[7].double()
    assert bool((row.diff() >= 0).all())
    assert torch.allclose(row + row.flip(0), torch.ones(60, dtype=torch.float64), atol=1e-6)
    steps = row.diff()
    assert float(steps.max()) < 2 / 9  # no jump
    assert int(steps.argmax()) == 29  # steepest at the edge, as a Gaussian's integral is


def test_no_feather_leaves_the_mask_alone():
    assert torch.equal(feathered(half(), 0), half())


def test_a_feather_wider_than_the_picture_stays_in_range():
    soft = feathered(half(4, 6, 3), 50)
    assert soft.shape == (4, 6)
    assert float(soft.min()) > 0
    assert float(soft.max()) < 1


@pytest.mark.parametrize("size", [(80, 120), (10, 15), (41, 59)])
def test_resizing_keeps_zero_and_one_away_from_edges(size):
    mask = output_mask(half(), size)
    assert mask.shape == size
    border = size[1] // 2
    assert torch.equal(mask[:, : border - 3], torch.zeros(size[0], border - 3))
    assert torch.equal(mask[:, border + 4 :], torch.ones_like(mask[:, border + 4 :]))


def test_values_are_clamped():
    assert torch.equal(output_mask(half() * 3 - 1, (40, 60)), half())


@pytest.mark.parametrize(
    ("mask", "feather", "word"),
    [
        (torch.zeros(2, 4, 4), 0, "a mask"),
        (torch.zeros(0, 4), 0, "a mask"),
        (torch.full((4, 4), float("nan")), 0, "NaN"),
        (torch.zeros(4, 4), -1, "feather"),
    ],
)
def test_what_is_not_a_mask_is_refused(mask, feather, word):
    with pytest.raises(SettingError, match=word):
        output_mask(mask, (8, 8), feather)
