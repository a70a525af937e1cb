"""Metadata of the picture that is restored, turned with it, in every format that holds it."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from picture_cases import BASE, CASES, read
from PIL import Image

from varestorer_core.pictures import read_picture, write_picture

PIXELS = BASE.astype(np.uint8)


@pytest.mark.parametrize("orientation", [1, 3, 5, 6, 8])
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "raw.tif"])
def test_resolution_is_turned_with_the_picture(tmp_path, name, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    options = {"compression": "tiff_lzw"} if name == "a.tif" else {}
    if name == "a.webp":
        exif[282], exif[283], exif[296] = 300.0, 600.0, 2
    Image.fromarray(PIXELS).save(tmp_path / name, dpi=(300, 600), exif=exif, **options)
    wanted = (600, 300) if orientation in (5, 6, 8) else (300, 600)
    assert read_picture(tmp_path / name).metadata.dpi == pytest.approx(wanted, abs=0.1)


@pytest.mark.parametrize("name", ["dpi300.png", "adobergb_exif.jpg"])
def test_webp_holds_the_resolution_in_its_exif_data(tmp_path, name):
    picture = read(name)
    metadata = replace(picture.metadata, dpi=(300, 240))
    write_picture(tmp_path / "a.webp", picture.rgb, metadata=metadata)
    found = read_picture(tmp_path / "a.webp").metadata
    assert found.dpi == pytest.approx((300, 240), abs=0.01)
    source = Image.open(CASES / name).getexif()
    kept = Image.open(tmp_path / "a.webp").getexif()
    assert kept.get(271) == source.get(271)
    assert kept.get_ifd(0x8769).get(0x9003) == source.get_ifd(0x8769).get(0x9003)


def test_metadata_of_the_page_that_is_restored(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    large = np.asarray(Image.fromarray(PIXELS).resize((256, 200)))
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        tags = [(315, "s", 0, "of the preview", True), (33432, "s", 0, "owner", True)]
        options = {"photometric": "rgb", "resolutionunit": "inch", "metadata": None}
        small = {"subfiletype": 1, "resolution": (72, 72), "extratags": tags}
        file.write(large[::8, ::8], **small, **options)
        tags = [(315, "s", 0, "of the picture", True)]
        file.write(large, resolution=(300, 300), extratags=tags, **options)
    picture = read_picture(tmp_path / "a.tif")
    assert picture.metadata.dpi == (300, 300)
    assert picture.metadata.exif is not None
    assert b"of the picture" in picture.metadata.exif
    assert b"of the preview" not in picture.metadata.exif


@pytest.mark.parametrize("name", ["camera.dng", "camera_1ds.tif"])
def test_metadata_of_a_raw_file(tmp_path, name):
    pytest.importorskip("rawpy")
    pytest.importorskip("tifffile")
    shutil.copy(CASES / "camera.dng", tmp_path / name)
    found = read_picture(tmp_path / name).metadata
    assert found.exif is not None
    assert b"tifffile.py" in found.exif  # the software
    assert found.dpi is None  # that of the preview
