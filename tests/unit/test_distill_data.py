"""Procedural pictures, degradation and the pictures of a folder."""

import json
import logging

import numpy as np
import pytest
import torch
from PIL import Image

from varestorer_core.degradation import PRESETS, degrade
from varestorer_core.distill import data
from varestorer_core.distill.degrade import degrade_batch, parse_mix
from varestorer_core.distill.procedural import generate_picture
from varestorer_core.errors import ImageError, SettingError
from varestorer_core.resize import resize_lanczos


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


@pytest.mark.parametrize("mix", [("official",), ("x4", "mild"), tuple(PRESETS)])
def test_degradation_follows_the_generator_and_keeps_the_size(mix):
    pictures = np.stack([generate_picture(0, i, size=48) for i in range(3)])

    def draw(seed: int) -> np.ndarray:
        return degrade_batch(pictures, mix, torch.Generator().manual_seed(seed))

    first = draw(1)
    assert first.shape == pictures.shape
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, draw(1))
    assert (first != draw(2)).any()


def test_pictures_draw_evenly_from_the_mix():
    # Low light makes a white picture dark, heavy JPEG leaves it white.
    white = np.full((200, 8, 8, 3), 255, np.uint8)
    mixed = degrade_batch(white, ("low_light", "heavy_jpeg"), torch.Generator().manual_seed(0))
    dark = int((mixed.mean(axis=(1, 2, 3)) < 128).sum())
    assert 70 < dark < 130  # four standard deviations around 100


def test_a_degraded_batch_is_the_library_s_enlarged_as_inference_does():
    picture = generate_picture(0, 0, size=64)
    got = degrade_batch(picture[None], ("x4",), torch.Generator().manual_seed(5))[0]
    generator = torch.Generator().manual_seed(5)
    torch.randint(1, (1,), generator=generator)
    seed = torch.randint(2**31 - 1, (1,), generator=generator)
    image = torch.tensor(picture).permute(2, 0, 1) / 255
    small = degrade(image, "x4", np.random.default_rng(int(seed)), scale=4)
    large = resize_lanczos(small, (64, 64)).clamp(0, 1).mul(255).round()
    np.testing.assert_array_equal(got, large.permute(1, 2, 0).numpy().astype(np.uint8))


def test_a_list_of_presets_is_checked():
    assert parse_mix("x4, mild") == ("x4", "mild")
    with pytest.raises(SettingError, match="got 'soft'"):
        parse_mix("mild,soft")
    with pytest.raises(SettingError, match="got none"):
        parse_mix(" ,")


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
