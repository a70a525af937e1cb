"""Pictures side by side."""

import pytest
import torch

from varestorer_core.cli.compare import side_by_side
from varestorer_core.resize import enlarge_bicubic


@pytest.mark.parametrize(("height", "width"), [(40, 60), (1, 1), (1, 400), (300, 2)])
def test_pictures_stand_next_to_each_other_under_labels(height, width):
    panels = [(name, torch.rand(3, height, width)) for name in ("input", "restored", "original")]
    sheet = side_by_side(panels)
    assert sheet.shape[-1] == 3 * width + 8
    strip = sheet.shape[-2] - height
    assert strip >= 24
    for index, (_, picture) in enumerate(panels):
        left = index * (width + 4)
        assert torch.equal(sheet[:, strip:, left : left + width], picture)
    assert sheet.min() >= 0
    assert sheet.max() <= 1
    if width >= 40:
        assert sheet[:, :strip].min() < 0.5  # there is text


def test_bicubic_keeps_flat_colour_and_range():
    flat = torch.full((3, 5, 7), 0.25)
    assert torch.allclose(enlarge_bicubic(flat, (11, 3)), torch.full((3, 11, 3), 0.25))
    sharp = (torch.rand(3, 6, 6) > 0.5).float()
    enlarged = enlarge_bicubic(sharp, (12, 12))
    assert enlarged.min() >= 0
    assert enlarged.max() <= 1
