"""`varestorer evaluate`, with a stand-in for the networks that only enlarges."""

import json

import numpy as np
import pytest
from PIL import Image

from varestorer_core import degradation
from varestorer_core.cli import evaluate
from varestorer_core.cli.main import main
from varestorer_core.evaluate import cut_square, score
from varestorer_core.loaded import LoadedStages
from varestorer_core.pictures import read_picture
from varestorer_core.resize import enlarge_bicubic, resize_lanczos, target_size
from varestorer_core.restorer import Restorer


class StandIn:
    """Enlarges with a Lanczos filter."""

    def restore(self, rgb, settings, *, on_progress):
        on_progress(1, 1)
        return self.reconstruct(rgb, settings)

    def reconstruct(self, rgb, settings, *, clean=True, **changes):
        upscale = changes.get("upscale", settings.upscale)
        return resize_lanczos(rgb, target_size(*rgb.shape[-2:], upscale))


@pytest.fixture(autouse=True)
def _networks(monkeypatch):
    monkeypatch.setattr(evaluate, "load_models", lambda *_args, **_others: StandIn())


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed, name in enumerate(("a.png", "b.png")):
        samples = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
        Image.fromarray(samples).resize((80, 64), Image.Resampling.BICUBIC).save(folder / name)
    (folder / "notes.txt").touch()
    return folder


def run(*arguments):
    return main(["evaluate", *map(str, arguments), "--device", "cpu"])


def document(capsys):
    lines = capsys.readouterr().out.splitlines()
    return json.loads(lines[-1]), lines[:-1]


def test_table_sheet_and_document(photos, tmp_path, capsys):
    sheet = tmp_path / "new" / "sheet.png"
    assert run(photos, "-o", sheet, "--size", 32, "--seed", 3, "--preset", "mild") == 0
    result, lines = document(capsys)
    assert Image.open(sheet).size == (4 * 32 + 12, 2 * (32 + 24))
    assert lines[0] == "2 photographs of 32 x 32, preset mild, scale 4, seed 3; means"
    assert [line.split()[0] for line in lines[2:8]] == [
        *("bicubic", "lanczos", "restored", "tokenizer", "original,", "restored")
    ]
    assert result["mean"]["tokenizer alone"] == result["mean"]["restored"]
    assert result["mean"]["original, tokenizer"]["psnr"] is None  # the stand-in loses nothing
    assert lines[-1] == f"wrote {sheet}"
    assert list(result["pictures"]) == ["a.png", "b.png"]
    assert (result["preset"], result["scale"], result["size"], result["seed"]) == ("mild", 4, 32, 3)
    assert len(result["files"]["model"]["sha256"]) == 64
    assert result["mean"]["restored"] == result["mean"]["lanczos"]

    original = cut_square(read_picture(photos / "b.png").rgb, 32)
    lq = degradation.degrade(original, "mild", degradation.picture_generator(3, 1), scale=4)
    wanted = score(enlarge_bicubic(lq, (32, 32)), original)
    assert result["pictures"]["b.png"]["bicubic"] == pytest.approx(wanted.as_json())
    both = [result["pictures"][name]["bicubic"]["psnr"] for name in ("a.png", "b.png")]
    assert result["mean"]["bicubic"]["psnr"] == pytest.approx(sum(both) / 2)
    gain = result["restored_minus_bicubic"]["mean"]["gmsd"]
    assert gain == pytest.approx(
        result["mean"]["restored"]["gmsd"] - result["mean"]["bicubic"]["gmsd"]
    )


def test_the_same_run_gives_the_same_numbers(photos, tmp_path, capsys):
    results = []
    for seed in (1, 1, 2):
        assert run(photos, "-o", tmp_path / "x.png", "--size", 32, "--seed", seed) == 0
        results.append(document(capsys)[0]["pictures"])
    assert results[0] == results[1] != results[2]


def test_whole_photographs_beside_cut_ones(photos, tmp_path, capsys):
    sheet = tmp_path / "x.png"
    Image.new("RGB", (96, 96), (9, 90, 190)).save(photos / "c.png")
    assert run(photos, "-o", sheet, "--size", 64, "--whole", "--rows", 2) == 0
    result, lines = document(capsys)
    assert lines[0].startswith("3 photographs of 64 on the shorter side, preset x4")
    assert result["whole"]
    original = read_picture(photos / "a.png").rgb
    lq = degradation.degrade(original, "x4", degradation.picture_generator(0, 0), scale=4)
    wanted = score(enlarge_bicubic(lq, (64, 80)), original)
    assert result["pictures"]["a.png"]["bicubic"] == pytest.approx(wanted.as_json())
    # Two rows of three, the second one padded or not: as wide as the widest, a.png's.
    assert Image.open(sheet).size == (4 * 80 + 12, 2 * (64 + 24))


def test_no_enlargement(photos, tmp_path, capsys):
    arguments = ("-o", tmp_path / "x.png", "--size", 33, "--scale", 1, "--preset", "heavy_jpeg")
    assert run(photos / "a.png", *arguments) == 0
    result, _ = document(capsys)
    assert result["mean"]["bicubic"] == result["mean"]["restored"]
    assert result["restored_minus_bicubic"]["standard_error"]["psnr"] is None  # one picture


def test_photographs_that_cannot_be_measured_are_named(photos, tmp_path, capsys):
    (photos / "c.png").write_bytes(b"no picture")
    Image.new("RGB", (31, 90)).save(photos / "d.png")
    assert run(photos, "-o", tmp_path / "x.png", "--size", 32) == 1
    captured = capsys.readouterr()
    assert "c.png left out" in captured.err
    assert "d.png left out: Expected at least 32 x 32 pixels, got 31 x 90" in captured.err
    assert "1 other files skipped" in captured.err
    assert list(json.loads(captured.out.splitlines()[-1])["pictures"]) == ["a.png", "b.png"]


def test_nothing_left(tmp_path, capsys):
    Image.new("RGB", (8, 8)).save(tmp_path / "small.png")
    assert run(tmp_path, "-o", tmp_path / "x" / "x.png") == 1
    assert "None of the photographs" in capsys.readouterr().err


def test_scikit_image(tmp_path, capsys):
    pytest.importorskip("skimage", reason="scikit-image is not installed")
    assert run("--scikit-image", "-o", tmp_path / "x.png", "--size", 32) == 0
    result, _ = document(capsys)
    assert len(result["pictures"]) >= 8
    assert "astronaut.png" in result["pictures"]


def test_missing_photographs_are_said(tmp_path, capsys, photos, monkeypatch):
    some = [photos / "a.png"], ["rocket.jpg"]
    monkeypatch.setattr("varestorer_core.evaluate.scikit_image_photographs", lambda: some)
    assert run("--scikit-image", "-o", tmp_path / "x.png", "--size", 32) == 0
    assert "does not contain rocket.jpg; using the other 1" in capsys.readouterr().err


def test_multi_step(photos, tmp_path, capsys, monkeypatch, make_transformer, make_tokenizer):
    restorer = Restorer(LoadedStages(make_transformer(lq_prior=True), make_tokenizer()))
    monkeypatch.setattr(evaluate, "load_models", lambda *_args, **_others: restorer)
    sheet = tmp_path / "sheet.png"
    assert run(photos, "-o", sheet, "--size", 64, "--multi-step", "--overlap", 16) == 0
    result, lines = document(capsys)
    names = ["restored", "multi-step, cached", "multi-step, refed"]
    ceiling = ["tokenizer alone", "original, tokenizer"]
    assert list(result["mean"]) == ["bicubic", "lanczos", *names, *ceiling]
    assert list(result["transformer_seconds_per_tile"]) == names
    assert result["transformer_times_the_one_pass"]["restored"] == 1
    assert sum("s per tile in the transformer" in line for line in lines) == 3
    assert Image.open(sheet).size[0] == 6 * 64 + 5 * 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Specify either photographs"),
        (["photos", "--scikit-image"], "Specify either photographs"),
        (["nowhere"], "no such file or folder"),
        (["empty"], "no pictures in empty"),
        (["photos", "--size", "34"], "must be a multiple of --scale 4"),
        (["photos", "--multi-step", "--detail", "1"], "uses the most likely bits"),
        (["photos", "-o", "sheet.xyz"], "the name must end in"),
        (["photos", "-o", "photos/a.png"], "one of the inputs"),
        (["photos", "--model", "nothing.pth"], "--model nothing.pth: no such file"),
    ],
)
def test_wrong_usage(photos, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(photos.parent)
    (photos.parent / "empty").mkdir()
    assert run(*arguments) == 2
    assert words in capsys.readouterr().err
