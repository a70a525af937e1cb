"""Official tile layout: pad ring, positions, crops and sizes exactly, blending weights to 1e-6.

Every size, pad and tile is read from the names of the recorded tensors or the notes of the set.
"""

import re

import numpy as np
import pytest
import torch

from varestorer_core.errors import VARestorerError
from varestorer_core.resize import target_size
from varestorer_core.tiles.official_tiling import crop_tile, pad_ring, tile_positions, tile_weights

WEIGHT_LIMIT = 1e-6


def recorded(goldens, pattern):
    """Return (numbers in the name, name, array) of every recorded tensor whose name matches."""
    matches = [
        ([int(group) for group in match.groups()], name, np.asarray(tensor))
        for name, tensor in goldens.load("tiles").items()
        if (match := re.fullmatch(pattern, name))
    ]
    if not matches:
        pytest.skip(f"this set has no tensor named {pattern!r}")
    return matches


def image(goldens, height, width):
    return np.asarray(goldens.load("tiles")[f"in.img.{height}x{width}"])


def notes(goldens, key):
    if key not in goldens.index.get("notes", {}):
        pytest.skip(f"this set has no note {key!r}")
    return goldens.index["notes"][key]


def test_pad_ring(goldens):
    for (pad, height, width), name, expected in recorded(goldens, r"out\.pad(\d+)\.(\d+)x(\d+)"):
        assert np.array_equal(pad_ring(image(goldens, height, width), pad), expected), name


def test_crop_tile(goldens):
    pattern = r"out\.crop_t(\d+)_l(\d+)_s(\d+)\.(\d+)x(\d+)"
    for (top, left, tile, height, width), name, expected in recorded(goldens, pattern):
        piece, valid = crop_tile(image(goldens, height, width), top, left, tile)
        assert np.array_equal(piece, expected), name
        recorded_valid = np.asarray(goldens.load("tiles")[f"{name}.valid_hw"])
        assert list(valid) == recorded_valid.tolist(), name


def test_tile_weights(goldens):
    pattern = r"out\.weights\.(\d+)x(\d+)(?:\.rows_[\d_]+)?"
    for (height, width), name, expected in recorded(goldens, pattern):
        weights = tile_weights(height, width)
        if ".rows_" in name:
            weights = weights[[int(row) for row in name.split(".rows_")[1].split("_")]]
        difference = torch.from_numpy(weights - expected).abs()
        assert difference.max() <= WEIGHT_LIMIT, f"{name}: max {difference.max():.2e}"


def test_tile_positions(goldens):
    table = notes(goldens, "tile_positions")
    for values in table["rows"]:
        row = dict(zip(table["columns"], values, strict=True))
        assert tile_positions(row["length"], row["tile"], row["overlap"]) == row["positions"], row


def test_target_size(goldens):
    for width, height, upscale, size in notes(goldens, "resize_image_to_sr_scale"):
        assert target_size(height, width, upscale) == (size[1], size[0]), (width, height, upscale)


def test_overlap_as_large_as_the_tile_is_refused(goldens):
    recorded_error = notes(goldens, "tile_overlap_equal_tile")
    overlap, tile = (
        int(re.search(rf"{name}=(\d+)", recorded_error)[1])
        for name in ("tile_overlap", "tile_size")
    )
    with pytest.raises(VARestorerError):
        tile_positions(tile + 1, tile, overlap)
