"""PNG files with sound pixels and damaged or large data beside them."""

import io
import struct
import zlib

import numpy as np
import pytest
from picture_files import chunk, deep_png, samples, srgb_profile
from PIL import Image

from varestorer_core.errors import ImageError
from varestorer_core.pictures import read_picture, to_uint8

PIXELS = samples(12, 9, 3)


def plain():
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "PNG")
    return file.getvalue()


def with_chunk(content, added, after_pixels):
    """Add a chunk after the header, or before the end."""
    place = len(content) - 12 if after_pixels else 33
    return content[:place] + added + content[place:]


def damaged(part):
    """Return a chunk with a wrong checksum."""
    return part[:-4] + bytes(byte ^ 255 for byte in part[-4:])


def read(path, content):
    path.write_bytes(content)
    picture = read_picture(path)
    assert np.array_equal(to_uint8(picture.rgb), PIXELS)
    return picture


LARGE = bytes(3 << 20)
TEXTS = {
    "tEXt": chunk(b"tEXt", b"Comment\0" + b"x" * (2 << 20)),
    "zTXt": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(LARGE)),
    "iTXt": chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(LARGE)),
    "iTXt plain": chunk(b"iTXt", b"Comment\0\0\0\0\0" + b"x" * (2 << 20)),
}


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("name", TEXTS)
def test_large_text_anywhere(tmp_path, name, after):
    read(tmp_path / "a.png", with_chunk(plain(), TEXTS[name], after))


def test_much_text_in_many_chunks(tmp_path):
    part = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1_000_000)))
    read(tmp_path / "a.png", with_chunk(plain(), part * 80, True))


@pytest.mark.parametrize("after", [False, True])
def test_a_large_profile_is_kept(tmp_path, after):
    profile = srgb_profile() + bytes(2 << 20)
    part = chunk(b"iCCP", b"large\0\0" + zlib.compress(profile))
    picture = read(tmp_path / "a.png", with_chunk(plain(), part, after))
    assert picture.icc_profile == profile


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("name", ["tEXt", "pHYs", "iCCP", "gAMA", "eXIf", "tIME", "abCd"])
def test_a_wrong_checksum_beside_the_pixels(tmp_path, name, after):
    content = {
        "pHYs": struct.pack(">IIB", 3000, 3000, 1),
        "iCCP": b"x\0\0" + zlib.compress(srgb_profile()),
        "gAMA": struct.pack(">I", 100_000),
    }.get(name, b"Comment\0abc")
    part = damaged(chunk(name.encode(), content))
    picture = read(tmp_path / "a.png", with_chunk(plain(), part, after))
    assert picture.icc_profile is None
    assert any(name in note for note in picture.notes)


def test_16_bits_and_damage_beside_them(tmp_path):
    array = samples(5, 6, 3, np.uint16)
    extra = damaged(chunk(b"pHYs", struct.pack(">IIB", 3000, 3000, 1)))
    (tmp_path / "a.png").write_bytes(deep_png(array, 2, extra))
    picture = read_picture(tmp_path / "a.png")
    assert picture.bit_depth == 16
    found = np.rint(picture.rgb.numpy().transpose(1, 2, 0) * 65535)
    assert np.array_equal(found, array)


@pytest.mark.parametrize("name", ["png", "jpg", "webp", "bmp", "tif"])
def test_a_damaged_header_is_called_damage(tmp_path, name):
    path = tmp_path / f"a.{name}"
    Image.fromarray(PIXELS).save(path)
    content = bytearray(path.read_bytes())
    content[12:40] = b"\xa5" * 28
    path.write_bytes(content)
    with pytest.raises(ImageError) as caught:
        read_picture(path)
    assert "not a picture" not in str(caught.value)
