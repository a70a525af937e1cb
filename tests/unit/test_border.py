"""The outermost pixels of smooth pictures, with the bundled model."""

from pathlib import Path

import pytest
import torch

from varestorer_core.loading import load_restorer
from varestorer_core.pictures import read_picture
from varestorer_core.resize import resize_lanczos

CASES = Path(__file__).parents[1] / "data" / "pictures"


@pytest.mark.parametrize("name", ["flat_red.png", "flat_grey.png"])
def test_the_border_is_at_most_twice_as_far_off_as_the_inside(name):
    picture = read_picture(CASES / name).rgb
    restored = load_restorer(device="cpu").restore(picture, upscale=2.0)
    error = (restored - resize_lanczos(picture, restored.shape[-2:])).abs().amax(0)
    inside = error[32:-32, 32:-32].max()
    outer = torch.cat([error[:4].flatten(), error[-4:].flatten()])
    outer = torch.cat([outer, error[:, :4].flatten(), error[:, -4:].flatten()])
    assert outer.max() <= 2 * max(inside, torch.tensor(1 / 255))
