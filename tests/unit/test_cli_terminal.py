"""Streams and paths that cannot be written: a run continues, or ends with one sentence."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from varestorer_core.cli import terminal
from varestorer_core.cli.main import main
from varestorer_core.cli.progress import run_bar


def command(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "varestorer_core.cli", *map(os.fspath, arguments)],
        capture_output=not options,
        timeout=120,
        check=False,
        **options,
    )


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (20, 12), "orange").save(folder / name)
    return folder


def degrade(photos):
    return ("degrade", photos, "-o", photos.parent / "out", "--preset", "x4")


@pytest.mark.parametrize("reader", ["closed", "full", "gone"])
def test_a_broken_stdout_does_not_stop_a_batch(photos, reader):
    if reader == "full" and not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    if reader == "gone":
        read, write = os.pipe()
        os.close(read)
    else:
        write = os.open("/dev/full" if reader == "full" else os.devnull, os.O_WRONLY)
    options = {"stdout": write, "stderr": subprocess.PIPE}
    if reader == "closed":
        options["preexec_fn"] = lambda: os.close(1)
    result = command(*degrade(photos), **options)
    os.close(write)
    assert sorted(path.name for path in (photos.parent / "out").iterdir()) == ["a.png", "b.png"]
    assert result.returncode == (1 if reader == "full" else 0)
    assert b"Error" not in result.stderr
    assert b"Traceback" not in result.stderr


@pytest.mark.skipif(os.name == "nt", reason="descriptors are closed before the start on Unix only")
@pytest.mark.parametrize("closed", [(2,), (0, 1, 2)])
def test_closed_streams_do_not_stop_a_batch(photos, closed):
    def close():
        for descriptor in closed:
            os.close(descriptor)

    result = command(*degrade(photos), preexec_fn=close)
    for name in ("a.png", "b.png"):
        assert Image.open(photos.parent / "out" / name).size == (20, 12)
    assert result.returncode == 0


def test_a_missing_stderr_does_not_stop_a_batch(photos, monkeypatch):
    monkeypatch.setattr("sys.stderr", None)
    assert main([str(word) for word in degrade(photos)]) == 0
    assert len(list((photos.parent / "out").iterdir())) == 2


def test_a_skipped_picture_is_told_by_the_exit_code(photos, capsys):
    (photos / "c.exr").touch()
    (photos / "notes.txt").touch()
    words = [str(word) for word in degrade(photos)]
    assert main(words) == 1
    captured = capsys.readouterr()
    assert "2 degraded, 1 picture skipped, 1 other file skipped" in captured.out
    assert "c.exr is OpenEXR, which is not supported: skipped" in captured.err
    assert main([*words, "--json"]) == 1
    assert '"skipped": 2, "skipped_pictures": 1' in capsys.readouterr().out


def test_any_encoding_and_any_name(photos):
    (photos / "a.png").rename(photos / os.fsdecode(b"\xff\xe9.png"))
    (photos / "b.png").rename(photos / "\u6f22 \x1b[31m.png")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    result = command(
        *degrade(photos), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert (result.returncode, result.stderr) == (0, b"")
    assert b"\x1b" not in result.stdout
    assert len(list((photos.parent / "out").iterdir())) == 2


def test_folders_that_may_not_be_looked_into(photos, monkeypatch, capsys):
    def refuse(_path, **_options):
        raise PermissionError(13, "Permission denied", "locked/a.png")

    monkeypatch.setattr("pathlib.Path.stat", refuse)
    monkeypatch.setattr("os.path.isfile", refuse)
    inside = "locked/a.png"
    for arguments in (
        ["restore", inside, "-o", "out"],
        ["degrade", inside, "-o", "out", "--preset", "x4"],
        ["evaluate", inside],
        ["inspect", inside],
        ["convert", inside, "-o", "out.safetensors"],
        ["demo", "-o", "locked/out"],
    ):
        assert main(arguments) in (1, 2), arguments
        told = capsys.readouterr().err
        assert "Permission denied" in told, arguments
        assert told.count("\n") == 1, told


def test_a_stream_that_fails_drops_what_comes():
    class Full(io.StringIO):
        def write(self, _text):
            raise OSError(28, "No space left on device")

    stream = terminal.GuardedStream(Full())
    assert stream.write("x") == 1
    stream.flush()
    assert stream.lost


@pytest.mark.parametrize("is_terminal", [True, False])
def test_the_bar_is_for_terminals_and_escapes_names(monkeypatch, is_terminal):
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: is_terminal)
    monkeypatch.setattr("sys.stderr", stream)
    with run_bar(2) as bar:
        bar.finished("a.png", 10)
        bar._bar.mininterval = 0
        bar.step("\x1b[31mb.png", 1, 2)
    shown = stream.getvalue()
    assert ("b.png" in shown) == is_terminal
    assert "\x1b[31m" not in shown


@pytest.mark.skipif(os.name == "nt", reason="names have no control characters on Windows")
@pytest.mark.parametrize("command", ["evaluate", "benchmark"])
def test_names_of_pictures_that_are_left_out_are_escaped(tmp_path, capsys, command):
    for folder in ("photos", "results"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "\x1b[31mbad.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    photos, out = str(tmp_path / "photos"), str(tmp_path / "out")
    if command == "evaluate":
        words = ["evaluate", photos, "--device", "cpu", "-o", f"{out}.png"]
    else:
        words = ["benchmark", "--reference", photos, f"ours={tmp_path / 'results'}", "-o", out]
    assert main(words) == 1
    said = capsys.readouterr().err
    assert "left out" in said
    assert "\x1b" not in said


CTRL_C = """
import os, runpy, signal, sys

class Interruption:
    def find_spec(self, name, *_):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.{before})
sys.meta_path.insert(0, Interruption())
sys.argv[1:] = ["inspect", {file!r}]
runpy.run_module("varestorer_core.cli", run_name="__main__")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends a Unix signal")
@pytest.mark.parametrize("module", ["cli.main", "wording", "cli.restore", "checkpoint.examine"])
def test_ctrl_c_while_modules_load_is_quiet(tmp_path, module):
    code = CTRL_C.format(
        module=f"varestorer_core.{module}", before="default_int_handler", file=str(tmp_path)
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert done.stderr.strip() in ("", "varestorer: interrupted")
    assert done.stdout == ""


@pytest.mark.skipif(sys.platform == "win32", reason="sends a Unix signal")
def test_ctrl_c_stays_ignored_in_the_background(tmp_path):
    code = CTRL_C.format(module="varestorer_core.cli.main", before="SIG_IGN", file=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "is a folder without" in done.stderr
