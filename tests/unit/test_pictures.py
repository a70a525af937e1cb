"""Reading picture files: modes, bit depths, orientation, profiles, damage."""

import io
import os

import numpy as np
import pytest
import torch
from picture_files import (
    chunk,
    deep_png,
    expected,
    grey_profile,
    png_bytes,
    samples,
    save,
    srgb_profile,
)
from PIL import GifImagePlugin, Image, ImageOps, TiffImagePlugin

from varestorer_core.errors import ImageError
from varestorer_core.pictures import (
    MAX_PIXELS,
    read_picture,
    to_uint8,
    write_picture,
)


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tiff", "A.PNG"])
def test_8_bit_rgb_is_exactly_the_value_over_255(tmp_path, name):
    array = samples(9, 7, 3)
    picture = read_picture(save(tmp_path / name, array))
    assert picture.rgb.dtype == torch.float32
    assert torch.equal(picture.rgb, expected(array.astype(np.float32) / 255.0))
    assert (picture.alpha, picture.bit_depth, picture.notes) == (None, 8, ())
    assert picture.size == (9, 7)


def test_jpeg_and_webp_are_read_as_pillow_decodes_them(tmp_path):
    array = np.asarray(Image.fromarray(samples(4, 4, 3)).resize((32, 24), Image.Resampling.BICUBIC))
    for name, options in (("a.jpg", {"quality": 90}), ("a.webp", {"lossless": True})):
        path = save(tmp_path / name, array, **options)
        decoded = np.asarray(Image.open(path).convert("RGB"))
        assert torch.equal(read_picture(path).rgb, expected(decoded.astype(np.float32) / 255.0))


@pytest.mark.parametrize("mode", ["L", "1"])
def test_grey_and_bilevel_become_three_equal_channels(tmp_path, mode):
    path = save(tmp_path / "a.png", samples(6, 5, 3), mode)
    picture = read_picture(path)
    values = np.asarray(Image.open(path).convert("L")).astype(np.float32) / 255.0
    assert torch.equal(picture.rgb, torch.from_numpy(values).expand(3, 6, 5))
    assert picture.alpha is None


def test_transparency_of_every_kind_becomes_alpha(tmp_path):
    rgba = samples(6, 5, 4)
    rgba[..., 3] |= 1  # hidden colours are not kept
    picture = read_picture(save(tmp_path / "rgba.png", rgba))
    assert torch.equal(picture.rgb, expected(rgba[..., :3].astype(np.float32) / 255.0))
    assert picture.alpha is not None
    assert torch.equal(picture.alpha, expected(rgba[..., 3:].astype(np.float32) / 255.0))

    grey = read_picture(save(tmp_path / "la.png", rgba, "LA"))
    assert grey.alpha is not None
    assert torch.equal(grey.alpha, picture.alpha)

    palette = Image.fromarray(np.arange(4, dtype=np.uint8).reshape(2, 2), mode=None)
    palette = palette.convert("P")
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
    palette.info["transparency"] = bytes([1, 128, 255, 255])
    palette.save(tmp_path / "p.png", transparency=bytes([1, 128, 255, 255]))
    picture = read_picture(tmp_path / "p.png")
    assert to_uint8(picture.rgb).tolist()[0] == [[10, 20, 30], [40, 50, 60]]
    assert picture.alpha is not None
    assert to_uint8(picture.alpha)[..., 0].tolist() == [[1, 128], [255, 255]]


@pytest.mark.parametrize(("color_type", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_16_bit_png_keeps_every_bit(tmp_path, color_type, channels):
    array = samples(11, 13, channels, np.uint16)
    (tmp_path / "a.png").write_bytes(deep_png(array, color_type))
    picture = read_picture(tmp_path / "a.png")
    assert picture.bit_depth == 16
    rgb, alpha = (array[..., :-1], array[..., -1:]) if channels in (2, 4) else (array, None)
    wanted = expected(rgb.astype(np.float32) / np.float32(65535)).expand(3, 11, 13)
    assert torch.equal(picture.rgb, wanted)
    if alpha is None:
        assert picture.alpha is None
    else:
        assert picture.alpha is not None
        assert torch.equal(picture.alpha, expected(alpha.astype(np.float32) / np.float32(65535)))


@pytest.mark.parametrize(("color_type", "channels"), [(0, 1), (2, 3)])
def test_16_bit_png_with_one_transparent_colour(tmp_path, color_type, channels):
    array = samples(4, 5, channels, np.uint16)
    key = chunk(b"tRNS", array[2, 3].astype(">u2").tobytes())
    (tmp_path / "a.png").write_bytes(deep_png(array, color_type, key))
    alpha = read_picture(tmp_path / "a.png").alpha
    wanted = torch.ones(1, 4, 5)
    wanted[0, 2, 3] = 0
    assert alpha is not None
    assert torch.equal(alpha, wanted)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("deep", [False, True])
def test_exif_orientation_is_applied(tmp_path, orientation, deep):
    array, path = samples(3, 5, 3), tmp_path / "a.png"
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(path, array, exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    if deep:
        extra = chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
        path.write_bytes(deep_png(array.astype(np.uint16) * 257, 2, extra))
    picture = read_picture(path)
    assert np.array_equal(to_uint8(picture.rgb), upright)


def test_rgb_profile_is_kept_and_numbers_are_untouched(tmp_path):
    array, profile = samples(4, 4, 3), srgb_profile()
    picture = read_picture(save(tmp_path / "in.png", array, icc_profile=profile))
    assert picture.icc_profile == profile
    assert np.array_equal(to_uint8(picture.rgb), array)
    for name, depth in (("o.png", 8), ("deep.png", 16), ("o.jpg", 8), ("o.webp", 8), ("o.tif", 8)):
        write_picture(
            tmp_path / name, picture.rgb, bit_depth=depth, icc_profile=picture.icc_profile
        )
        assert Image.open(tmp_path / name).info["icc_profile"] == profile


def test_damaged_profile_is_ignored_and_said(tmp_path):
    picture = read_picture(save(tmp_path / "a.png", samples(4, 4, 3), icc_profile=b"x" * 200))
    assert picture.icc_profile is None
    assert "profile" in picture.notes[0]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_profile_is_converted(tmp_path, dtype):
    profile, top = grey_profile(1.0), np.iinfo(dtype).max
    array = np.array([[[0], [top // 4], [top // 2], [top]]], dtype)
    image = Image.fromarray(array[..., 0])
    image.save(tmp_path / "a.png", icc_profile=profile)
    picture = read_picture(tmp_path / "a.png")
    assert picture.icc_profile is None
    linear = np.array([0, 0.25, 0.5, 1])
    wanted = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.abs(picture.rgb.numpy()[:, 0] - wanted).max() < 0.01


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_a_grey_profile_leaves_a_colour_picture_its_colours(tmp_path, name):
    array = np.full((8, 8, 3), (200, 60, 20), np.uint8)
    Image.fromarray(array).save(tmp_path / name, icc_profile=grey_profile(1.0))
    picture = read_picture(tmp_path / name)
    assert np.abs(to_uint8(picture.rgb).astype(int) - array).max() <= 2
    assert picture.icc_profile is None
    assert any("unsuitable colour profile" in note for note in picture.notes)


def test_cmyk_jpeg_is_converted_and_said(tmp_path):
    cmyk = Image.fromarray(np.full((8, 8, 4), (255, 0, 0, 0), np.uint8), mode=None)
    cmyk = Image.merge("CMYK", cmyk.split())
    cmyk.save(tmp_path / "a.jpg", quality=100)
    picture = read_picture(tmp_path / "a.jpg")
    assert "CMYK" in picture.notes[0]
    red, green, blue = picture.rgb.mean(dim=(1, 2)).tolist()
    assert red < 0.1
    assert min(green, blue) > 0.9


def test_damaged_cmyk_profile_falls_back_to_the_plain_formula(tmp_path):
    profile = bytearray(grey_profile(1.0))
    profile[16:20] = b"CMYK"
    cmyk = Image.new("CMYK", (4, 4), (0, 255, 0, 0))
    cmyk.save(tmp_path / "a.tif", icc_profile=bytes(profile))
    picture = read_picture(tmp_path / "a.tif")
    assert "without a usable colour profile" in picture.notes[0]
    assert np.array_equal(to_uint8(picture.rgb), np.full((4, 4, 3), (255, 0, 255)))


def test_lab_is_converted_and_said(tmp_path):
    Image.merge("LAB", [Image.new("L", (4, 4), v) for v in (255, 128, 128)]).save(
        tmp_path / "a.tif"
    )
    picture = read_picture(tmp_path / "a.tif")
    assert "Lab" in picture.notes[0]
    assert picture.rgb.min() > 0.95


def test_of_several_frames_the_first_is_read(tmp_path):
    frames = [Image.fromarray(np.full((4, 4, 3), value, np.uint8)) for value in (10, 200)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    picture = read_picture(tmp_path / "a.png")
    assert np.all(to_uint8(picture.rgb) == 10)
    assert picture.notes == ("holds more than one frame; only the first is restored",)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 4000), (4000, 1)])
def test_extreme_shapes(tmp_path, height, width):
    array = samples(height, width, 3)
    picture = read_picture(save(tmp_path / "a.png", array))
    write_picture(tmp_path / "b.png", picture.rgb, bit_depth=16)
    assert np.array_equal(to_uint8(read_picture(tmp_path / "b.png").rgb), array)


def damaged_files(folder):
    good = io.BytesIO()
    Image.fromarray(samples(64, 64, 3)).save(good, "PNG")
    jpeg = io.BytesIO()
    Image.fromarray(samples(64, 64, 3)).save(jpeg, "JPEG")
    deep = deep_png(samples(32, 32, 3, np.uint16), 2)
    return {
        "missing.png": (None, "does not exist"),
        "empty.png": (b"", "is empty"),
        "text.png": (b"hello, this is not a picture", "not a picture"),
        "cut.png": (good.getvalue()[: len(good.getvalue()) // 2], "damaged or incomplete"),
        "cut.jpg": (jpeg.getvalue()[: len(jpeg.getvalue()) // 2], "damaged or incomplete"),
        "cut16.png": (deep[: len(deep) // 2], "damaged or incomplete"),
        "header.png": (good.getvalue()[:20], "damaged or incomplete"),
        "bomb.png": (png_bytes(30_000, 20_000, 8, 2), "limit is 537 megapixels"),
        "hollow.png": (png_bytes(20_000, 20_000, 8, 2), "bytes cannot hold 20000 x 20000 pixels"),
        "nothing.png": (png_bytes(0, 5, 8, 2), "a PNG file that is damaged"),
    }


@pytest.mark.parametrize("name", damaged_files(None))
def test_bad_files_give_one_sentence_that_names_the_file(tmp_path, name):
    content, words = damaged_files(tmp_path)[name]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError, match=words) as info:
        read_picture(tmp_path / name)
    assert name in str(info.value)


def test_a_folder_is_not_a_picture(tmp_path):
    with pytest.raises(ImageError, match="is a folder"):
        read_picture(tmp_path)


def test_our_own_pixel_limit(tmp_path, monkeypatch):
    monkeypatch.setattr("varestorer_core.pictures.opening.MAX_PIXELS", 15)
    with pytest.raises(ImageError, match="4 x 4"):
        read_picture(save(tmp_path / "a.png", samples(4, 4, 3)))
    assert MAX_PIXELS > 100e6


def test_floating_point_pictures_are_refused(tmp_path):
    Image.fromarray(np.full((4, 4), 255, np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(ImageError, match="floating-point"):
        read_picture(tmp_path / "a.tiff")


@pytest.mark.parametrize("suffix", [".gif", ".tif"])
def test_frames_are_not_counted_for_a_note(tmp_path, monkeypatch, suffix):
    """Counting the pages of a file means reading it to its end."""
    path = tmp_path / f"a{suffix}"
    first, second = (Image.new("L", (8, 6), value) for value in (10, 200))
    first.save(path, save_all=True, append_images=[second])

    def count(_):
        raise AssertionError("all frames were looked for")

    for kind in (GifImagePlugin.GifImageFile, TiffImagePlugin.TiffImageFile):
        monkeypatch.setattr(kind, "n_frames", property(count))
    picture = read_picture(path)
    assert any("only the first is restored" in note for note in picture.notes)
    assert picture.rgb.max() < 0.1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_what_is_no_file_is_one_sentence(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "empty.png").touch()
    for name, words in (("pipe.png", "is a pipe"), ("empty.png", "is empty"), (".", "is a folder")):
        with pytest.raises(ImageError) as caught:
            read_picture(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name} {words}")
