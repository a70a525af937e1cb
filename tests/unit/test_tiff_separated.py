"""TIFF files in CMYK, Lab and YCbCr, or with JPEG data: of every storage, the same picture."""

import itertools
import sys

import numpy as np
import pytest
from PIL import Image, ImageCms

from varestorer_core.errors import ImageError
from varestorer_core.pictures import read_picture

tifffile = pytest.importorskip("tifffile")
pytest.importorskip("imagecodecs")
SIZE = (20, 33)
RGB = np.asarray(
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)).resize(
        (33, 20), Image.Resampling.BICUBIC
    )
)


def stored(kind):
    """Return RGB in a colour space, 8 bits as TIFF stores them, and what it means as RGB."""
    image = Image.fromarray(RGB)
    if kind == "separated":
        values = np.concatenate([255 - RGB // 2, np.full((*SIZE, 1), 50, np.uint8)], axis=2)
        part = values.astype(float)
        return values, (255 - part[..., :3]) * (255 - part[..., 3:]) / 255
    if kind == "ycbcr":
        return np.asarray(image.convert("YCbCr")), RGB.astype(float)
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    found = ImageCms.profileToProfile(image, srgb, lab, outputMode="LAB")
    assert found is not None
    values = np.asarray(found).copy()
    if kind == "icclab":
        values[..., 1:] ^= 128
    return values, RGB.astype(float)


def as_16_bits(values, kind):
    deep = values.astype(np.uint16)
    if kind == "separated":
        return deep * 257
    light = deep[..., :1] * (257 if kind == "cielab" else 256)
    return np.concatenate([light, deep[..., 1:] * 256], axis=2).astype(np.uint16)


CASES = [
    *itertools.product(
        ("separated", "cielab", "icclab"), (8, 16), (False, True), (None, "deflate"), (1, 6)
    ),
    *itertools.product(("ycbcr",), (8,), (False, True), (None, "lzw"), (1, 6)),
]


def write(path, kind, bits, planar, compression, orientation):
    values, truth = stored(kind)
    values = as_16_bits(values, kind) if bits == 16 else values
    tifffile.imwrite(
        path,
        np.ascontiguousarray(np.moveaxis(values, -1, 0)) if planar else values,
        photometric=kind,
        planarconfig="separate" if planar else "contig",
        compression=compression,
        subsampling=(1, 1) if kind == "ycbcr" else None,
        extratags=[(274, "H", 1, orientation, True)],
        metadata=None,
    )
    return np.rot90(truth, -1) if orientation == 6 else truth


@pytest.mark.parametrize("number", range(len(CASES)))
def test_colour_space(tmp_path, monkeypatch, number):
    truth = write(tmp_path / "a.tif", *CASES[number])
    picture = read_picture(tmp_path / "a.tif")
    found = picture.rgb.numpy().transpose(1, 2, 0) * 255
    assert found.shape == truth.shape
    assert np.abs(found - truth).mean() < 2.5
    monkeypatch.setitem(sys.modules, "tifffile", None)
    words = ""
    try:
        picture = read_picture(tmp_path / "a.tif")
    except ImageError as error:
        words = str(error)
    else:
        assert np.abs(picture.rgb.numpy().transpose(1, 2, 0) * 255 - truth).mean() < 2.5
    assert not words or "pip install tifffile" in words


def jpeg_tiff(path, values, **options):
    quality = {"level": 98, **options.pop("compressionargs", {})}
    tifffile.imwrite(
        path, values, compression="jpeg", compressionargs=quality, metadata=None, **options
    )


@pytest.mark.parametrize("orientation", [1, 6])
def test_jpeg_in_planes_and_of_12_bits(tmp_path, orientation):
    tags = [(274, "H", 1, orientation, True)]
    planes = np.ascontiguousarray(np.moveaxis(RGB, -1, 0))
    jpeg_tiff(
        tmp_path / "p.tif", planes, photometric="rgb", planarconfig="separate", extratags=tags
    )
    deep = RGB[..., 0].astype(np.uint16) * 16
    options = {"compressionargs": {"bitspersample": 12}, "extratags": tags}
    jpeg_tiff(tmp_path / "d.tif", deep, photometric="minisblack", **options)
    for name, truth in (("p.tif", RGB), ("d.tif", RGB[..., :1])):
        picture = read_picture(tmp_path / name)
        truth = np.rot90(truth, -1) if orientation == 6 else truth
        assert picture.size == truth.shape[:2]
        assert np.abs(picture.rgb.numpy().transpose(1, 2, 0) * 255 - truth).mean() < 2
    assert read_picture(tmp_path / "d.tif").bit_depth == 16


def test_a_jpeg_page_after_a_reduced_one(tmp_path):
    large = np.asarray(Image.fromarray(RGB).resize((160, 96)))
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(large[::8, ::8], photometric="rgb", subfiletype=1, metadata=None)
        options = {"compression": "jpeg", "compressionargs": {"level": 95}, "metadata": None}
        file.write(large, photometric="rgb", subsampling=(1, 1), **options)
    picture = read_picture(tmp_path / "a.tif")
    assert picture.size == (96, 160)
    assert np.abs(picture.rgb.numpy().transpose(1, 2, 0) * 255 - large).mean() < 2


def test_other_inks_and_colour_spaces_are_refused_without_advice_that_does_not_help(tmp_path):
    cmyk = np.zeros((*SIZE, 4), np.uint8)
    tags = [(332, "H", 1, 2, True)]
    tifffile.imwrite(tmp_path / "inks.tif", cmyk, photometric="separated", extratags=tags)
    tifffile.imwrite(tmp_path / "luv.tif", cmyk[..., :3], photometric="logluv")
    for name, words in (("inks.tif", "inks other than CMYK"), ("luv.tif", "LOGLUV")):
        with pytest.raises(ImageError, match=words) as caught:
            read_picture(tmp_path / name)
        assert "pip install" not in str(caught.value)


def test_a_jpeg_part_larger_than_its_place_is_refused(tmp_path):
    jpeg_tiff(tmp_path / "a.tif", RGB, photometric="rgb")
    content = bytearray((tmp_path / "a.tif").read_bytes())
    place = content.index(b"\xff\xc0")
    content[place + 5 : place + 9] = b"\xff\x00\xff\x00"
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(ImageError, match="far larger than the picture"):
        read_picture(tmp_path / "a.tif")
