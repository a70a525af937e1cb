"""Camera raw files, whole and damaged: a picture, a note, or one sentence, and nothing on the terminal."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from varestorer_core.cli.main import main
from varestorer_core.errors import ImageError
from varestorer_core.pictures import raw, read_picture

CAMERA = Path(__file__).parents[1] / "data" / "pictures" / "camera.dng"


@pytest.fixture(autouse=True)
def _rawpy():
    pytest.importorskip("rawpy")
    pytest.importorskip("tifffile")


def test_it_is_developed_as_rawpy_does():
    import rawpy

    with rawpy.imread(str(CAMERA)) as file:
        wanted = file.postprocess(use_camera_wb=True, output_bps=16, gamma=(2.4, 12.92))
    found = read_picture(CAMERA)
    assert found.bit_depth == 16
    assert np.array_equal((found.rgb.movedim(0, -1).numpy() * 65535).round(), wanted)


@pytest.mark.parametrize("name", ["a.dng", "a.tif", "a.nef"])
def test_a_file_that_ends_too_early_is_one_sentence(tmp_path, capfd, name):
    content = CAMERA.read_bytes()
    path = tmp_path / name
    path.write_bytes(content[: len(content) * 3 // 4])
    with pytest.raises(ImageError) as caught:
        read_picture(path)
    assert str(caught.value).isprintable()
    assert capfd.readouterr() == ("", "")


def program(tmp_path, monkeypatch, code):
    path = tmp_path / "program.py"
    path.write_text(code)
    monkeypatch.setattr(raw, "_PROGRAM", path)


def test_a_decoder_that_crashes_is_one_sentence(tmp_path, monkeypatch, capfd):
    program(tmp_path, monkeypatch, "import os; os.abort()")
    with pytest.raises(ImageError, match=r"cannot develop \(its decoder was ended by signal"):
        read_picture(CAMERA)
    assert capfd.readouterr() == ("", "")


def test_a_decoder_that_stops_in_the_middle_is_one_sentence(tmp_path, monkeypatch):
    program(
        tmp_path,
        monkeypatch,
        'import sys; print(\'{"shape": [4, 4, 3]}\'); print("x"); sys.exit("ended")',
    )
    with pytest.raises(ImageError, match=r"\(ended\)"):
        read_picture(CAMERA)


def test_what_libraw_says_of_damaged_data_is_a_note(tmp_path, monkeypatch, capfd):
    program(
        tmp_path,
        monkeypatch,
        "import sys\n"
        "print('a.dng: data corrupted at 77', file=sys.stderr)\n"
        "print('{\"shape\": [2, 2, 3]}', flush=True)\n"
        "sys.stdout.buffer.write(bytes(24))\n",
    )
    assert "has damaged data" in read_picture(CAMERA).notes[1]
    assert capfd.readouterr() == ("", "")


def test_the_size_is_checked_before_anything_is_developed(tmp_path, monkeypatch):
    program(
        tmp_path,
        monkeypatch,
        'import sys; print(\'{"width": 90000, "height": 90000}\', flush=True)\n'
        "if sys.stdin.readline(): open('developed', 'w')\n",
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImageError, match="too many pixels"):
        read_picture(CAMERA)
    assert not (tmp_path / "developed").exists()


def test_the_rest_of_the_folder_is_done(tmp_path, capfd):
    source = tmp_path / "in"
    source.mkdir()
    content = CAMERA.read_bytes()
    (source / "a.dng").write_bytes(content[:100_000])
    shutil.copy(CAMERA.with_name("sky.png"), source)
    assert main(["restore", str(source), "-o", str(tmp_path / "out"), "--upscale", "1"]) == 1
    said = capfd.readouterr().err
    assert len([line for line in said.splitlines() if "a.dng" in line]) == 1
    assert (tmp_path / "out" / "sky.png").exists()
