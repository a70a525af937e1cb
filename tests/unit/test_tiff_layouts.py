"""TIFF files of many layouts, read as they were written with tifffile and, if supported, without it."""

import itertools
import sys

import numpy as np
import pytest
from PIL import Image

from varestorer_core.errors import ImageError
from varestorer_core.pictures import read_picture

tifffile = pytest.importorskip("tifffile")
SIZE = (20, 33)


def layouts():
    """Yield (pixels as written, options of the writer, true (H, W, 3) in [0, 1])."""
    generator = np.random.default_rng(0)
    for dtype, kind, compression, planar, order in itertools.product(
        (np.uint8, np.uint16, np.float32),
        ("minisblack", "miniswhite", "rgb"),
        (None, "deflate"),
        (False, True),
        "<>",
    ):
        channels = 3 if kind == "rgb" else 1
        if planar and channels == 1:
            continue
        unit = np.round(generator.random((*SIZE, channels)) * 255) / 255
        top = 1 if dtype == np.float32 else np.iinfo(dtype).max
        values = np.rint(unit * top).astype(dtype) if top > 1 else unit.astype(dtype)
        written = top - values if kind == "miniswhite" else values
        options = {"photometric": kind, "compression": compression, "byteorder": order}
        if compression and dtype != np.float32:
            options["predictor"] = True
        if channels == 1:
            written = written[..., 0]
        elif planar:
            written, options["planarconfig"] = np.moveaxis(written, -1, 0), "separate"
        yield written, options, np.broadcast_to(unit, (*SIZE, 3))


LAYOUTS = list(layouts())


def write(path, written, options):
    options = dict(options)
    order, big = options.pop("byteorder"), options.pop("bigtiff", False)
    with tifffile.TiffWriter(path, byteorder=order, bigtiff=big) as file:
        file.write(np.ascontiguousarray(written), metadata=None, **options)


def further():
    """Yield layouts with tiles, strips, BigTIFF, alpha and every orientation."""
    rgb = next(case for case in LAYOUTS if case[1]["photometric"] == "rgb")
    grey = LAYOUTS[0]
    for written, options, truth in (rgb, grey):
        for more in ({"tile": (16, 16)}, {"rowsperstrip": 7}, {"bigtiff": True}):
            yield written, {**options, **more}, truth
        for orientation in range(1, 9):
            tag = (274, "H", 1, orientation, True)
            yield written, {**options, "extratags": [tag]}, upright(truth, orientation)
    yield from packed()
    deep = next(case for case in LAYOUTS if case[0].ndim == 3 and case[0].dtype == np.uint16)
    for compression in ("lzw", "packbits", "lzma", "zstd"):
        for written, options, truth in (deep, grey, rgb):
            yield written, {**options, "compression": compression}, truth
    planar = next(case for case in LAYOUTS if "planarconfig" in case[1])
    for written, options, truth in (planar, deep):
        for orientation in (2, 4, 5, 6, 8):
            tag = (274, "H", 1, orientation, True)
            more = {"tile": (16, 32), "bigtiff": True, "extratags": [tag]}
            yield written, {**options, **more}, upright(truth, orientation)
    for written, options, truth in (deep, (grey[0][..., None], grey[1], grey[2])):
        top = np.iinfo(written.dtype).max
        both = np.concatenate([written, np.full((*SIZE, 1), top // 3, written.dtype)], axis=2)
        yield both, {**options, "extrasamples": ["unassalpha"], "planarconfig": "contig"}, truth
    written, options, truth = rgb
    for alpha in ("unassalpha", "unspecified"):
        channel = np.full((*SIZE, 1), 200, np.uint8)
        both = np.concatenate([written, channel], axis=2)
        yield both, {**options, "extrasamples": [alpha]}, truth


def packed():
    """Yield one bit a sample, of both meanings, and palettes."""
    generator = np.random.default_rng(1)
    bits = generator.random(SIZE) < 0.5
    for kind in ("minisblack", "miniswhite"):
        light = bits if kind == "minisblack" else ~bits
        truth = np.broadcast_to(light[..., None].astype(float), (*SIZE, 3))
        for compression in (None, "deflate"):
            yield bits, {"photometric": kind, "compression": compression, "byteorder": "<"}, truth
    palette = generator.integers(0, 256, (3, 256), np.uint8)
    indices = generator.integers(0, 256, SIZE, np.uint8)
    options = {"photometric": "palette", "colormap": palette.astype(np.uint16) * 257}
    for order in "<>":
        yield indices, {**options, "byteorder": order}, palette.T[indices] / 255


def upright(truth, orientation):
    """Turn a picture as Pillow does for the EXIF orientation."""
    methods = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
    if orientation == 1:
        return truth
    image = Image.fromarray(np.rint(truth * 255).astype(np.uint8))
    return np.asarray(image.transpose(Image.Transpose(methods[orientation]))) / 255


CASES = LAYOUTS + list(further())


def test_there_are_a_hundred():
    assert len(CASES) >= 100


def distance(picture, truth):
    found = picture.rgb.numpy().transpose(1, 2, 0)
    assert found.shape == truth.shape
    return np.abs(found - truth).max() * 255


@pytest.mark.parametrize("number", range(len(CASES)))
def test_layout(tmp_path, monkeypatch, number):
    written, options, truth = CASES[number]
    if options.get("compression") in ("lzw", "packbits", "zstd"):
        pytest.importorskip("imagecodecs")
    write(tmp_path / "a.tif", written, options)
    assert distance(read_picture(tmp_path / "a.tif"), truth) < 0.01
    monkeypatch.setitem(sys.modules, "tifffile", None)
    try:
        picture = read_picture(tmp_path / "a.tif")
    except ImageError as error:
        words = str(error)
    else:
        assert distance(picture, truth) < 0.01
        words = "tifffile"
    assert any(
        word in words for word in ("tifffile", "floating-point", "not a picture", "TIFF file")
    )


def test_multiplied_alpha_is_taken_out(tmp_path):
    rgba = np.full((*SIZE, 4), (50, 100, 25, 128), np.uint8)
    options = {"photometric": "rgb", "extrasamples": ["assocalpha"], "byteorder": "<"}
    write(tmp_path / "a.tif", rgba, options)
    picture = read_picture(tmp_path / "a.tif")
    assert distance(picture, np.full((*SIZE, 3), np.array([100, 199, 50]) / 255)) <= 1
    assert picture.alpha is not None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.full(SIZE, -5, np.int16), "signed integers"),
        (np.full(SIZE, 7, np.uint32), "32-bit integers"),
        (np.full(SIZE, 7, np.float32), "from 7 to 7"),
        (np.full(SIZE, np.nan, np.float32), "from nan"),
    ],
)
def test_what_cannot_be_read_right_is_refused(tmp_path, values, words):
    write(tmp_path / "a.tif", values, {"photometric": "minisblack", "byteorder": "<"})
    with pytest.raises(ImageError, match=words):
        read_picture(tmp_path / "a.tif")
