"""`varestorer restore`, with a stand-in for the networks: arguments, and pictures of every kind."""

import errno
import re

import numpy as np
import pytest
import torch
from PIL import Image
from restore_command import picture, run

from varestorer_core.cli.main import main
from varestorer_core.pictures import png16, read_picture, to_uint8
from varestorer_core.resize import resize_lanczos
from varestorer_core.settings import RestoreSettings

pytestmark = pytest.mark.usefixtures("networks")


def test_size_is_exactly_what_was_asked_for(tmp_path, capsys):
    source, target = picture(tmp_path / "a.png", size=(7, 5)), tmp_path / "b.png"
    assert run(source, "-o", target, "--upscale", "1.5") == 0
    assert Image.open(target).size == (10, 8)  # 10.5 and 7.5, halves to even
    captured = capsys.readouterr()
    assert "10 x 8" in captured.out
    assert re.search(r"^1 restored in [\d.]+ s, peak memory [\d.]+ GB$", captured.out, re.M)
    assert "bundled tiny model" in captured.err


def test_options_reach_the_pipeline(tmp_path, networks):
    source = picture(tmp_path / "a.png")
    given = "--seed 7 --detail 0.5 --fidelity 2 --overlap 16 --color-match lab --tile-batch 3 --dtype bf16"
    assert run(source, "-o", tmp_path / "b.png", "--upscale", "3", *given.split()) == 0
    expected = RestoreSettings(
        upscale=3.0,
        seed=7,
        detail=0.5,
        fidelity=2.0,
        overlap=16,
        color_match="lab",
        tile_batch=3,
    )
    assert networks.calls == [expected]
    assert networks.loaded[0]["dtype"] == torch.bfloat16
    assert networks.calls[0] == expected


def test_every_kind_of_picture(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    picture(folder / "rgb.png")
    picture(folder / "grey.png", "L")
    picture(folder / "rgba.png", "RGBA")
    picture(folder / "la.png", "LA")
    picture(folder / "palette.png", "P")
    picture(folder / "bilevel.png", "1")
    picture(folder / "cmyk.jpg", "CMYK")
    picture(folder / "photo.webp")
    picture(folder / "photo.tiff")
    picture(folder / "one.png", size=(1, 1))
    picture(folder / "wide.png", size=(4000, 1))
    with (folder / "deep.png").open("wb") as file:
        png16.encode(file, np.full((6, 5, 3), 1000, np.uint16))
    assert run(folder, "-o", out, "--upscale", "2") == 0
    results = {path.name: Image.open(path) for path in out.iterdir()}
    assert len(results) == 12
    for name, result in results.items():
        stem = name.removesuffix(".png").removesuffix("_webp").removesuffix("_tiff")
        source = Image.open(next(folder.glob(f"{stem}.*")))
        assert result.size == (2 * source.width, 2 * source.height)
    modes = {name: result.mode for name, result in results.items()}
    assert (modes["rgba.png"], modes["la.png"]) == ("RGBA", "LA")
    assert modes["grey.png"] == modes["bilevel.png"] == "L"
    deep = read_picture(out / "deep.png")
    assert deep.bit_depth == 16
    assert np.all(np.rint(deep.rgb.numpy() * 65535) == 1000)


def test_alpha_gets_the_size_of_the_result(tmp_path):
    source = picture(tmp_path / "a.png", "RGBA", size=(9, 7))
    assert run(source, "-o", tmp_path / "b.png", "--upscale", "2.5") == 0
    before, after = read_picture(source).alpha, read_picture(tmp_path / "b.png").alpha
    assert np.array_equal(to_uint8(after), to_uint8(resize_lanczos(before, (18, 22))))


def test_what_a_format_cannot_hold_is_said(tmp_path, capsys):
    source = picture(tmp_path / "a.png", "RGBA")
    assert run(source, "-o", tmp_path / "b.jpg") == 0
    assert "note: a.png has transparency, which JPEG cannot hold" in capsys.readouterr().err
    with (tmp_path / "deep.png").open("wb") as file:
        png16.encode(file, np.zeros((4, 4, 3), np.uint16))
    assert run(tmp_path / "deep.png", "-o", tmp_path / "b.webp") == 0
    assert "16 bits per channel, but WEBP is written with 8" in capsys.readouterr().err


def test_profile_is_passed_on(tmp_path):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    source = picture(tmp_path / "a.png", icc_profile=profile)
    assert run(source, "-o", tmp_path / "b.png") == 0
    assert Image.open(tmp_path / "b.png").info["icc_profile"] == profile


def test_comparison_is_written_beside_the_result(tmp_path):
    source = picture(tmp_path / "a.png", size=(40, 30))
    assert run(source, "-o", tmp_path / "out", "--compare") == 0
    sheet = Image.open(tmp_path / "out" / "a_compare.png")
    assert sheet.width == 2 * 80 + 4
    assert sheet.height > 60


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--upscale 0", "must be between 0.25 and 8"),
        ("--upscale -2", "must be between 0.25 and 8"),
        ("--upscale 0.2", "must be between 0.25 and 8"),
        ("--upscale 9", "must be between 0.25 and 8"),
        ("--upscale nan", "must be between 0.25 and 8"),
        ("--upscale big", "invalid number value"),
        ("--detail 1.5", "must be between 0 and 1"),
        ("--fidelity -1", "must be between 0 and 20"),
        ("--seed -1", "must be between 0"),
        ("--overlap -1", "must be between 0 and 512"),
        ("--tile-batch -1", "must be between 0 and 64"),
        ("--dtype fp8", "invalid choice"),
        ("--color-match hue", "invalid choice"),
        ("--prompt dog", "only together with --text-encoder"),
        ("--text-encoder .", "only together with --prompt"),
        ("--text-encoder missing --prompt dog", "--text-encoder missing: no such folder"),
        ("--model missing.pth", "--model missing.pth: no such file"),
        ("--vae missing.pth", "--vae missing.pth: no such file"),
        ("--cleaner missing.ckpt", "--cleaner missing.ckpt: no such file"),
        ("--device gpu", "--device must be"),
        ("missing.png", "missing.png: no such file"),
    ],
)
def test_wrong_arguments_end_before_any_model_is_loaded(
    tmp_path, monkeypatch, networks, capsys, arguments, words
):
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "a.png")
    try:
        code = main(["restore", "a.png", *arguments.split(), "-o", "out"])
    except SystemExit as end:  # argparse's own
        code = end.code
    assert code == 2
    assert words in capsys.readouterr().err
    assert networks.loaded == []
    assert not (tmp_path / "out").exists()


def test_folder_that_cannot_be_written_ends_before_any_model_is_loaded(
    tmp_path, monkeypatch, networks, capsys
):
    def refuse(*_args, **_options):
        raise PermissionError(errno.EACCES, "Permission denied")

    source = picture(tmp_path / "a.png")
    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    assert run(source, "-o", tmp_path) == 2
    assert run(source, "-o", tmp_path / "out") == 2
    assert "Permission denied" in capsys.readouterr().err
    assert networks.loaded == []


def test_metadata_is_kept_or_stripped(tmp_path):
    source = picture(tmp_path / "a.jpg", dpi=(300, 300))
    assert run(source, "-o", tmp_path / "b.png") == 0
    assert run(source, "-o", tmp_path / "c.png", "--strip") == 0
    assert Image.open(tmp_path / "b.png").info["dpi"] == pytest.approx((300, 300), abs=0.1)
    assert "dpi" not in Image.open(tmp_path / "c.png").info


def test_neutral_results_for_colour_files_without_colour(tmp_path):
    Image.open(picture(tmp_path / "g.png", "L")).convert("RGB").save(tmp_path / "a.png")
    assert run(tmp_path / "a.png", "-o", tmp_path / "b.png") == 0
    assert run(tmp_path / "a.png", "-o", tmp_path / "c.png", "--neutral") == 0
    assert [Image.open(tmp_path / n).mode for n in ("b.png", "c.png")] == ["RGB", "L"]


def test_names_formats_and_quality_of_results(tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    picture(folder / "a.png", size=(64, 48))
    picture(folder / "b.png")
    sizes = []
    for quality in ("30", "95"):
        out = tmp_path / quality
        options = ("--format", "jpg", "--quality", quality, "--suffix", "_restored")
        assert run(folder, "-o", out, *options) == 0
        assert sorted(p.name for p in out.iterdir()) == ["a_restored.jpg", "b_restored.jpg"]
        sizes.append((out / "a_restored.jpg").stat().st_size)
    assert 2 * sizes[0] < sizes[1]
    assert "of the time waiting for files" in capsys.readouterr().out
    assert run(folder / "a.png", "-o", tmp_path / "c.png", "--format", "jpg") == 2
    assert "does not agree" in capsys.readouterr().err
    assert run(folder, "-o", tmp_path / "out", "--suffix", "/up") == 2
