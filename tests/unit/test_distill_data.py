"""Procedural pictures, degradation and the pictures of a folder."""

import json
import logging

import numpy as np
import pytest
import torch
from PIL import Image

from varestorer_core.distill import data
from varestorer_core.distill.degrade import MILD, OFFICIAL, DegradeRanges, degrade, shrink_degraded
from varestorer_core.distill.procedural import generate_picture
from varestorer_core.errors import ImageError


def test_a_picture_is_a_function_of_seed_and_index():
    first = generate_picture(3, 5, size=48)
    assert first.shape == (48, 48, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, generate_picture(3, 5, size=48))
    assert (first != generate_picture(3, 6, size=48)).any()
    assert (first != generate_picture(4, 5, size=48)).any()


def test_cache_continues_where_it_stopped(tmp_path):
    whole = np.array(data.procedural_pictures(tmp_path / "a.npy", 70, size=16, seed=1))
    again = data.procedural_pictures(tmp_path / "b.npy", 70, size=16, seed=1)
    again[64:] = 0  # as if interrupted after the first 64
    again.flush()
    note = tmp_path / "b.json"
    note.write_text(json.dumps({**json.loads(note.read_text()), "done": 64}))
    seen = []
    resumed = data.procedural_pictures(
        tmp_path / "b.npy", 70, size=16, seed=1, on_progress=lambda done, total: seen.append(done)
    )
    np.testing.assert_array_equal(resumed, whole)
    assert seen == [70]


def test_cache_of_other_settings_is_made_anew(tmp_path):
    data.procedural_pictures(tmp_path / "a.npy", 2, size=16, seed=1)
    other = data.procedural_pictures(tmp_path / "a.npy", 2, size=16, seed=2)
    np.testing.assert_array_equal(other[1], generate_picture(2, 1, size=16))


@pytest.mark.parametrize("ranges", [OFFICIAL, MILD], ids=["official", "mild"])
def test_degradation_is_seeded_and_keeps_the_size(ranges):
    picture = generate_picture(0, 0, size=64)
    first = degrade(picture, ranges, np.random.default_rng(1))
    assert first.shape == picture.shape
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, degrade(picture, ranges, np.random.default_rng(1)))
    assert (first != degrade(picture, ranges, np.random.default_rng(2))).any()


def test_no_degradation_changes_next_to_nothing():
    picture = np.full((64, 64, 3), 128, np.uint8)
    picture[20:40, 20:40] = 90
    ranges = DegradeRanges((0.05, 0.05), (1, 1), (0, 0), (100, 100), "bilinear")
    difference = degrade(picture, ranges, np.random.default_rng(0)).astype(int) - picture
    assert np.abs(difference).max() <= 2


def test_shrinking_gives_the_small_picture():
    ranges = DegradeRanges((1, 1), (2, 2), (0, 0), (90, 90), "lanczos")
    small = shrink_degraded(generate_picture(0, 0, size=64), ranges, np.random.default_rng(0))
    assert small.shape == (32, 32, 3)


def test_folder_skips_and_names_what_it_cannot_read(tmp_path, caplog):
    Image.fromarray(generate_picture(0, 0, size=80)).save(tmp_path / "good.png")
    Image.fromarray(generate_picture(0, 1, size=20)).save(tmp_path / "small.png")
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:500])
    (tmp_path / "notes.txt").write_text("not a picture file")
    with caplog.at_level(logging.WARNING):
        squares = data.folder_pictures(tmp_path, size=32)
    assert squares.shape[1:] == (32, 32, 3)
    assert 1 <= len(squares) <= 8
    assert "3 of 4 pictures skipped" in caplog.text
    for name in ("broken.jpg", "cut.png", "small.png"):
        assert name in caplog.text


def test_empty_or_missing_folder_is_an_error(tmp_path):
    with pytest.raises(ImageError, match="got none among 0 picture files"):
        data.folder_pictures(tmp_path)
    with pytest.raises(ImageError, match="existing folder"):
        data.folder_pictures(tmp_path / "nowhere")


def test_crops_follow_the_generator():
    pictures = np.stack([generate_picture(0, i, size=24) for i in range(3)])
    first = data.random_crops(pictures, 5, 16, torch.Generator().manual_seed(0))
    assert first.shape == (5, 16, 16, 3)
    again = data.random_crops(pictures, 5, 16, torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(first, again)
    tensor = data.to_tensor(first)
    assert tensor.shape == (5, 3, 16, 16)
    assert float(tensor.min()) >= -1
    assert float(tensor.max()) <= 1
