"""Colours declared by more than a profile of an RGB picture: code points, grey with an RGB profile, text formats."""

import struct
import zlib

import numpy as np
import pytest
from picture_cases import BASE, distance, srgb_values
from picture_files import chunk, png_bytes, srgb_profile
from PIL import Image, features

from varestorer_core.cli import restore
from varestorer_core.cli.main import main
from varestorer_core.errors import ImageError
from varestorer_core.pictures import icc, read_picture, to_uint8

LINEAR = icc.rgb_profile("linear", icc.SRGB_PRIMARIES, gamma=1.0)
PHOTO = Image.fromarray(BASE.astype(np.uint8))


@pytest.mark.parametrize(
    ("primaries", "transfer", "note"),
    [
        (12, 13, "Display P3"),
        (9, 1, "BT.2020"),
        (1, 13, ""),
        (2, 2, ""),
        (9, 16, "transfer curve (nclx 16)"),
    ],
)
@pytest.mark.parametrize("name", ["a.heic", "a.avif"])
def test_code_points_of_boxes(tmp_path, name, primaries, transfer, note):
    path = tmp_path / name
    if path.suffix == ".avif":
        if not features.check("avif"):
            pytest.skip("Pillow without AVIF")
        PHOTO.save(path, quality=95)
    else:
        heif = pytest.importorskip("pillow_heif")
        heif.register_heif_opener()
        heif.from_pillow(PHOTO).save(path, quality=95)
    content = path.read_bytes()
    place = content.index(b"nclx") + 4
    points = struct.pack(">HH", primaries, transfer)
    path.write_bytes(content[:place] + points + content[place + 4 :])
    picture = read_picture(path)
    assert (picture.icc_profile is not None) == (primaries in (9, 12))
    assert note in " ".join(picture.notes)
    assert bool(picture.notes) == bool(note)


def test_code_points_take_precedence_over_a_profile(tmp_path):
    profile = chunk(b"iCCP", b"x\0\0" + zlib.compress(srgb_profile()))
    rows = b"".join(b"\0" + bytes([200, 60, 20] * 4) for _ in range(4))
    for points, name in ((bytes([12, 13, 0, 1]), "Display P3"), (bytes([9, 16, 0, 1]), "")):
        extra = chunk(b"cICP", points) + profile
        (tmp_path / "a.png").write_bytes(png_bytes(4, 4, 8, 2, rows, extra))
        picture = read_picture(tmp_path / "a.png")
        assert (picture.icc_profile == srgb_profile()) == (not name)
        assert name in " ".join(picture.notes)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_grey_files_with_a_linear_rgb_profile(tmp_path, name):
    grey = np.tile(np.arange(256, dtype=np.uint8), (16, 1))
    Image.fromarray(grey).save(tmp_path / name, icc_profile=LINEAR)
    picture = read_picture(tmp_path / name)
    assert picture.icc_profile is None
    light = grey[8] / 255
    wanted = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert np.abs(picture.rgb[0, 8].numpy() - wanted).max() < 0.06  # JPEG rounds


def test_grey_files_with_the_curve_of_srgb_are_unchanged(tmp_path):
    grey = np.arange(256, dtype=np.uint8)[None]
    Image.fromarray(grey).save(tmp_path / "a.png", icc_profile=srgb_profile())
    assert np.array_equal(to_uint8(read_picture(tmp_path / "a.png").rgb)[..., 0], grey)


def test_neutral_results_keep_the_tones_of_a_linear_picture(tmp_path, monkeypatch):
    from restore_command import StandIn

    monkeypatch.setattr(restore, "load_models", lambda *_, **__: StandIn())
    linear = (BASE.mean(2, keepdims=True) / 255) ** 2.2 * 255
    image = Image.fromarray(np.repeat(np.rint(linear), 3, axis=2).astype(np.uint8))
    image.save(tmp_path / "a.png", icc_profile=LINEAR)
    words = ["restore", str(tmp_path / "a.png"), "--device", "cpu", "--upscale", "1"]
    for name, options in (("colour.png", ()), ("grey.png", ("--neutral",))):
        assert main([*words, "-o", str(tmp_path / name), *options]) == 0
    colour, grey = (read_picture(tmp_path / name) for name in ("colour.png", "grey.png"))
    assert grey.grey
    assert distance(srgb_values(colour), srgb_values(grey)) < 1


@pytest.mark.parametrize("top", [65535, 1023])
@pytest.mark.parametrize("channels", [1, 3])
def test_netpbm_as_text_keeps_its_bits(tmp_path, top, channels):
    values = np.random.default_rng(0).integers(0, top + 1, (7, 300, channels))
    head = f"P{3 if channels == 3 else 2}\n# by hand\n300 7\n{top}\n"
    text = head + "\n".join(" ".join(map(str, row.ravel())) for row in values)
    (tmp_path / "a.ppm").write_text(text)
    picture = read_picture(tmp_path / "a.ppm")
    assert (picture.bit_depth, picture.grey) == (16, channels == 1)
    found = picture.rgb.numpy().transpose(1, 2, 0)[..., :channels]
    assert np.abs(found - values / top).max() < 1e-5
    (tmp_path / "b.ppm").write_text(text[:-30])
    with pytest.raises(ImageError, match="missing"):
        read_picture(tmp_path / "b.ppm")
