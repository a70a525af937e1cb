"""`varestorer restore`, with a stand-in for the networks that only enlarges."""

import errno
import re

import numpy as np
import pytest
import torch
from PIL import Image

from varestorer_core.cli import restore
from varestorer_core.cli.main import main
from varestorer_core.errors import VARestorerError
from varestorer_core.pictures import png16, read_picture, to_uint8
from varestorer_core.resize import resize_lanczos, target_size
from varestorer_core.settings import RestoreSettings

pytestmark = pytest.mark.usefixtures("networks")


class StandIn:
    """Restores a picture by enlarging it, and remembers how it was called."""

    def __init__(self):
        self.calls = []
        self.error = None

    def restore(self, rgb, settings, *, on_progress):
        self.calls.append(settings)
        if self.error is not None:
            raise self.error
        on_progress(1, 2)
        on_progress(2, 2)
        return resize_lanczos(rgb, target_size(*rgb.shape[-2:], settings.upscale))


@pytest.fixture
def networks(monkeypatch):
    stand_in = StandIn()
    loaded = []

    def load_models(files, settings, **others):
        loaded.append({"files": files, "settings": settings, **others})
        return stand_in

    monkeypatch.setattr(restore, "load_models", load_models)
    stand_in.loaded = loaded
    return stand_in


def picture(path, mode="RGB", size=(20, 12), **options):
    generator = np.random.default_rng(0)
    image = Image.fromarray(generator.integers(0, 256, (size[1], size[0], 4), np.uint8))
    image.convert(mode).save(path, **options)
    return str(path)


def run(*arguments):
    return main(["restore", *map(str, arguments), "--device", "cpu"])


def test_size_is_exactly_what_was_asked_for(tmp_path, capsys):
    source, target = picture(tmp_path / "a.png", size=(7, 5)), tmp_path / "b.png"
    assert run(source, "-o", target, "--upscale", "1.5") == 0
    assert Image.open(target).size == (10, 8)  # 10.5 and 7.5, halves to even
    captured = capsys.readouterr()
    assert "10 x 8" in captured.out
    assert re.search(r"^1 restored in [\d.]+ s, peak memory [\d.]+ GB$", captured.out, re.M)
    assert "bundled tiny model" in captured.err
    assert "a.png" in captured.err  # the progress bar


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
    assert networks.loaded[0]["settings"] == expected


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
    assert "16 bits per channel, written as WEBP with 8" in capsys.readouterr().err


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


def test_one_bad_picture_does_not_stop_the_others(tmp_path, capsys):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    picture(folder / "a.png")
    (folder / "b.png").write_bytes((folder / "a.png").read_bytes()[:200])
    (folder / "c.png").write_text("not a picture")
    (folder / "readme.txt").write_text("skipped")
    picture(folder / "d.png")
    assert run(folder, "-o", out) == 1
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "d.png"]
    captured = capsys.readouterr()
    assert "varestorer: b.png failed:" in captured.err
    assert "damaged or incomplete" in captured.err
    assert "varestorer: c.png failed:" in captured.err
    assert "2 restored, 2 failed, 1 other files skipped" in captured.out


def test_full_disk_leaves_no_half_file(tmp_path, monkeypatch, capsys):
    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    source = picture(tmp_path / "a.png")
    monkeypatch.setattr("varestorer_core.atomic.os.fsync", full)
    assert run(source, "-o", tmp_path / "out") == 1
    assert list((tmp_path / "out").iterdir()) == []
    assert "the disk is full" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("CUDA out of memory"), VARestorerError("too big")]
)
def test_memory_running_out_fails_one_picture(tmp_path, networks, capsys, error):
    networks.error = error
    assert run(picture(tmp_path / "a.png"), "-o", tmp_path / "out") == 1
    assert re.search("not enough memory|too big", capsys.readouterr().err)


def test_interrupting_ends_with_130_and_leaves_nothing(tmp_path, networks):
    networks.error = KeyboardInterrupt()
    assert run(picture(tmp_path / "a.png"), "-o", tmp_path / "out") == 130
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--upscale 0", "must be from 0.25 to 8"),
        ("--upscale -2", "must be from 0.25 to 8"),
        ("--upscale 0.2", "must be from 0.25 to 8"),
        ("--upscale 9", "must be from 0.25 to 8"),
        ("--upscale nan", "must be from 0.25 to 8"),
        ("--upscale big", "invalid number value"),
        ("--detail 1.5", "must be from 0 to 1"),
        ("--fidelity -1", "must be from 0 to 20"),
        ("--seed -1", "must be from 0"),
        ("--overlap -1", "must be from 0 to 512"),
        ("--tile-batch -1", "must be from 0 to 64"),
        ("--dtype fp16", "invalid choice"),
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
    monkeypatch.setattr("pathlib.Path.touch", refuse)
    assert run(source, "-o", tmp_path) == 2
    assert run(source, "-o", tmp_path / "out") == 2
    assert "Permission denied" in capsys.readouterr().err
    assert networks.loaded == []


def test_results_that_are_too_large_are_refused(tmp_path, monkeypatch, networks, capsys):
    monkeypatch.setattr("varestorer_core.host_memory.MAX_OUTPUT_PIXELS", 100)
    assert run(picture(tmp_path / "a.png"), "-o", tmp_path / "out") == 1
    assert "would become 40 x 24 pixels" in capsys.readouterr().err
    assert run(picture(tmp_path / "w.png", size=(9000, 1)), "-o", tmp_path / "b.webp") == 1
    assert networks.calls == []


def test_debug_shows_where_a_picture_failed(tmp_path, networks):
    networks.error = VARestorerError("x")
    with pytest.raises(VARestorerError):
        run(picture(tmp_path / "a.png"), "-o", tmp_path / "out", "--debug")
