"""JPEG files that end too early: restored with a note that says how much is missing, or rejected."""

import io

import numpy as np
import pytest
from picture_cases import BASE, CASES
from PIL import Image

from varestorer_core.errors import ImageError
from varestorer_core.pictures import read_picture
from varestorer_core.pictures.jpeg_scans import read_frame

PHOTO = Image.fromarray(BASE.astype(np.uint8)).resize((384, 256), Image.Resampling.BICUBIC)


def jpeg(mode="RGB", **options):
    file = io.BytesIO()
    PHOTO.convert(mode).save(file, "JPEG", quality=92, **options)
    return file.getvalue()


def cut(path, content, kept):
    path.write_bytes(content[: round(len(content) * kept)])
    return path


def error(path, content):
    """Return the mean difference from the whole file."""
    found = read_picture(path).rgb.numpy().transpose(1, 2, 0) * 255
    return np.abs(found - np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))).mean()


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("kept", [0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 0.97, 0.999])
def test_a_progressive_file_is_read_only_if_nearly_the_same(tmp_path, mode, kept):
    content = jpeg(mode, progressive=True)
    path = cut(tmp_path / "a.jpg", content, kept)
    try:
        picture = read_picture(path)
    except ImageError as refused:
        words, accepted = str(refused), False
    else:
        words, accepted = " ".join(picture.notes), True
        assert error(path, content) < 3
    assert accepted or "damaged" in words
    assert accepted is (kept >= 0.7) or 0.1 < kept < 0.7
    assert not accepted or "ends too early" in words


def test_the_note_says_how_much_is_missing(tmp_path):
    path = cut(tmp_path / "a.jpg", jpeg(progressive=True), 0.75)
    assert "of 66% of its details, the last bit is missing" in read_picture(path).notes[0]
    path = cut(tmp_path / "b.jpg", jpeg(), 0.97)
    assert "of 256 rows are filled in" in read_picture(path).notes[0]
    for kept, words in ((0.5, "of its 256 rows are missing"), (0.003, "damaged or incomplete")):
        with pytest.raises(ImageError, match=words):
            read_picture(cut(tmp_path / "c.jpg", jpeg(), kept))
    with pytest.raises(ImageError, match="% of its details are missing"):
        read_picture(cut(tmp_path / "d.jpg", jpeg(progressive=True), 0.1))


def test_what_the_scans_hold():
    """The colours come in scans of their own: a file that ends in the last of them lacks colours in every row."""
    frame = read_frame(jpeg(progressive=True))
    assert frame is not None
    assert (frame.height, frame.width, frame.num_components) == (256, 384, 3)
    assert frame.missing_bits(len(frame.scans)).max() == 0
    luma_only = frame.missing_bits(2)
    assert luma_only[:, 0].max() <= 1
    assert luma_only[0, 1:6].max() <= 2
    assert luma_only[1:, 1:].min() > 2


def test_cmyk_is_converted_whatever_colours_its_exif_data_mark(tmp_path):
    exif = Image.open(CASES / "adobergb_exif.jpg").info["exif"]
    Image.new("CMYK", (8, 8), (0, 255, 0, 0)).save(tmp_path / "a.jpg", exif=exif)
    picture = read_picture(tmp_path / "a.jpg")
    assert picture.icc_profile is None
    assert not any("Adobe" in note for note in picture.notes)
