"""Reports of the benchmarks for the bundled networks, and the official tile layout of the reference implementation."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    """Return a function that imports a module of the benchmarks."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


def test_one_tile_is_measured_by_stages(load, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["suite.py", "--only", "tile", "--no-warm-up"])
    load("suite").main()
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    (row,) = report["rows"]
    assert row["tiles"] == 1
    parts = {"prompt", "encode", "pyramid", "transformer", "decode", "blend"}
    assert set(row["seconds"]) == set(row["tflop_at_matrix_rate"]) == parts
    assert {"encode", "transformer", "decode"} <= set(row["share_of_rate"])
    assert row["peak_host_bytes"] > 0
    assert (report["size"], report["dtype"], report["device"]) == ("tiny", "fp32", "cpu")


def report_of(load, monkeypatch, capsys, *arguments):
    """Return the JSON document that the suite ends with."""
    monkeypatch.setattr("sys.argv", ["suite.py", *arguments])
    load("suite").main()
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_loading_and_the_first_tile_are_timed_from_the_start_of_a_process(
    load, monkeypatch, capsys
):
    loading, first = report_of(load, monkeypatch, capsys, "--only", "start")["rows"]
    assert (loading["case"], first["case"]) == ("loading", "first tile")
    assert 0 < loading["wall_seconds"] < first["wall_seconds"]
    assert 0 < loading["processor_seconds"] < first["processor_seconds"]
    assert 0 < first["imports_wall_seconds"] < first["wall_seconds"] - loading["wall_seconds"]


def test_a_start_that_fails_says_why(load, tmp_path):
    (row,) = load("first_tile").start_rows("full", tmp_path, "fp32", "cpu")
    assert row["case"] == "start"
    assert "varestorer.pth" in row["failed"]


def test_the_cleaner_is_a_stage_of_its_own(load, monkeypatch, capsys):
    pytest.importorskip("spandrel", reason="spandrel is not installed")
    swinir = load("swinir")
    small = {"embed_dim": 12, "depths": [2], "num_heads": [2]}
    monkeypatch.setattr(swinir, "OFFICIAL", {**swinir.OFFICIAL, **small})
    (row,) = report_of(load, monkeypatch, capsys, "--only", "cleaner")["rows"]
    assert row["case"] == "one tile with the cleaner"
    assert row["seconds"]["clean"] > 0


def test_without_spandrel_the_cleaner_is_left_out_and_said_so(load, monkeypatch, capsys):
    for name in ("spandrel", "spandrel.architectures.SwinIR"):
        monkeypatch.setitem(sys.modules, name, None)
    (row,) = report_of(load, monkeypatch, capsys, "--only", "cleaner")["rows"]
    assert row["case"] == "cleaner"
    assert "spandrel is not installed" in row["skipped"]


def test_adapters_are_merged_apart_and_with_a_host_patched(load, monkeypatch, capsys, tmp_path):
    arguments = ("--size", "narrow", "--only", "lora", "--comfyui")
    *rows, patched = report_of(load, monkeypatch, capsys, *arguments, "")["rows"]
    assert [row["case"] for row in rows] == ["adapters merged", "adapters unmerged"]
    assert "COMFYUI_PATH" in patched["skipped"]
    row = load("patched").patched_row(tmp_path, "narrow", None, "fp32")
    assert row == {
        "case": "adapters patched by the host",
        "skipped": f"{tmp_path.resolve()} is not a ComfyUI folder: expected main.py in it",
    }


def test_cases_that_do_not_exist_are_refused(load, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["suite.py", "--only", "tile,nothing"])
    with pytest.raises(SystemExit):
        load("suite").main()
    assert "got nothing" in capsys.readouterr().err


def test_the_reference_implementation_restores_official_tiles_one_by_one(load, monkeypatch):
    measure, networks, plain = (load(name) for name in ("measure", "networks", "plain"))
    device = torch.device("cpu")
    bundled = networks.load_networks("tiny", None, device, torch.float32)
    seen = []

    def untouched(*_):
        def restore(tile):
            seen.append(tile.shape)
            return tile

        return restore

    monkeypatch.setattr(plain, "plain_tile", untouched)
    picture = np.random.default_rng(0).integers(0, 256, (200, 150, 3), np.uint8)
    result = plain.restore_plainly(bundled, picture, device, measure.Stages(device))
    assert np.array_equal(result, picture)
    tile = bundled.tile
    assert seen == [(tile, tile, 3)] * plain.plain_tile_count(bundled, 200, 150)


def test_the_plain_way_computes_the_same_with_layers_as_they_are(load, monkeypatch):
    """The reference layers must only be slower, not compute something else."""
    plain, networks = load("plain"), load("networks")
    bundled = networks.load_networks("tiny", None, torch.device("cpu"), torch.float32)
    picture = torch.rand(1, 3, bundled.tile, bundled.tile) * 2 - 1
    codes = torch.randn(1, bundled.tokenizer.config.codebook_dim, *bundled.schedule.last_grid)
    with torch.inference_mode():
        ours = bundled.tokenizer.encode(picture), bundled.tokenizer.decode(codes)
        with plain.plain_layers():
            theirs = bundled.tokenizer.encode(picture), bundled.tokenizer.decode(codes)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=1e-4)


def test_what_grows_with_the_number_of_pictures(load, monkeypatch, capsys):
    sizes = ["--folders", "5", "6", "--listed", "3", "--lines", "4"]
    monkeypatch.setattr("sys.argv", ["large_counts.py", *sizes])
    load("large_counts").main()
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    (manifest,) = report["manifests"]
    assert manifest["lines"] == 4
    assert 4 * 500 < manifest["bytes"] < 4 * 1000
    assert manifest["mb"] > 0
    assert report["append_ms"] > 0
    assert set(report["write_ms"]) == {"5", "6"}
    assert report["listing"]["files"] == 3
