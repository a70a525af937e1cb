"""JPEG files whose header declares more rows than there are, and messages of the system with advice."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from varestorer_core.checkpoint import read_checkpoint
from varestorer_core.cli.main import main
from varestorer_core.errors import CheckpointError, ImageError
from varestorer_core.pictures import read_picture


def jpeg(height, declared, **options):
    """Return a JPEG file of smooth pixels whose header declares another height."""
    rows, columns = np.mgrid[:height, :48]
    pixels = np.stack([rows * 2 % 256, columns * 5, rows + columns], -1).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90, **options)
    content = bytearray(buffer.getvalue())
    frame = max(content.find(b"\xff\xc0"), content.find(b"\xff\xc2"))
    content[frame + 5 : frame + 7] = struct.pack(">H", declared)
    return bytes(content)


@pytest.mark.parametrize("progressive", [False, True])
def test_rows_that_only_the_header_has(tmp_path, progressive):
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(64, 64, progressive=progressive))
    assert read_picture(path).notes == ()
    path.write_bytes(jpeg(64, 640, progressive=progressive))
    with pytest.raises(ImageError, match="of its 640 rows are missing"):
        read_picture(path)
    path.write_bytes(jpeg(240, 256, progressive=progressive))
    assert any("ends too early" in note for note in read_picture(path).notes)


def test_a_complete_picture_with_a_plain_border_has_no_note(tmp_path):
    path = tmp_path / "a.jpg"
    Image.new("RGB", (64, 64), "teal").save(path)
    assert read_picture(path).notes == ()


def test_links_to_themselves_are_named(tmp_path, capsys):
    path = tmp_path / "loop.pth"
    try:
        path.symlink_to(path)
    except OSError:
        pytest.skip("links are not permitted")
    with pytest.raises(
        CheckpointError, match="is a link to a file that does not exist, or to itself"
    ):
        read_checkpoint(path)
    with pytest.raises(ImageError, match=r"The link leads back to itself|does not exist"):
        read_picture(path)
    assert main(["inspect", str(path)]) == 1
    assert "Replace it by the file." in capsys.readouterr().err


def test_a_missing_permission_comes_with_advice(tmp_path, monkeypatch):
    path = tmp_path / "a.pth"
    path.write_bytes(b"x")

    def closed(*_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.open", closed)
    for read, error in ((read_checkpoint, CheckpointError), (read_picture, ImageError)):
        with pytest.raises(error, match=r"Permission denied\. Check the permissions of the file"):
            read(path)
