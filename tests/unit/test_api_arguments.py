"""Arguments of the public API: what is wrong is refused in one sentence, what is clear is accepted."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from varestorer_core.devices import choose_device, choose_dtype
from varestorer_core.errors import ImageError, SettingError
from varestorer_core.loading import load_restorer
from varestorer_core.pictures.conversion import as_masks, as_pictures
from varestorer_core.restorer import Restorer
from varestorer_core.settings import RestoreSettings


@pytest.mark.parametrize("name", ["seed", "overlap", "feather", "tile_batch"])
def test_whole_numbers(name):
    assert getattr(RestoreSettings(**{name: np.int64(2)}), name) == 2
    assert type(getattr(RestoreSettings(**{name: np.int64(2)}), name)) is int
    for value in (1.5, True, "2", float("nan"), 10**400):
        with pytest.raises(SettingError, match=f"{name} must be .* and a whole number, got"):
            RestoreSettings(**{name: value})


def test_numbers_of_numpy_become_plain_ones():
    settings = RestoreSettings(upscale=np.float32(2), detail=1)
    assert (settings.upscale, settings.detail) == (2.0, 1.0)
    assert {type(settings.upscale), type(settings.detail)} == {float}
    with pytest.raises(SettingError, match=r"upscale must be between 0\.25 and 8, got .2."):
        RestoreSettings(upscale="2")


@pytest.mark.parametrize(
    ("settings", "changes", "words"),
    [
        (4, {}, "Expected RestoreSettings, got 4"),
        ("fast", {}, "Expected RestoreSettings, got 'fast'"),
        (
            RestoreSettings(),
            {"upscle": 1},
            "There is no setting upscle. Settings are upscale, seed",
        ),
    ],
)
def test_settings_of_another_kind(settings, changes, words):
    restorer = Restorer(None)  # pyright: ignore[reportArgumentType]
    for work in (restorer.restore, restorer.reconstruct):
        with pytest.raises(SettingError, match=words):
            work(Image.new("RGB", (8, 8)), settings, **changes)


def test_masks_of_every_kind():
    plane = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    bytes_ = (plane * 255).round().astype(np.uint8)
    for mask, within in (
        (torch.from_numpy(plane), 0),
        (plane.astype(np.float64), 1e-6),
        (Image.fromarray(plane), 0),
        (bytes_, 1 / 255),
        (torch.from_numpy(bytes_), 1 / 255),
        (Image.fromarray(bytes_), 1 / 255),
        (Image.fromarray(bytes_).convert("RGB"), 1 / 255),
    ):
        (found,) = as_masks(mask)
        assert found.dtype == torch.float32
        assert float((found - torch.from_numpy(plane)).abs().max()) <= within
    deep = (plane * 65535).round().astype(np.uint16)
    for mask in (
        deep,
        deep.astype(">u2"),
        Image.fromarray(deep),
        Image.fromarray(deep.astype(np.int32)),
    ):
        assert torch.allclose(as_masks(mask)[0], torch.from_numpy(plane), atol=1e-4)
    assert as_masks(np.eye(3, dtype=np.int64))[0].sum() == 3
    assert len(as_masks(np.stack([plane, plane]))) == 2
    assert len(as_masks([plane, Image.fromarray(bytes_)])) == 2
    assert as_masks(plane > 0.5)[0].unique().tolist() == [0, 1]


@pytest.mark.parametrize("mask", ["mask.png", 5, [None], np.full((2, 2), 128.0)])
def test_what_is_no_mask(mask):
    with pytest.raises(SettingError, match=r"Expected a mask|must have values in \[0, 1\]"):
        as_masks(mask)


def test_grey_pil_images_of_32_bits():
    plane = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    for picture in (
        Image.fromarray(plane),
        Image.fromarray((plane * 65535).round().astype(np.int32)),
    ):
        pictures = as_pictures(picture)
        assert torch.allclose(pictures.rgb[0][0], torch.from_numpy(plane), atol=1e-4)
        assert pictures.like_the_input(pictures.rgb).size == picture.size
    with pytest.raises(ImageError, match=r"between 0 and 65535 \(16 bits\), got 0 to 70000"):
        as_pictures(Image.fromarray(np.array([[0, 70000]], np.int32)))
    with pytest.raises(ImageError, match=r"must lie in \[0, 1\]"):
        as_pictures(Image.fromarray(plane * 255))


def test_pil_images_whose_file_ends_early_or_is_closed():
    file = BytesIO()
    Image.effect_noise((64, 64), 40).convert("RGB").save(file, "PNG")
    truncated = Image.open(BytesIO(file.getvalue()[:2000]))
    closed = Image.open(file)
    closed.close()
    for picture in (truncated, closed):
        with pytest.raises(ImageError, match="The PIL image cannot be read"):
            as_pictures(picture)


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (torch.empty(3, 8, 8, device="meta"), "must be dense, got a meta tensor"),
        (torch.rand(3, 8, 8).to_sparse(), "must be dense, got torch.sparse_coo"),
    ],
)
def test_tensors_without_pixels(picture, words):
    with pytest.raises(ImageError, match=words):
        as_pictures(picture)


def test_alpha_that_is_not_finite():
    samples = np.full((4, 4, 4), 0.5, np.float32)
    samples[1, 1, 3] = np.nan
    with pytest.raises(ImageError, match="alpha channel has NaN"):
        as_pictures(samples)


def test_arrays_of_the_other_byte_order():
    samples = np.arange(0, 48000, 1000, np.uint16).reshape(4, 4, 3)
    swapped = as_pictures(samples.astype(samples.dtype.newbyteorder(">")))
    result = swapped.like_the_input(swapped.rgb)
    assert result.dtype == np.uint16
    assert (result == samples).all()


def test_premultiplied_grey():
    picture = Image.new("LA", (4, 4), (100, 255)).convert("La")
    assert torch.allclose(as_pictures(picture).rgb[0], torch.tensor(100 / 255))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"device": None}, "device must be auto, cpu, cuda"),
        ({"dtype": torch.int8}, "dtype must be auto, fp32, bf16, fp16, got torch.int8"),
        ({"model": 5}, "model must be the path of a file, or None for the bundled one, got 5"),
        ({"model": ""}, "model must be the path of a file"),
        ({"vae": True}, "vae must be the path of a file"),
        ({"adapters": [("a", 1, 2)]}, r"a file or a pair \(file, strength from 0 to 2\), got"),
        ({"adapters": [("a", "1")]}, r"a file or a pair \(file, strength from 0 to 2\), got"),
        ({"adapters": [None]}, "must be the path of a file or a name, got None"),
        ({"adapters": [("a", 2.5)]}, "from 0 to 2"),
        ({"adapters": [("a", -1)]}, "from 0 to 2"),
        ({"adapters": [("a", float("nan"))]}, "from 0 to 2"),
        ({"adapters": [5]}, "An adapter must be the path of a file or a name, got 5"),
        (
            {"adapters": 5},
            "adapters must be a file, a list of files or a mapping of strengths, got 5",
        ),
        (
            {"adapters": ["rian"]},
            "The adapter rian does not exist. Expected a file, or one of motion_blur, ",
        ),
    ],
)
def test_arguments_of_loading(arguments, words):
    with pytest.raises(SettingError, match=words):
        load_restorer(**{"device": "cpu", **arguments})


def test_a_single_adapter_needs_no_list(monkeypatch, tmp_path):
    given = []
    monkeypatch.chdir(tmp_path)
    for name in "abc":
        Path(f"{name}.safetensors").touch()
    monkeypatch.setattr(
        "varestorer_core.loading._apply_adapter",
        lambda transformer, path, strength, *more: given.append((path, strength)) or {},
    )
    load_restorer(device="cpu", adapters=Path("a.safetensors"))
    load_restorer(device="cpu", adapters=[["b.safetensors", 0.5]])
    load_restorer(device="cpu", adapters={"c.safetensors": 2})
    load_restorer(device="cpu", adapters=None)
    assert given == [
        *((Path("a.safetensors"), 1.0), (Path("b.safetensors"), 0.5), (Path("c.safetensors"), 2.0))
    ]


def test_devices_and_dtypes_of_torch_are_accepted():
    assert choose_device(torch.device("cpu")).type == "cpu"
    assert choose_dtype(torch.bfloat16, torch.device("cpu")) == torch.bfloat16
