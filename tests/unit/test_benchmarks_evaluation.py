"""The control network and the table that compares evaluations."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from varestorer_core.distill.procedural import generate_picture

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def cnn(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("plain_cnn")


@pytest.fixture
def table(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("evaluation_table")


def test_the_plain_cnn_starts_as_the_identity_and_has_its_size(cnn):
    network = cnn.PlainCNN()
    pictures = torch.rand(2, 3, 16, 20)
    torch.testing.assert_close(network(pictures), pictures)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(0.75e6, rel=0.02)


def test_an_interrupted_training_goes_on_as_if_it_had_not_been(cnn, tmp_path, capsys):
    np.save(tmp_path / "squares.npy", np.stack([generate_picture(0, i, size=128) for i in (0, 1)]))
    arguments = ["train", "--squares", str(tmp_path / "squares.npy"), "--minutes", "1e9"]
    arguments += ["--batch", "1", "--save-every", "1"]
    cnn.main([*arguments, "--out", str(tmp_path / "whole"), "--steps", "2"])
    for steps in "12":
        cnn.main([*arguments, "--out", str(tmp_path / "pieces"), "--steps", steps])
    whole, pieces = (
        torch.load(tmp_path / name / "state.pt", weights_only=True)["network"]
        for name in ("whole", "pieces")
    )
    assert all(torch.allclose(whole[name], pieces[name]) for name in whole)
    assert whole["last.weight"].any()
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["steps"] == 2


def test_the_plain_cnn_is_measured_as_a_model_is(cnn, table, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "photographs"
    folder.mkdir()
    for index in range(2):
        Image.fromarray(generate_picture(0, index, size=64)).save(folder / f"{index}.png")
    network, out = cnn.PlainCNN(), tmp_path / "cnn"
    out.mkdir()
    torch.save({"network": network.state_dict()}, out / "state.pt")
    cnn.main(["evaluate", str(folder), "--out", str(out), "--size", "64", "--preset", "mild"])
    printed = capsys.readouterr().out
    document = json.loads(printed.splitlines()[-1])
    for scores in document["pictures"].values():
        assert scores["restored"] == pytest.approx(scores["lanczos"])
    (tmp_path / "run.txt").write_text(printed)
    run = f"plain CNN={tmp_path / 'run.txt'}"
    monkeypatch.setattr("sys.argv", ["evaluation_table.py", run, run.replace("plain CNN", "again")])
    table.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| `mild`, scale 2, 2 photographs | PSNR, dB | SSIM")
    assert [line.split(" | ")[0] for line in lines[2:6]] == [
        *("| bicubic", "| Lanczos", "| plain CNN", "| again")
    ]
    gains = json.loads(lines[-1])["plain CNN minus"]
    assert gains["again"]["mean"]["psnr"] == 0
    both = [document["mean"][name]["psnr"] for name in ("restored", "bicubic")]
    assert gains["bicubic"]["mean"]["psnr"] == pytest.approx(both[0] - both[1])


@pytest.mark.parametrize("change", [{"preset": "x4"}, {"pictures": {"b.png": {}}}])
def test_runs_on_other_pictures_are_not_compared(table, change):
    scores = {"psnr": 1.0, "ssim": 1.0, "gmsd": 0.0, "ms_ssim": 1.0, "gradient_energy": 1.0}
    run = {"preset": "mild", "pictures": {"a.png": {"bicubic": scores}}}
    with pytest.raises(SystemExit, match=r"second and first differ in (preset|pictures)"):
        table.collect({"first": run, "second": {**run, **change}})
