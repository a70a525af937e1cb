"""The benchmarks say what they should about the bundled networks, and the plain way is the official layout."""

import importlib
import json
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


def test_cases_that_do_not_exist_are_refused(load, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["suite.py", "--only", "tile,nothing"])
    with pytest.raises(SystemExit):
        load("suite").main()
    assert "got nothing" in capsys.readouterr().err


def test_the_plain_way_takes_the_official_tiles_one_by_one(load, monkeypatch):
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
    assert seen == [(128, 128, 3)] * plain.plain_tile_count(bundled, 200, 150)
