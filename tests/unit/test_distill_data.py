"""Procedural pictures, degradation and the pictures of a folder."""

import json
import logging
from pathlib import Path

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


def test_a_damaged_cache_is_made_anew(tmp_path, caplog):
    path, note = tmp_path / "a.npy", tmp_path / "a.json"
    whole = np.array(data.procedural_pictures(path, 2, size=16, seed=1))

    def spoil_note() -> None:
        note.write_text('{"count": 2')

    def cut_pictures() -> None:
        path.write_bytes(path.read_bytes()[:400])

    def empty_pictures() -> None:
        path.write_bytes(b"")

    def other_pictures() -> None:
        np.save(path, np.zeros((2, 8, 8, 3), np.uint8))

    for spoil in (spoil_note, cut_pictures, empty_pictures, other_pictures):
        spoil()
        caplog.clear()
        np.testing.assert_array_equal(data.procedural_pictures(path, 2, size=16, seed=1), whole)
        assert "is damaged" in caplog.text


def test_an_interrupted_start_is_not_taken_for_a_cache(tmp_path, monkeypatch):
    path = tmp_path / "a.npy"
    whole = np.array(data.procedural_pictures(path, 2, size=16, seed=1))

    def interrupt(*_, **__) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(data, "generate_picture", interrupt)
        with pytest.raises(KeyboardInterrupt):
            data.procedural_pictures(path, 2, size=16, seed=2)
    np.testing.assert_array_equal(data.procedural_pictures(path, 2, size=16, seed=1), whole)


def test_no_pictures_are_an_error(tmp_path):
    with pytest.raises(SettingError, match="at least 1, got 0"):
        data.procedural_pictures(tmp_path / "a.npy", 0)


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


def test_a_preset_with_a_scale_becomes_smaller_and_is_enlarged_as_inference_does():
    picture = generate_picture(0, 0, size=64)
    got = degrade_batch(picture[None], ("social@2",), torch.Generator().manual_seed(5))[0]
    generator = torch.Generator().manual_seed(5)
    torch.randint(1, (1,), generator=generator)
    seed = torch.randint(2**31 - 1, (1,), generator=generator)
    image = torch.tensor(picture).permute(2, 0, 1) / 255
    small = degrade(image, "social", np.random.default_rng(int(seed)), scale=2)
    large = resize_lanczos(small, (64, 64)).mul(255).round()
    np.testing.assert_array_equal(got, large.permute(1, 2, 0).numpy().astype(np.uint8))
    at_once = degrade_batch(picture[None], ("social",), torch.Generator().manual_seed(5))[0]
    assert (got != at_once).any()


def test_a_list_of_presets_is_checked():
    assert parse_mix("x4, mild") == ("x4", "mild")
    assert parse_mix("x4@4,mild@2,mild@2") == ("x4@4", "mild@2", "mild@2")
    for wrong in ("mild@", "mild@0.5", "mild@two", "mild@9", "mild@nan"):
        with pytest.raises(SettingError, match=f"as in mild@2, got '{wrong}'"):
            parse_mix(wrong)
    with pytest.raises(SettingError, match="got 'soft'"):
        parse_mix("mild,soft")
    with pytest.raises(SettingError, match="got none"):
        parse_mix(" ,")


def test_folder_skips_counts_and_names_what_it_cannot_use(tmp_path, caplog):
    (tmp_path / "more").mkdir()
    (tmp_path / "folder.png").mkdir()
    Image.fromarray(generate_picture(0, 0, size=80)).save(tmp_path / "good.png")
    Image.fromarray(generate_picture(0, 1, size=20)).save(tmp_path / "more" / "small.png")
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:500])
    (tmp_path / "empty.webp").touch()
    (tmp_path / "notes.txt").write_text("not a picture file")
    with caplog.at_level(logging.WARNING):
        squares = data.folder_pictures(tmp_path, size=32)
    assert squares.shape[1:] == (32, 32, 3)
    assert 1 <= len(squares) <= 8
    assert caplog.messages == [
        "4 of 5 pictures skipped; 3 unreadable: broken.jpg, cut.png, empty.webp; 1 smaller than 32 pixels: "
        + str(Path("more") / "small.png")
    ]


def test_many_skipped_pictures_are_not_all_named():
    names = [f"{n}.png" for n in range(23)]
    line = data.describe_skipped(30, {"unreadable": names, "smaller than 9 pixels": []})
    assert line.startswith("23 of 30 pictures skipped; 23 unreadable: 0.png, 1.png, ")
    assert line.endswith(", 19.png and 3 more")


def test_deep_grey_and_transparent_pictures_are_used(tmp_path, caplog):
    values = np.linspace(0, 65535, 40 * 40).reshape(40, 40).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    Image.fromarray(np.full((40, 40, 4), 128, np.uint8)).save(tmp_path / "glass.png")
    Image.fromarray(np.full((40, 40), 7, np.uint8)).save(tmp_path / "grey.png")
    squares = data.folder_pictures(tmp_path, size=40)
    assert not caplog.messages
    deep, glass, grey = squares
    assert deep.min() == 0
    assert deep.max() == 255
    assert 120 < deep.mean() < 135
    assert (glass == 128).all()
    assert (grey == 7).all()


def test_empty_or_missing_folder_is_an_error(tmp_path):
    with pytest.raises(ImageError, match="got none among 0 picture files"):
        data.folder_pictures(tmp_path)
    with pytest.raises(ImageError, match="existing folder"):
        data.folder_pictures(tmp_path / "nowhere")


def test_a_folder_of_pictures_that_are_too_small_is_an_error(tmp_path):
    Image.fromarray(generate_picture(0, 1, size=20)).save(tmp_path / "small.png")
    with pytest.raises(ImageError, match="at least 32 x 32 pixels, got none among 1 picture files"):
        data.folder_pictures(tmp_path, size=32)


def test_pictures_that_were_left_out_beforehand_are_counted(tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "small.png")
    with pytest.raises(ImageError, match="got none among 1 picture files"):
        data.folder_pictures(tmp_path, size=32, files=[])


def test_crops_larger_than_the_pictures_are_an_error():
    with pytest.raises(
        ImageError, match="at least 32 x 32 pixels, the size of a tile, got 24 x 24"
    ):
        data.random_crops(np.zeros((1, 24, 24, 3), np.uint8), 1, 32, torch.Generator())


def test_crops_follow_the_generator():
    pictures = np.stack([generate_picture(0, i, size=24) for i in range(3)])
    first = data.random_crops(pictures, 5, 16, torch.Generator().manual_seed(0))
    assert first.shape == (5, 16, 16, 3)
    again = data.random_crops(pictures, 5, 16, torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(first, again)
