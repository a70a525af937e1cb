"""Every width and height from 1 to 70, and large odd ones, at five enlargements: exact size, no exception.

The networks are stand-ins that keep the mean colours of patches, so that thousands of sizes fit into a test; what
decides the size (resizing, tiling, blending, colour matching, masks) is the real thing. Every side is restored with
seven others; up to enlargement 1 the slow tests add all 4,900 pairs. A sample goes through the bundled model.
"""

import pytest
import torch
import torch.nn.functional as F

from varestorer_core.color import COLOR_MATCHES
from varestorer_core.config import TokenizerConfig
from varestorer_core.loaded import LoadedStages
from varestorer_core.restorer import Restorer
from varestorer_core.schedule import ScaleSchedule

UPSCALES = [0.25, 1.0, 2.0, 3.3, 4.0]
LONGEST = 70
LARGE = [(1, 1999), (2047, 1), (3, 1501), (127, 129), (513, 255), (641, 977), (1023, 71)]
"""(height, width)."""
PATCH = 16
GRIDS = ((1, 1), (2, 2), (4, 4))
"""Tiles of 64 pixels: sides up to 280 meet one tile, several, and reflection."""


class MeanColours:
    """A tokenizer whose features are the mean colours of patches of 16 pixels."""

    config = TokenizerConfig(codebook_dim=3, channel_multipliers=(1,) * 5)

    def encode(self, tiles):
        return F.avg_pool2d(tiles, PATCH)

    def decode(self, codes):
        return F.interpolate(codes, scale_factor=PATCH, mode="nearest").clamp(-1, 1)


@pytest.fixture
def stand_in(make_transformer, monkeypatch):
    # Thousands of small tiles, which are batched also on the CPU. Rounding is irrelevant here.
    monkeypatch.setattr(
        "varestorer_core.loaded.tiles_at_once", lambda device, batch, tile: batch or 4
    )
    small = {"embed_dim": 8, "depth": 1, "codebook_dim": 3, "text_channels": 8, "ffn_dim": 8}
    restorer = Restorer(LoadedStages(make_transformer(**small), MeanColours()))  # pyright: ignore
    restorer.schedule = ScaleSchedule(1.0, "0.06M", GRIDS, (*GRIDS, (8, 8)))
    return restorer


def target(size, upscale):
    """Return the expected size of a result, computed independently."""
    return tuple(max(1, round(side * upscale)) for side in size)


def check(restorer, sizes, upscale, **settings):
    """Restore noise of every size and check sizes and values."""
    noise = torch.rand(3, *map(max, zip(*sizes, strict=True)))
    pictures = [noise[:, :height, :width].contiguous() for height, width in sizes]
    restored = restorer.restore(pictures, upscale=upscale, **settings)
    got = [tuple(picture.shape) for picture in restored]
    assert got == [(3, *target(size, upscale)) for size in sizes]
    for size, picture in zip(sizes, restored, strict=True):
        # Also false for NaN.
        assert bool(((picture >= 0) & (picture <= 1)).all()), f"values out of range for {size}"


@pytest.mark.parametrize(
    ("upscale", "thin"),
    [
        *((upscale, 10) for upscale in UPSCALES),
        pytest.param(0.25, 1, marks=pytest.mark.slow),
        pytest.param(1.0, 1, marks=pytest.mark.slow),
    ],
)
def test_every_side_up_to_70(stand_in, upscale, thin):
    for height in range(1, LONGEST + 1):
        widths = (w for w in range(1, LONGEST + 1) if (height + w) % thin == 0)
        # Methods and overlaps alternate, so that each is combined with every residue of the sides.
        method = COLOR_MATCHES[height % len(COLOR_MATCHES)]
        settings = {"color_match": method, "overlap": (0, 16, 31)[height % 3], "tile_batch": 32}
        check(stand_in, [(height, width) for width in widths], upscale, **settings)


@pytest.mark.parametrize(
    "upscale", [*UPSCALES[:-1], pytest.param(UPSCALES[-1], marks=pytest.mark.slow)]
)
def test_large_odd_sizes(stand_in, upscale):
    check(stand_in, LARGE, upscale, overlap=16, tile_batch=32)


@pytest.mark.parametrize("upscale", UPSCALES)
def test_masks_of_odd_sizes(stand_in, upscale):
    sizes = [(1, 1), (1, 67), (69, 3), (63, 65)]
    masks = [torch.rand(target(size, upscale)).sub(0.5).clamp(0, 1) for size in sizes]
    check(stand_in, sizes, upscale, overlap=16, feather=0, masks=masks)


@pytest.mark.parametrize(
    ("size", "upscale"),
    [
        *(((1, 1), upscale) for upscale in UPSCALES),
        *(((height, 70 - height), 3.3) for height in (2, 35, 69)),
        *(((17, 61), upscale) for upscale in (0.25, 2.0, 4.0)),
        ((303, 41), 0.25),
        ((129, 7), 1.0),
    ],
)
def test_the_bundled_model_at_a_sample_of_sizes(bundled, size, upscale):
    check(bundled, [size], upscale, tile_batch=2)
    check(bundled, [size], upscale, detail=1.0, seed=3, color_match="lab")
