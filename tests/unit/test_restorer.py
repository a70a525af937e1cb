"""`Restorer.restore` returns pictures of the same kind as its input, and checks settings and masks."""

import numpy as np
import pytest
import torch
from PIL import Image

from varestorer_core import RestoreSettings
from varestorer_core.errors import ImageError, SettingError
from varestorer_core.loaded import LoadedStages
from varestorer_core.pictures.conversion import as_pictures
from varestorer_core.restorer import Restorer
from varestorer_core.tiles.masking import output_mask

UPSCALE = RestoreSettings(upscale=2.0, overlap=16)


@pytest.fixture
def restorer(make_transformer, make_tokenizer):
    return Restorer(LoadedStages(make_transformer(lq_prior=True), make_tokenizer()))


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize(
    ("mode", "result"),
    [
        ("RGB", "RGB"),
        ("L", "L"),
        ("1", "L"),
        ("LA", "LA"),
        ("RGBA", "RGBA"),
        ("P", "RGB"),
        ("CMYK", "RGB"),
    ],
)
def test_pillow(restorer, mode, result):
    picture = Image.fromarray(noise(10, 14, 4)).convert(mode)
    picture.info["icc_profile"] = b"profile"
    restored = restorer.restore(picture, UPSCALE)
    assert isinstance(restored, Image.Image)
    assert (restored.mode, restored.size) == (result, (28, 20))
    assert restored.info.get("icc_profile") == (b"profile" if mode in ("RGB", "RGBA") else None)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float16])
@pytest.mark.parametrize("shape", [(10, 14), (10, 14, 1), (10, 14, 3), (10, 14, 4)])
def test_arrays(restorer, dtype, shape):
    top = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1
    picture = (noise(*shape) / 255 * top).astype(dtype)
    restored = restorer.restore(picture, UPSCALE)
    assert restored.dtype == dtype
    assert restored.shape == (20, 28, *shape[2:])
    batch = restorer.restore(np.stack([np.atleast_3d(picture)] * 2), UPSCALE)
    assert np.array_equal(batch[0], np.atleast_3d(restored))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_arrays_and_pillow_come_back_to_the_last_bit(dtype):
    top = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1
    visible = np.maximum(noise(16, 16, 4), 2)  # colours under transparent pixels are not kept
    picture = (visible / 255 * top).astype(dtype)
    given = as_pictures(picture)
    assert np.array_equal(given.like_the_input(given.rgb), picture)
    for mode in ("L", "LA", "RGB", "RGBA"):
        image = Image.fromarray(np.maximum(noise(16, 16, 4), 2)).convert(mode)
        given = as_pictures([image])
        assert np.array_equal(given.like_the_input(given.rgb)[0], image)


def test_tensors_lists_and_arrays_give_the_same_pixels(restorer):
    samples = noise(9, 12, 3)
    tensor = torch.from_numpy(samples).movedim(-1, 0) / 255.0
    one = restorer.restore(tensor, UPSCALE)
    assert one.shape == (3, 18, 24)
    assert torch.equal(restorer.restore(tensor[None], UPSCALE)[0], one)
    first, second = restorer.restore([tensor, Image.fromarray(samples)], UPSCALE)
    assert torch.equal(first, one)
    expected = np.clip(255.0 * one.movedim(0, -1).numpy(), 0, 255).astype(np.uint8)
    assert np.array_equal(np.asarray(second), expected)
    assert np.array_equal(restorer.restore(samples, UPSCALE), expected)


@pytest.mark.parametrize(
    ("picture", "word"),
    [
        ("photo.jpg", "got str"),
        (None, "got NoneType"),
        (noise(4, 4, 2), "(4, 4, 2)"),
        (noise(0, 4, 3), "(0, 4, 3)"),
        (noise(4), "(4,)"),
        (noise(4, 4, 3).astype(np.int64), "int64"),
        (noise(4, 4, 3).astype(np.float32), "Divide"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), "uint8"),
        (torch.full((3, 4, 4), 255.0), "Divide"),
        ([], "empty"),
        (torch.full((3, 4, 4), float("nan")), "NaN"),
        (torch.zeros(4, 4), "(3, height, width)"),
    ],
)
def test_what_is_not_a_picture(restorer, picture, word):
    with pytest.raises(ImageError) as caught:
        restorer.restore(picture, UPSCALE)
    assert word in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("upscale", 0),
        ("upscale", float("nan")),
        ("upscale", "2"),
        ("detail", 1.5),
        ("fidelity", -1),
        ("seed", -1),
        ("color_match", "wavelets"),
        ("overlap", 1000),
        ("tile_batch", True),
    ],
)
def test_settings_out_of_range_name_themselves(name, value):
    with pytest.raises(SettingError, match=f"^{name} must be "):
        RestoreSettings(**{name: value})


def test_more_than_a_quarter_of_a_tile_counts_as_a_quarter(restorer):
    picture = torch.rand(3, 20, 200)
    quarter = restorer.stages.tile // 4
    most = restorer.restore(picture, UPSCALE, overlap=quarter)
    for overlap in (quarter + 1, 2 * quarter, 512):
        assert torch.equal(restorer.restore(picture, UPSCALE, overlap=overlap), most)
    assert not torch.equal(restorer.restore(picture, UPSCALE, overlap=quarter // 4), most)


def test_tiles_that_are_no_larger_than_the_default_overlap(make_transformer, make_tokenizer):
    transformer = make_transformer(pixel_class="0.06M")
    tokenizer = make_tokenizer(channel_multipliers=(1, 2, 2))
    small = Restorer(LoadedStages(transformer, tokenizer))
    assert small.stages.tile == 64 == RestoreSettings().overlap
    assert small.restore(torch.rand(3, 30, 40), upscale=4.0).shape == (3, 120, 160)


def test_pictures_of_one_size_share_a_mask(restorer, monkeypatch):
    made = []

    def count(mask, size, feather):
        made.append(size)
        return output_mask(mask, size, feather)

    monkeypatch.setattr("varestorer_core.restorer.output_mask", count)
    restorer.restore(torch.rand(3, 3, 8, 8), UPSCALE, masks=torch.ones(4, 4))
    assert made == [(16, 16)]


def test_masks(restorer):
    pictures = [torch.rand(3, 20, 30), torch.rand(3, 16, 16)]
    none, whole = restorer.restore(
        pictures, UPSCALE, masks=[torch.zeros(5, 5), torch.ones(7, 9)], feather=0
    )
    assert torch.equal(whole, restorer.restore(pictures[1], UPSCALE))
    assert not torch.equal(none, restorer.restore(pictures[0], UPSCALE))
    shared = restorer.restore(pictures, UPSCALE, masks=torch.ones(4, 4))
    assert torch.equal(shared[1], whole)
    with pytest.raises(SettingError, match="one for each of the 2 pictures, got 3"):
        restorer.restore(pictures, UPSCALE, masks=torch.ones(3, 4, 4))
