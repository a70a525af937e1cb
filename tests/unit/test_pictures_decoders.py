"""Whatever a decoder raises, it is one sentence about its picture."""

import pytest
from PIL import Image

from varestorer_core.distill.decode import open_picture, picture_files, picture_size
from varestorer_core.errors import ImageError
from varestorer_core.pictures import opening, read_picture, reading


def test_a_panic_of_a_decoder_in_rust_is_one_sentence(tmp_path, monkeypatch):
    """PyO3 raises it as no Exception, so that it would end everything."""

    class PanicException(BaseException):
        pass

    def panic(*_, **__):
        raise PanicException("index out of bounds")

    path = tmp_path / "a.png"
    Image.new("RGB", (4, 4)).save(path)
    monkeypatch.setattr(opening.Image, "open", panic)
    for read in (read_picture, open_picture, picture_size):
        with pytest.raises(ImageError, match="index out of bounds"):
            read(path)

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(reading, "_read", stop)
    with pytest.raises(KeyboardInterrupt):
        read_picture(path)


def test_a_picture_that_memory_does_not_suffice_for_is_one_sentence(tmp_path, monkeypatch):
    def full(*_):
        raise MemoryError

    path = tmp_path / "a.png"
    Image.new("RGB", (4, 4)).save(path)
    monkeypatch.setattr(reading, "_read", full)
    with pytest.raises(ImageError, match="not enough memory"):
        read_picture(path)


def test_hidden_files_are_no_training_pictures(tmp_path):
    for name in ("a.jpg", "._a.jpg"):  # macOS writes the second beside the first
        (tmp_path / name).touch()
    assert picture_files(tmp_path) == [tmp_path / "a.jpg"]
