"""Runs of `varestorer restore` over many pictures: failures, interruptions, continuing, and several devices."""

import errno
import json
import re

import pytest
from PIL import Image
from restore_command import StandIn, picture, run

from varestorer_core.cli.main import main
from varestorer_core.errors import VARestorerError
from varestorer_core.pictures import read_picture

pytestmark = pytest.mark.usefixtures("networks")


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
    assert "2 restored, 2 failed, 1 other file skipped" in captured.out


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
    """Like the exceptions of extensions in Rust."""


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
        file.write(b'{"input": "cut o')  # killed while writing
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


def test_a_picture_is_never_taken_for_a_manifest(tmp_path, capsys):
    source = tmp_path / "a.png"
    picture(source)
    before = source.read_bytes()
    assert run(source, "-o", tmp_path / "b.png", "--manifest", source) == 2
    assert "is not a manifest" in capsys.readouterr().err
    assert source.read_bytes() == before


def test_json_lines(tmp_path, capsys):
    picture(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("not a picture")
    assert run(tmp_path, "-o", tmp_path / "out", "--json") == 1
    first, second, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["error"], first["width"]) == (None, 40)
    assert "not a picture" in second["error"]
    assert (last["done"], last["failed"]) == (1, 1)
    assert (first["kept"], second["kept"]) == (False, False)


def test_json_lines_of_kept_pictures(tmp_path, capsys):
    arguments = (picture(tmp_path / "a.png"), "-o", tmp_path / "out", "--json", "--skip-existing")
    assert run(*arguments) == 0
    written = json.loads(capsys.readouterr().out.splitlines()[0])
    assert run(*arguments) == 0
    kept, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert (kept["kept"], last["kept"]) == (True, 1)
    same = ("input", "hash", "result", "result_hash", "settings", "error")
    assert [kept[name] for name in same] == [written[name] for name in same]


def test_write_protected_results_are_refused_before_any_work(tmp_path, networks, capsys):
    source, target = picture(tmp_path / "a.png"), tmp_path / "b.png"
    target.write_bytes(b"old")
    target.chmod(0o444)
    assert run(source, "-o", target) == 1
    assert "write-protected" in capsys.readouterr().err
    assert target.read_bytes() == b"old"
    assert networks.calls == []


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
