"""Reading and writing picture files: modes, bit depths, profiles, damage, atomic writes."""

import errno
import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageOps

from varestorer_core.errors import ImageError
from varestorer_core.pictures import (
    MAX_PIXELS,
    check_target,
    png16,
    read_picture,
    to_uint8,
    write_picture,
)


def samples(height, width, channels, dtype=np.uint8, seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(0, np.iinfo(dtype).max + 1, (height, width, channels), dtype)


def save(path, array, mode=None, **options):
    image = Image.fromarray(array.squeeze(-1) if array.shape[-1] == 1 else array)
    if mode is not None:
        image = image.convert(mode)
    image.save(path, **options)
    return path


def chunk(name, content):
    checksum = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def png_bytes(width, height, bits, color_type, rows=b"", extra=b"", interlace=0):
    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, interlace)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def deep_png(array, color_type, extra=b""):
    height, width = array.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    return png_bytes(width, height, 16, color_type, rows, extra)


def srgb_profile(space="sRGB"):
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(space)).tobytes()


def grey_profile(gamma):
    """Build a minimal ICC v2 grey profile with a pure power curve."""

    def tag(name, content):
        return name, content + b"\0" * (-len(content) % 4)

    tags = [
        tag(b"desc", b"desc" + b"\0" * 4 + struct.pack(">I", 5) + b"grey\0" + b"\0" * 78),
        tag(b"cprt", b"text" + b"\0" * 4 + b"none\0"),
        tag(b"wtpt", b"XYZ " + b"\0" * 4 + struct.pack(">iii", 63190, 65536, 54061)),
        tag(b"kTRC", b"curv" + b"\0" * 4 + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"),
    ]
    offset, table, data = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, content in tags:
        table += name + struct.pack(">II", offset + len(data), len(content))
        data += content
    size = 128 + len(table) + len(data)
    header = struct.pack(">I", size) + b"\0" * 4 + b"\x02\x10\0\0" + b"mntr" + b"GRAY" + b"XYZ "
    header += b"\0" * 12 + b"acsp" + b"\0" * 28 + struct.pack(">iii", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + table + data


def expected(array):
    return torch.from_numpy(array.transpose(2, 0, 1).copy())


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
    assert picture.notes == ("holds more than one frame, only the first is restored",)


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
        "nothing.png": (png_bytes(0, 5, 8, 2), "not a picture"),
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


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", [(1, 1), (7, 5)])
def test_16_bit_writer_round_trip(tmp_path, channels, shape):
    array = samples(*shape, channels, np.uint16)
    with (tmp_path / "a.png").open("wb") as file:
        png16.encode(file, array)
    picture = read_picture(tmp_path / "a.png")
    stored = picture.rgb if picture.alpha is None else torch.cat([picture.rgb, picture.alpha])
    kept = stored[[0, -1]] if channels == 2 else stored[:channels]
    assert np.array_equal(np.rint(kept.numpy() * 65535).transpose(1, 2, 0), array)


@pytest.mark.parametrize("depth", [8, 16])
def test_writing_in_bands_gives_the_same_file_content(tmp_path, depth, monkeypatch):
    rgb = torch.rand(3, 17, 9)
    write_picture(tmp_path / "whole.png", rgb, bit_depth=depth)
    for module in ("png16", "writing"):
        monkeypatch.setattr(f"varestorer_core.pictures.{module}._BAND", 4)
    write_picture(tmp_path / "bands.png", rgb, bit_depth=depth)
    whole, bands = (read_picture(tmp_path / f"{name}.png").rgb for name in ("whole", "bands"))
    assert torch.equal(whole, bands)
    rgb[1, 16, 3] = float("nan")
    with pytest.raises(ImageError, match="NaN or infinite"):
        write_picture(tmp_path / "nan.png", rgb, bit_depth=depth)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp", "a.bmp"])
def test_8_bit_values_survive(tmp_path, name):
    array = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    rgb = expected(array.astype(np.float32) / 255.0)
    write_picture(tmp_path / name, rgb)
    difference = np.abs(to_uint8(read_picture(tmp_path / name).rgb).astype(int) - array)
    assert difference.max() <= (8 if name == "a.webp" else 0)


def test_samples_are_cut_as_the_host_cuts_them():
    rgb = torch.rand(3, 20, 20, generator=torch.Generator().manual_seed(0)) * 1.2 - 0.1
    host = np.clip(255.0 * rgb.permute(1, 2, 0).numpy(), 0, 255).astype(np.uint8)
    assert np.array_equal(to_uint8(rgb), host)


def test_alpha_is_written_and_read_back(tmp_path):
    rgba = samples(6, 5, 4)
    rgba[..., 3] |= 1  # hidden colours are not kept
    rgb, alpha = expected(rgba / np.float32(255))[:3], expected(rgba / np.float32(255))[3:]
    write_picture(tmp_path / "a.png", rgb, alpha)
    write_picture(tmp_path / "b.png", rgb, alpha, bit_depth=16)
    for name in ("a.png", "b.png"):
        picture = read_picture(tmp_path / name)
        assert torch.equal(picture.rgb, rgb)
        assert picture.alpha is not None
        assert torch.equal(picture.alpha, alpha)


def test_formats_refuse_what_they_cannot_hold(tmp_path):
    rgb, alpha = torch.zeros(3, 2, 2), torch.ones(1, 2, 2)
    with pytest.raises(ImageError, match="no transparency"):
        write_picture(tmp_path / "a.jpg", rgb, alpha)
    with pytest.raises(ImageError, match="16 bits"):
        write_picture(tmp_path / "a.jpg", rgb, bit_depth=16)
    with pytest.raises(ImageError, match=r"\.png"):
        check_target("a.gif", (2, 2))
    with pytest.raises(ImageError, match="16383"):
        check_target("a.webp", (2, 20_000))
    assert list(tmp_path.iterdir()) == []


def test_values_that_are_not_numbers_are_refused(tmp_path):
    rgb = torch.zeros(3, 2, 2)
    rgb[0, 0, 0] = float("nan")
    with pytest.raises(ImageError, match="NaN or infinite"):
        write_picture(tmp_path / "a.png", rgb)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("depth", [8, 16])
def test_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, depth):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("varestorer_core.atomic.os.fsync", full)
    with pytest.raises(ImageError, match=r"a\.png was not written: the disk is full"):
        write_picture(path, torch.rand(3, 8, 8), bit_depth=depth)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("name", "depth"), [("a.png", 8), ("b.png", 16), ("c.jpg", 8)])
def test_file_cut_short_by_the_system_is_removed(tmp_path, name, depth):
    resource = pytest.importorskip("resource", reason="limits exist on Unix only")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(ImageError, match=f"{name} was not written: File too large"):
            write_picture(tmp_path / name, torch.rand(3, 64, 64), bit_depth=depth)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_cancel_while_writing_leaves_nothing(tmp_path, monkeypatch):
    def cancel(_descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr("varestorer_core.atomic.os.fsync", cancel)
    with pytest.raises(KeyboardInterrupt):
        write_picture(tmp_path / "a.png", torch.rand(3, 8, 8))
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_written(tmp_path, monkeypatch):
    def refuse(_path, *_args, **_options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(ImageError, match="Permission denied"):
        write_picture(tmp_path / "a.png", torch.rand(3, 8, 8))
    monkeypatch.undo()
    with pytest.raises(ImageError, match="does not exist"):
        write_picture(tmp_path / "missing" / "a.png", torch.rand(3, 8, 8))
