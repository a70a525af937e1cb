"""`varestorer restore`, with a stand-in for the networks that only enlarges."""

import errno
import json
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

    def load_models(files, **others):
        loaded.append({"files": files, **others})
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


def test_results_that_are_too_large_are_refused(tmp_path, monkeypatch, networks, capsys):
    monkeypatch.setattr("varestorer_core.host_memory.MAX_OUTPUT_PIXELS", 100)
    assert run(picture(tmp_path / "a.png"), "-o", tmp_path / "out") == 1
    assert "40 x 24 pixels" in capsys.readouterr().err
    assert run(picture(tmp_path / "w.png", size=(9000, 1)), "-o", tmp_path / "b.webp") == 1
    assert networks.calls == []


def test_debug_shows_where_a_picture_failed(tmp_path, networks, capsys):
    networks.error = KeyError("x")
    source, out = picture(tmp_path / "a.png"), tmp_path / "out"
    assert run(source, "-o", out) == 1
    told = capsys.readouterr().err
    assert "a.png failed: KeyError: 'x'" in told
    assert "Traceback" not in told
    assert run(source, "-o", out, "--debug") == 1
    assert "Traceback" in capsys.readouterr().err


class Panic(BaseException):
    """What extensions in Rust raise."""


@pytest.mark.parametrize("error", [Panic("x"), RecursionError(), AssertionError(), OSError(5, "x")])
def test_no_exception_of_a_picture_ends_the_folder(tmp_path, monkeypatch, capsys, error):
    from varestorer_core import pictures

    def fails_once(path):
        if path.name == "b.png":
            raise error
        return read_picture(path)

    for name in ("a.png", "b.png", "c.png"):
        picture(tmp_path / name)
    monkeypatch.setattr(pictures, "read_picture", fails_once)
    assert run(tmp_path, "-o", tmp_path / "out") == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "c.png"]
    assert type(error).__name__ in capsys.readouterr().err


def test_a_stopped_run_goes_on_by_content_and_settings(tmp_path, networks):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in ("a.png", "b.png", "c.png"):
        picture(folder / name, size=(8 + ord(name[0]) % 7, 6))
    arguments = (folder, "-o", out, "--skip-existing")
    assert run(*arguments) == 0
    assert len(networks.calls) == 3
    before = {path.name: path.read_bytes() for path in out.glob("*.png")}
    with (out / ".varestorer-manifest.jsonl").open("ab") as file:
        file.write(b'{"input": "cut o')  # killed while it wrote
    assert run(*arguments) == 0
    assert len(networks.calls) == 3
    (out / "a.png").write_bytes(b"replaced by another program")
    picture(folder / "b.png", size=(5, 5))  # the same name, another content
    assert run(*arguments) == 0
    assert len(networks.calls) == 5
    assert (out / "a.png").read_bytes() == before["a.png"]
    assert Image.open(out / "b.png").size == (10, 10)
    assert run(*arguments, "--upscale", "3") == 0
    assert len(networks.calls) == 8
    records = (out / ".varestorer-manifest.jsonl").read_text().splitlines()
    assert {"input", "hash", "settings", "result", "seconds", "error"} <= set(
        json.loads(records[0])
    )


def test_a_failure_is_recorded_and_tried_again(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.png").write_text("not a picture")
    manifest = tmp_path / "run.jsonl"
    arguments = (folder, "-o", tmp_path / "out", "--skip-existing", "--manifest", manifest)
    assert run(*arguments) == 1
    assert "not a picture" in json.loads(manifest.read_text())["error"]
    picture(folder / "a.png")
    assert run(*arguments) == 0
    assert (tmp_path / "out" / "a.png").exists()


def test_json_lines(tmp_path, capsys):
    picture(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("not a picture")
    assert run(tmp_path, "-o", tmp_path / "out", "--json") == 1
    first, second, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["error"], first["width"]) == (None, 40)
    assert "not a picture" in second["error"]
    assert (last["done"], last["failed"]) == (1, 1)


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


def test_write_protected_results_are_refused_before_any_work(tmp_path, networks, capsys):
    source, target = picture(tmp_path / "a.png"), tmp_path / "b.png"
    target.write_bytes(b"old")
    target.chmod(0o444)
    assert run(source, "-o", target) == 1
    assert "write-protected" in capsys.readouterr().err
    assert target.read_bytes() == b"old"
    assert networks.calls == []


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


def test_two_devices_do_every_picture_once_and_alike(tmp_path, networks):
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(20):
        picture(folder / f"{number}.png", size=(5 + number, 7))
    (folder / "bad.png").write_text("not a picture")
    one, two = tmp_path / "one", tmp_path / "two"
    assert run(folder, "-o", one) == 1
    arguments = ["restore", str(folder), "-o", str(two), "--devices", "cpu,cpu", "--skip-existing"]
    assert main(arguments) == 1
    assert len(networks.loaded) == 3
    assert len(networks.calls) == 40
    found = {p.name: p.read_bytes() for p in two.glob("*.png")}
    assert len(found) == 20
    assert found == {p.name: p.read_bytes() for p in one.glob("*.png")}
    records = (two / ".varestorer-manifest.jsonl").read_text().splitlines()
    assert len(records) == 21


def test_devices_that_are_not_there_or_of_two_kinds(tmp_path, capsys):
    source = picture(tmp_path / "a.png")
    assert main(["restore", source, "-o", str(tmp_path / "b.png"), "--devices", "99"]) == 2
    assert "cuda:99" in capsys.readouterr().err


def test_an_interrupt_ends_the_run_and_keeps_what_is_done(tmp_path, networks, monkeypatch):
    for name in "abc":
        picture(tmp_path / f"{name}.png")
    restored = StandIn.restore

    def restore_two(self, rgb, settings, *, on_progress):
        if len(self.calls) == 2:
            raise KeyboardInterrupt
        return restored(self, rgb, settings, on_progress=on_progress)

    monkeypatch.setattr(StandIn, "restore", restore_two)
    assert run(tmp_path, "-o", tmp_path / "out") == 130
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.png", "b.png"]
