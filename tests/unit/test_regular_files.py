"""Pipes, devices and links to themselves, wherever a file is opened: one sentence that names it, and no waiting."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

import varestorer_core
from varestorer_core.benchmark import scoring
from varestorer_core.cli.main import main
from varestorer_core.cli.manifest import Manifest, Record, file_hash, file_mark
from varestorer_core.distill.data import procedural_pictures
from varestorer_core.distill.export import last_figures, last_step
from varestorer_core.distill.logs import CsvLog
from varestorer_core.distill.run.lock import locked
from varestorer_core.distill.run.record import read_record
from varestorer_core.distill.squares import mixed_squares
from varestorer_core.distill.state import load_state, read_state, state_step
from varestorer_core.errors import VARestorerError
from varestorer_core.lora.scaling import peft_config
from varestorer_core.text_encoder import check_folder

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs"),
    pytest.mark.usefixtures("deadline"),
]


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "in.png"
    Image.new("RGB", (32, 32), "teal").save(path)
    return path


def pipe(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)
    return path


def lock(path):
    with locked(path.parent):
        pass


def state(path):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))])
    load_state(path, modules={}, optimizer=optimizer)


READERS = {
    "manifest": ("a.jsonl", Manifest),
    "hash": ("a", file_hash),
    "mark": ("a", file_mark),
    "state to continue": ("state.pt", state),
    "state": ("state.pt", read_state),
    "step of a state": ("state.pt", state_step),
    "log": ("log.csv", lambda path: CsvLog(path, 3)),
    "figures": ("log.csv", last_figures),
    "step of a log": ("log.csv", last_step),
    "settings": ("settings.json", lambda path: read_record(path.parent)),
    "lock": (".lock", lock),
    "drawn pictures": ("p.npy", lambda path: procedural_pictures(path, count=1, size=8, seed=0)),
    "squares": (
        "s.npy",
        lambda path: mixed_squares(path, path.parent, files=[], each=1, procedural=1),
    ),
    "journal": ("scores.jsonl", lambda path: list(scoring._lines(path))),
    "configuration of PEFT": (
        "adapter_config.json",
        lambda path: peft_config(path.with_name("adapter_model.safetensors")),
    ),
    "file of a text encoder": ("spiece.model", lambda path: check_folder(path.parent, {})),
}


@pytest.mark.parametrize("what", READERS)
def test_a_pipe_is_refused_before_it_is_opened(tmp_path, what):
    name, read = READERS[what]
    path = pipe(tmp_path / "folder" / name)
    with pytest.raises(VARestorerError, match=rf"{name}\b.*a pipe or a device") as caught:
        read(path)
    assert ".." not in str(caught.value)


def test_a_device_without_end_is_no_manifest(picture, tmp_path, capsys):
    options = ["restore", str(picture), "-o", str(tmp_path / "out.png"), "--upscale", "1"]
    for path in ("/dev/full", str(pipe(tmp_path / "pipe"))):
        assert main([*options, "--manifest", path]) == 2
        assert f"error: {path} is a pipe or a device; expected a file." in capsys.readouterr().err


def test_a_recorded_result_that_became_a_pipe_is_not_done(tmp_path):
    result = tmp_path / "out.png"
    record = Record("in.png", {}, str(result), hash="a", result_hash="b")
    (tmp_path / "m.jsonl").write_text(json.dumps(vars(record)) + "\n")
    pipe(result)
    assert not Manifest(tmp_path / "m.jsonl").is_done(record)


@pytest.fixture
def loops(tmp_path):
    for name, target in (("loop.png", "loop.png"), ("a", "b"), ("b", "a")):
        (tmp_path / name).symlink_to(target)
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ["restore", "in.png", "-o", "loop.png"],
        ["restore", "in.png", "-o", "a/x.png"],
        ["restore", "in.png", "-o", "a"],
        ["restore", "loop.png", "-o", "x.png"],
        ["degrade", "in.png", "--preset", "x4", "-o", "loop.png"],
        ["degrade", "in.png", "--preset", "x4", "-o", "a/x.png"],
        ["evaluate", "in.png", "--size", "32", "-o", "loop.png"],
        ["benchmark", "A=pictures", "--reference", "a", "-o", "report"],
        ["benchmark", "a", "--reference", "pictures", "-o", "report"],
        ["benchmark", "A=pictures", "--reference", "pictures", "-o", "a"],
        ["convert", "varestorer", "-o", "a/x.safetensors"],
        ["inspect", "a"],
    ],
    ids=" ".join,
)
def test_links_to_themselves_are_named(loops, picture, monkeypatch, capsys, arguments):
    monkeypatch.chdir(loops)
    (loops / "pictures").mkdir()
    shutil.copy(picture, loops / "pictures")
    assert main(arguments) in (1, 2)
    lines = capsys.readouterr().err.splitlines()
    assert not [line for line in lines if "Traceback" in line or "Symlink loop" in line]
    assert [line for line in lines if line.startswith("varestorer: ")]


def test_no_path_is_resolved_by_pathlib():
    """It raises RuntimeError for a link to itself before Python 3.13, and nothing after; `os.path.realpath` never."""
    folder = Path(varestorer_core.__file__).parent
    files = [path for path in folder.rglob("*.py") if path.name != "assets.py"]
    found = [path.name for path in files if ".resolve(" in path.read_text("utf-8")]
    assert not found


def test_names_that_are_not_text_in_utf8(picture, tmp_path, monkeypatch):
    folder = tmp_path / "pictures"
    folder.mkdir()
    try:
        picture.rename(folder / "\udcff.png")
    except OSError:
        pytest.skip("the file system has no such names")
    shutil.copytree(folder, tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    assert main(["benchmark", "A=results", "--reference", "pictures", "-o", "report"]) == 0
    assert r"\udcff" in (tmp_path / "report" / "per_image.csv").read_text("utf-8")


def test_control_sequences_in_arguments_are_escaped(capsys):
    for arguments in (["restore", "a", "-o", "b", "--foo\x1b[2J"], ["\x1b[2J"]):
        with pytest.raises(SystemExit):
            main(arguments)
        found = capsys.readouterr().err
        assert "\x1b" not in found
        assert r"\x1b[2J" in found
