"""`varestorer degrade`."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from varestorer_core import degradation
from varestorer_core.cli import degrade
from varestorer_core.cli.main import main
from varestorer_core.pictures import read_picture, to_uint8


def picture(path, mode="RGB", size=(20, 12)):
    generator = np.random.default_rng(len(path.name))
    image = Image.fromarray(generator.integers(0, 256, (size[1], size[0], 4), np.uint8))
    image.convert(mode).save(path)
    return path


def run(*arguments):
    return main(["degrade", *map(str, arguments)])


def test_presets_are_those_of_the_library():
    assert tuple(degradation.PRESETS) == degrade.PRESETS


def test_presets_are_documented():
    docs = Path(__file__).parents[2] / "docs"
    pages = [
        (docs / name).read_text(encoding="utf-8") for name in ("command-line.md", "evaluation.md")
    ]
    for name in degradation.PRESETS:
        assert all(f"`{name}`" in page for page in pages)


def test_one_picture(tmp_path, capsys):
    source, target = picture(tmp_path / "a.png"), tmp_path / "lq.png"
    assert run(source, "-o", target, "--preset", "x4", "--seed", 5, "--scale", 4) == 0
    out = capsys.readouterr().out
    assert f"{source} -> {target}  5 x 3  " in out
    assert "\n1 degraded\n" in out
    wanted = degradation.degrade(
        read_picture(source).rgb, "x4", degradation.picture_generator(5, 0), scale=4
    )
    assert np.array_equal(np.asarray(Image.open(target)), to_uint8(wanted))
    torch.testing.assert_close(read_picture(target).rgb, wanted)


def test_folder(tmp_path, capsys):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in ("a.png", "b.png", "b.bmp"):
        picture(folder / name)
    (folder / "notes.txt").touch()
    arguments = (folder, "--preset", "real", "--seed", 1)
    assert run(*arguments, "-o", out) == 0
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "b.png", "b_png.png"]
    assert "3 degraded, 1 other file skipped" in capsys.readouterr().out
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    assert run(*arguments, "-o", out) == 0
    assert first == {path.name: path.read_bytes() for path in out.iterdir()}
    assert all(Image.open(path).size == (20, 12) for path in out.iterdir())


def test_jpg_in_a_folder(tmp_path, capsys):
    source = picture(tmp_path / "a.png", "RGBA")
    assert run(source, "-o", tmp_path / "out", "--preset", "mild", "--format", "jpg") == 0
    assert Image.open(tmp_path / "out" / "a.jpg").format == "JPEG"
    assert "has transparency, which JPEG cannot hold" in capsys.readouterr().err


def test_transparency_is_kept_and_takes_the_size(tmp_path):
    source = picture(tmp_path / "a.png", "RGBA")
    assert run(source, "-o", tmp_path / "b.png", "--preset", "rain", "--scale", 2) == 0
    result = read_picture(tmp_path / "b.png")
    assert result.size == (6, 10)
    assert result.alpha is not None


def test_damaged_pictures_do_not_stop_the_others(tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"no picture")
    source = picture(folder / "b.png")
    assert run(folder, "-o", tmp_path / "out", "--preset", "x4") == 1
    captured = capsys.readouterr()
    assert "a.png failed: " in captured.err
    assert "1 degraded, 1 failed" in captured.out
    # The second picture keeps the random numbers of its index.
    wanted = degradation.degrade(
        read_picture(source).rgb, "x4", degradation.picture_generator(0, 1)
    )
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "b.png")), to_uint8(wanted))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing.png", "-o", "x.png", "--preset", "x4"], "no such file or folder"),
        (["a.png", "-o", "a.png", "--preset", "x4"], "would be overwritten"),
        (["a.png", "-o", "x.png", "--preset", "x4", "--format", "jpg"], "does not agree with"),
    ],
)
def test_wrong_usage(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    picture(Path("a.png"))
    assert run(*arguments) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--preset", "nonsense"], "invalid choice"),
        (["--preset", "x4", "--scale", "0.5"], "between 1 and 64"),
        (["--preset", "x4", "--scale", "nan"], "between 1 and 64"),
        (["--preset", "x4", "--seed", "-1"], "between 0"),
        ([], "--preset"),
    ],
)
def test_wrong_options(capsys, arguments, words):
    with pytest.raises(SystemExit) as end:
        run("a.png", "-o", "b.png", *arguments)
    assert end.value.code == 2
    assert re.search(re.escape(words), capsys.readouterr().err)


def test_a_set_is_continued(tmp_path, capsys):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for number in range(4):
        image = Image.effect_noise((24, 20), 60 + number).convert("RGB")
        image.save(tmp_path / "in" / ("deep" if number % 2 else "") / f"{number}.png")
    arguments = ["degrade", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--preset", "x4"]
    arguments += ["--recursive", "--skip-existing"]
    assert main(arguments) == 0
    before = {p: p.read_bytes() for p in (tmp_path / "out").rglob("*.png")}
    assert len(before) == 4
    next(iter(before)).unlink()
    capsys.readouterr()
    assert main(arguments) == 0
    assert "1 degraded, 3 already done" in capsys.readouterr().out
    assert {p: p.read_bytes() for p in (tmp_path / "out").rglob("*.png")} == before
    assert main([*arguments, "--seed", "1"]) == 0
    assert "4 degraded" in capsys.readouterr().out
