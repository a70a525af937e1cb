"""Colours, metadata and resolution of picture files, which results keep."""

import io

import numpy as np
import pytest
from picture_cases import BASE, CASES, NEAR, distance, read, srgb_values
from PIL import Image, ImageCms

from varestorer_core.pictures import to_uint8, write_picture


@pytest.mark.parametrize("name", ["gama_linear8.png", "gama_linear16.png"])
def test_gamma_keeps_the_colours(name):
    # Both hold the light of base.png in linear values, up to their rounding.
    assert distance(srgb_values(read(name)), BASE) <= NEAR
    assert "gamma 1" in read(name).notes[0]


def adobe_space(gamma):
    from varestorer_core.pictures import icc

    return icc.rgb_profile("reference", icc.ADOBE_PRIMARIES, gamma=gamma)


@pytest.mark.parametrize(
    ("name", "primaries", "gamma"),
    [
        ("chrm_adobe.png", ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)), None),
        ("cicp_p3.png", ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06)), None),
        ("adobergb_exif.jpg", ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)), 563 / 256),
    ],
)
def test_other_primaries_become_a_profile(name, primaries, gamma):
    """The light of pure colours, by the profile, is that of the primaries told in the file."""
    picture = read(name)
    assert picture.icc_profile is not None
    decoded = np.asarray(Image.open(CASES / name).convert("RGB"))
    assert np.array_equal(to_uint8(picture.rgb), decoded)
    lab = ImageCms.createProfile("LAB")
    source = ImageCms.ImageCmsProfile(io.BytesIO(picture.icc_profile))
    patches = Image.fromarray(
        np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [128] * 3]], np.uint8)
    )
    found = ImageCms.profileToProfile(patches, source, lab, outputMode="LAB")
    assert found is not None
    found = np.asarray(found)[0].astype(float)
    assert np.abs(found - np.array(list(expected_lab(primaries, gamma)))).max() <= 2


def expected_lab(primaries, gamma):
    """Return Pillow's 8-bit Lab (D50) of red, green, blue, white and middle grey, by the textbook."""

    def xyz(x, y):
        return np.array([x / y, 1, (1 - x - y) / y])

    white = xyz(0.3127, 0.3290)
    columns = np.stack([xyz(*p) for p in primaries], axis=1)
    matrix = columns * np.linalg.solve(columns, white)
    cone = np.array(
        [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
    )
    d50 = np.array([0.9642, 1, 0.8249])
    adapt = np.linalg.inv(cone) @ np.diag((cone @ d50) / (cone @ white)) @ cone
    half = 128 / 255
    half = half**gamma if gamma else ((half + 0.055) / 1.055) ** 2.4
    for rgb in (*np.eye(3), np.ones(3), np.full(3, half)):
        ratio = adapt @ matrix @ rgb / d50
        f = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
        a, b = 500 * (f[0] - f[1]), 200 * (f[1] - f[2])
        a, b = (round(v) % 256 for v in (a, b))  # Pillow holds a and b as signed bytes
        yield [round((116 * f[1] - 16) * 2.55), a, b]


def test_metadata_of_a_camera_file(tmp_path):
    picture = read("adobergb_exif.jpg")
    source = Image.open(CASES / "adobergb_exif.jpg").getexif()
    for name in ("a.jpg", "a.png", "a.tif"):
        write_picture(tmp_path / name, picture.rgb, metadata=picture.metadata)
        result = Image.open(tmp_path / name)
        assert result.info["dpi"] == pytest.approx((300, 300), abs=0.01)
        found = result.getexif()
        for tag in (271, 272, 306, 33432):  # maker, model, date, copyright
            assert found.get(tag) == source.get(tag), (name, tag)
        if name != "a.tif":  # Pillow writes no inner directory into compressed TIFF
            assert found.get_ifd(0x8769).get(0x9003) == source.get_ifd(0x8769).get(0x9003)
        assert found.get(274, 1) == 1


@pytest.mark.parametrize("name", ["dpi300.png", "dpi300_icc.jpg"])
@pytest.mark.parametrize("depth", [8, 16])
def test_resolution_and_profile_are_kept(tmp_path, name, depth):
    picture = read(name)
    target = tmp_path / "a.png"
    write_picture(
        target,
        picture.rgb,
        bit_depth=depth,
        icc_profile=picture.icc_profile,
        metadata=picture.metadata,
    )
    result = Image.open(target)
    assert result.info["dpi"] == pytest.approx((300, 300), abs=0.02)
    source = Image.open(CASES / name)
    assert result.info.get("icc_profile") == source.info.get("icc_profile")
