"""Picture files as written by other programs, and the pictures that must be read from them."""

import io
import os
import shutil
import sys
import zlib

import numpy as np
import pytest
import torch
from picture_cases import BASE, CASES, GREY, NEAR, distance, read, values
from PIL import Image

from varestorer_core.errors import ImageError
from varestorer_core.pictures import read_picture, to_uint8


@pytest.mark.parametrize(
    ("name", "truth", "grey", "bits", "alpha"),
    [
        ("base.png", BASE, False, 8, False),
        ("rgb16_planar.tif", BASE, False, 16, False),
        ("rgba16_planar.tif", BASE, False, 16, True),
        ("rgb16planar_be_raw_strip.tif", BASE, False, 16, False),
        ("miniswhite16.tif", GREY, True, 16, False),
        ("gray12.tif", GREY, True, 16, False),
        ("ga16_le_raw_strip.tif", GREY, True, 16, True),
        ("rgb32f.tif", BASE, False, 16, False),
        ("gray32f.tif", GREY, True, 16, False),
        ("rgb16.ppm", BASE, False, 16, False),
        ("big_ztxt.png", BASE, False, 8, False),
        ("pages.tif", BASE, False, 8, False),
        ("dpi300.png", BASE, False, 8, False),
    ],
)
def test_same_picture(name, truth, grey, bits, alpha):
    if name.endswith(".tif"):
        pytest.importorskip("imagecodecs" if "12" in name else "tifffile")
    picture = read(name)
    wanted = truth if truth.ndim == 3 else np.repeat(truth[..., None], 3, axis=2)
    assert distance(values(picture), wanted) <= NEAR
    assert (picture.grey, picture.bit_depth) == (grey, bits)
    assert (picture.alpha is not None) == alpha


def test_without_imagecodecs_packed_bits_are_refused(monkeypatch):
    tifffile = pytest.importorskip("tifffile")

    def asarray(page):
        raise NotImplementedError("packints_decode requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TiffPage, "asarray", asarray)
    with pytest.raises(ImageError, match=r"12 bits.*pip install imagecodecs"):
        read("gray12.tif")


def test_the_mean_of_12_bits():
    pytest.importorskip("imagecodecs")
    assert read("gray12.tif").rgb.mean().item() == pytest.approx(0.511, abs=0.001)


@pytest.mark.parametrize(
    ("name", "grey", "bits", "alpha"),
    [
        ("tiff_grey8_orient6.tif", True, 8, False),
        ("tiff_grey16_orient6.tif", True, 16, False),
        ("tiff_rgba_orient6.tif", False, 8, True),
    ],
)
def test_sides_are_swapped_once(name, grey, bits, alpha):
    pytest.importorskip("tifffile")
    picture = read(name)
    truth = np.rot90(GREY if grey else BASE, -1)
    truth = np.repeat(truth[..., None], 3, axis=2) if grey else truth
    assert picture.size == (96, 64)
    assert distance(values(picture), truth) <= NEAR
    assert (picture.grey, picture.bit_depth, picture.alpha is not None) == (grey, bits, alpha)


@pytest.mark.parametrize("name", ["camera.dng", "camera_1ds.tif", "camera.nef"])
def test_without_rawpy_raw_files_are_refused(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, "rawpy", None)
    shutil.copy(CASES / "camera.dng", tmp_path / name)
    with pytest.raises(ImageError, match=r"camera raw file|more than its first page"):
        read_picture(tmp_path / name)


@pytest.mark.parametrize("name", ["camera.dng", "camera_1ds.tif", "camera.nef"])
def test_the_preview_of_a_raw_file_is_never_the_picture(tmp_path, name):
    pytest.importorskip("tifffile")
    shutil.copy(CASES / "camera.dng", tmp_path / name)
    pytest.importorskip("rawpy")
    assert read_picture(tmp_path / name).size == (256, 256)


def test_the_larger_page_is_read(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    large = np.asarray(Image.fromarray(BASE.astype(np.uint8)).resize((256, 200)))
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(large[::8, ::8], photometric="rgb", subfiletype=1)
        file.write(large, photometric="rgb")
    picture = read_picture(tmp_path / "a.tif")
    assert np.array_equal(to_uint8(picture.rgb), large)
    assert "reduced" in picture.notes[0]


def test_the_case_of_a_reduced_page():
    tifffile = pytest.importorskip("tifffile")
    with tifffile.TiffFile(CASES / "reduced_first.tif") as file:
        pages = [page.asarray() for page in file.pages]
    large = max(pages, key=lambda page: page.size)
    assert large is not pages[0]
    assert np.array_equal(to_uint8(read("reduced_first.tif").rgb), large)


def test_of_several_pages_the_first_is_read_and_said():
    assert "only the first is restored" in read("pages.tif").notes[0]


TAIL = bytes.fromhex(
    "d2f2c2f2ea4b8fecab98bceb681198910c5bc9915141da30f9c01cd7d75e514958fcaa566db3ffd9"
)
"""The missing part of trunc_tail.jpg."""


def test_a_file_cut_at_its_end_is_read_and_said():
    """As the whole file is decoded, whose compression alone is off by 4.2 of 255 from the original."""
    picture = read("trunc_tail.jpg")
    assert "ends too early" in picture.notes[0]
    whole = io.BytesIO((CASES / "trunc_tail.jpg").read_bytes() + TAIL)
    wanted = np.asarray(Image.open(whole)).astype(float)
    assert distance(values(picture), wanted) <= NEAR
    assert np.array_equal(to_uint8(picture.rgb)[:47], wanted[:47])  # but for the last row of blocks


def test_a_png_that_ends_before_its_last_row_is_refused(tmp_path):
    """Pillow silently leaves missing rows black."""
    for mode in ("RGB", "RGBA", "L", "P"):
        file = io.BytesIO()
        Image.fromarray(BASE.astype(np.uint8)).convert(mode).save(file, "PNG")
        content = bytearray(file.getvalue())
        content[20:24] = (70).to_bytes(4, "big")  # six rows more than there are
        content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
        (tmp_path / "a.png").write_bytes(content)
        with pytest.raises(ImageError, match="a part of the picture is missing"):
            read_picture(tmp_path / "a.png")
        black = Image.new(mode, (20, 30))
        black.save(tmp_path / "black.png")
        assert read_picture(tmp_path / "black.png").size == (30, 20)


def test_grey_and_fax_are_grey():
    for name in ("grey_photo.png", "text_g4.tif"):
        picture = read(name)
        assert picture.grey
        assert torch.equal(picture.rgb[0], picture.rgb[1])
        assert torch.equal(picture.rgb[0], picture.rgb[2])
    fax = np.asarray(Image.open(CASES / "text_g4.tif").convert("L"))
    assert np.array_equal(to_uint8(read("text_g4.tif").rgb)[..., 0], fax)


def test_an_empty_alpha_channel_counts_as_opaque():
    picture = read("tga32_noalpha.tga")
    assert picture.alpha is None
    assert "wholly transparent" in picture.notes[0]


def test_hidden_colours_do_not_reach_the_rim():
    """A light disc with black hidden around it, on white: as bright as a premultiplied resize."""
    from varestorer_core.resize import resize_lanczos

    picture = read("cutout_hidden_black.png")
    size = (192, 192)
    alpha = resize_lanczos(picture.alpha, size)
    on_white = resize_lanczos(picture.rgb, size) * alpha + 1 - alpha
    # The disc has one colour, so multiplying alpha in, resizing and compositing gives this, but for clipping.
    color = torch.tensor([235, 225, 210]) / 255
    wanted = color[:, None, None] * alpha + 1 - alpha
    assert (on_white - wanted).min() > -4 / 255


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes have names on Unix only")
def test_pipes_and_devices_are_refused(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(ImageError, match="is a pipe"):
        read_picture(tmp_path / "a.png")
    with pytest.raises(ImageError, match="device"):
        read_picture("/dev/zero")


def test_postscript_is_never_opened(tmp_path):
    (tmp_path / "a.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    )
    with pytest.raises(ImageError, match="not a picture in a supported format"):
        read_picture(tmp_path / "a.png")


def test_heic_is_read_or_refused_with_the_way_out(tmp_path, monkeypatch):
    from varestorer_core.pictures import opening

    heif = pytest.importorskip("pillow_heif")
    heif.from_pillow(Image.fromarray(BASE.astype(np.uint8))).save(tmp_path / "a.heic", quality=95)
    assert distance(values(read_picture(tmp_path / "a.heic")), BASE) < 6
    monkeypatch.setattr(opening, "_registered", list)
    with pytest.raises(ImageError, match="pip install pillow-heif"):
        read_picture(tmp_path / "a.heic")


def test_jxl_is_read_or_refused_with_the_way_out(tmp_path, monkeypatch):
    from varestorer_core.pictures import opening

    pytest.importorskip("pillow_jxl")
    Image.fromarray(BASE.astype(np.uint8)).save(tmp_path / "a.jxl", lossless=True)
    assert distance(values(read_picture(tmp_path / "a.jxl")), BASE) == pytest.approx(0, abs=0.01)
    (tmp_path / "b.jxl").write_bytes((tmp_path / "a.jxl").read_bytes()[:200])
    with pytest.raises(ImageError, match="damaged") as caught:
        read_picture(tmp_path / "b.jxl")
    assert str(caught.value).isprintable()  # its decoder's reason has several lines
    monkeypatch.setattr(opening, "_registered", list)
    with pytest.raises(ImageError, match="pip install pillow-jxl-plugin"):
        read_picture(tmp_path / "a.jxl")


def test_tifffile_logs_nothing(tmp_path, caplog):
    tifffile = pytest.importorskip("tifffile")
    odd = tmp_path / "a.tif"
    tifffile.imwrite(odd, BASE.astype(np.uint8), photometric="rgb", extratags=[(50000, "H", 1, 7)])
    content = odd.read_bytes()
    entry = (50000).to_bytes(2, "little")
    place = content.index(entry + b"\3\0")
    odd.write_bytes(content[: place + 2] + b"\xff\x2d" + content[place + 4 :])  # no such type
    read_picture(odd)
    assert not caplog.records
    with tifffile.TiffFile(odd) as file:  # others may log as they like
        assert file.pages[0].tags
    assert caplog.records
