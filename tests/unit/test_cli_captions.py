"""`restore --captions`: which text belongs to which picture, bad texts, and what is recorded."""

import json
import os
import threading

import pytest
import torch
from restore_command import StandIn, picture, run

from varestorer_core.cli import captions, restore
from varestorer_core.cli.captions import read_captions
from varestorer_core.settings import RestoreSettings


class Prompted(StandIn):
    """Records the prompt of every picture, in the order in which they were restored."""

    def __init__(self):
        super().__init__()
        self.prompts = []
        self.encoded = []

    def restore(self, rgb, settings, *, on_progress, prompt=None):
        self.prompts.append(prompt)
        return super().restore(rgb, settings, on_progress=on_progress)


@pytest.fixture
def networks(monkeypatch):
    stand_in = Prompted()

    def load(files, *, prompts=(), **others):
        stand_in.loaded.append({"files": files, **others})
        stand_in.encoded = list(prompts)
        return stand_in

    monkeypatch.setattr(restore, "load_models", load)
    return stand_in


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "t5").mkdir()
    pictures = tmp_path / "in"
    pictures.mkdir()
    for name in ("a.png", "b.png", "c.png"):
        picture(pictures / name)
    return pictures


def restored(folder, *options):
    out = folder.parent / "out"
    return run(folder, "-o", out, "--text-encoder", folder.parent / "t5", *options)


def test_captions_beside_their_pictures(folder, networks, capsys):
    (folder / "a.txt").write_text("\ufeffa dog\n on a  lawn\n", encoding="utf-8")
    (folder / "b.png.txt").write_text("a dog on a lawn")
    assert restored(folder, "--captions", "beside") == 0
    assert networks.prompts == ["a dog on a lawn", "a dog on a lawn", None]
    assert networks.encoded == ["a dog on a lawn"]  # each distinct one once
    assert "1 of 3 pictures without a caption (first: c.png)" in capsys.readouterr().err


def test_captions_of_a_csv_file(folder, networks, capsys):
    path = folder.parent / "captions.csv"
    path.write_text('id,caption,file\n1,"red, round",in/a.png\n2,blue,b.png\n3,none,other.png\n')
    assert restored(folder, "--captions", path, "--prompt", "sharp") == 0
    assert networks.prompts == ["red, round", "blue", None]
    said = capsys.readouterr().err
    assert "1 row of no picture of this run" in said
    assert "restored with the text of --prompt" in said
    path.write_text("a.png,red\nb.png,blue\nc.png,green\n")  # without a header
    assert restored(folder, "--captions", path) == 0
    assert networks.prompts[3:] == ["red", "blue", "green"]


def test_a_caption_may_hold_any_line_break(folder, networks):
    path = folder.parent / "captions.csv"
    path.write_text("a.png,red\u2028round\nb.png,blue\u0085sky\n", encoding="utf-8")
    assert restored(folder, "--captions", path) == 0
    assert len(networks.prompts) == 3
    assert networks.prompts[0].startswith("red")


def test_a_changed_caption_is_restored_again(folder, networks):
    for name in "abc":
        (folder / f"{name}.txt").write_text(f"the letter {name}")
    assert restored(folder, "--captions", "beside", "--skip-existing") == 0
    (folder / "b.txt").write_text("another letter")
    assert restored(folder, "--captions", "beside", "--skip-existing") == 0
    assert networks.prompts == ["the letter a", "the letter b", "the letter c", "another letter"]
    manifest = folder.parent / "out" / ".varestorer-manifest.jsonl"
    last = json.loads(manifest.read_text().splitlines()[-1])
    assert last["settings"]["prompt"] == "another letter"


def test_pictures_of_one_prompt_share_a_batch_and_others_do_not(folder, networks, monkeypatch):
    groups = []

    def together(rgb, settings, *, on_progress, prompt=None):
        groups.append((len(rgb) if isinstance(rgb, list) else 1, prompt))
        return rgb

    networks.restore = together
    steps = restore.Restoring(RestoreSettings())
    steps.captions.texts = dict.fromkeys(map(str, "ab"), "same") | {"c": "other"}

    class Task:
        def __init__(self, source):
            self.job = type("Job", (), {"source": source})
            self.picture = type("Picture", (), {"rgb": torch.zeros(3, 4, 4)})

    tasks = [Task(name) for name in "abc"]
    work = steps.worker(networks)
    work(tasks[:2])
    work(tasks)
    assert groups == [(2, "same"), (1, "same"), (1, "same"), (1, "other")]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b" \n", "the caption is empty"),
        (b"", "the caption is empty"),
        (b"x" * (captions.MAX_CHARACTERS + 1), "at most 4000"),
        (b"\xff\xfea\x00", "not a text in UTF-8"),
        (b"a\x00b", "control characters"),
    ],
)
def test_bad_texts_are_one_sentence_before_any_work(folder, networks, capsys, content, words):
    (folder / "b.txt").write_bytes(content)
    assert restored(folder, "--captions", "beside") == 2
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert words in said
    assert "b.txt" in said
    assert not networks.loaded
    assert not (folder.parent / "out").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("name,caption\na.png,x\n", "no column file"),
        ("file,text\na.png,x\n", "no column caption"),
        ("a.png,a dog, on a lawn\n", "no column file and no column caption"),
        ("file,caption\na.png,a dog, on a lawn\n", "line 2: it has 3 columns; expected 2"),
        ("file,caption\na.png,\n", "line 2: the caption is empty"),
        ("file,caption\na.png,x\nin/a.png,y\n", "already has another caption"),
        ('file,caption\na.png,"x\n', "Expected CSV"),
        ("", "none of the pictures (3) has a caption there"),
        ("file,caption\nz.png,x\n", "none of the pictures (3) has a caption there"),
    ],
)
def test_bad_csv_files_are_one_sentence(folder, networks, capsys, content, words):
    path = folder.parent / "captions.csv"
    path.write_text(content)
    assert restored(folder, "--captions", path) == 2
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert words in said
    assert not networks.loaded


def test_a_name_of_two_pictures_needs_its_path(tmp_path):
    pictures = [tmp_path / "x" / "a.png", tmp_path / "y" / "a.png"]
    path = tmp_path / "c.csv"
    path.write_text("x/a.png,one\ny/a.png,two\n")
    found, strangers = read_captions(str(path), pictures)
    assert (list(found.values()), strangers) == (["one", "two"], 0)
    path.write_text("a.png,one\n")
    with pytest.raises(captions.UsageError, match=r"2 pictures are named a\.png"):
        read_captions(str(path), pictures)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
@pytest.mark.parametrize("beside", [True, False])
def test_pipes_are_refused_instead_of_waited_for(folder, networks, capsys, beside):
    path = folder / "b.txt" if beside else folder.parent / "captions.csv"
    os.mkfifo(path)
    codes = []
    options = ["--captions", "beside" if beside else str(path)]
    thread = threading.Thread(target=lambda: codes.append(restored(folder, *options)), daemon=True)
    thread.start()
    thread.join(60)
    assert codes == [2]
    assert "a pipe or a device" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--captions", "nothing.csv"], "nothing.csv is missing"),
        (["--captions", "beside"], "none of the pictures (3)"),
        (["--captions", "beside", "--cluster", "auto"], "leave them out with --cluster"),
        (["--captioner", "nowhere"], "--captioner nowhere: no such folder"),
        (["--captioner", ".", "--prompt", "x"], "leave out one"),
        ([], "--prompt TEXT or --captions SOURCE or --captioner FOLDER"),
    ],
)
def test_options_that_do_not_belong_together(folder, capsys, monkeypatch, options, words):
    monkeypatch.setattr("varestorer_core.cli.cluster.check_ray", lambda: None)
    assert restored(folder, *options) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--captions", "--captioner"])
def test_texts_need_an_encoder(folder, capsys, option):
    assert run(folder, "-o", folder.parent / "out", option, folder) == 2
    assert f"{option} has an effect only together with --text-enc" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (None, "not a folder with a config.json"),
        ("[]", "model of type None; expected one of blip"),
        ('{"model_type": "bert"}', "model of type 'bert'"),
        ('{"model_type": "blip"}', "has no safetensors file"),
    ],
)
def test_folders_that_are_no_captioner(folder, networks, capsys, config, words):
    model = folder.parent / "blip"
    model.mkdir()
    (model / "pytorch_model.bin").write_bytes(b"PK")
    if config is not None:
        (model / "config.json").write_text(config)
    assert restored(folder, "--captioner", model) == 1
    assert words in capsys.readouterr().err
    assert not networks.loaded
