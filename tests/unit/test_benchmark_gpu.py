"""The benchmark of a first GPU, rehearsed on the CPU with the bundled networks."""

import importlib
import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Return a function that runs the command and returns its JSON document and all that it printed."""
    monkeypatch.syspath_prepend(BENCHMARKS)

    def run(*arguments):
        fixed = ["--device", "cpu", "--size", "bundled", "--out", str(tmp_path)]
        monkeypatch.setattr(sys, "argv", ["gpu.py", *fixed, *arguments])
        assert importlib.import_module("gpu").main() == 0
        text = capsys.readouterr().out
        return json.loads(text.splitlines()[-1]), text

    return run


@pytest.mark.slow
def test_every_part_is_rehearsed(run):
    report, text = run()
    assert set(report) == {
        "parity",
        "tiles",
        "pictures",
        "float8",
        "training",
        "compiled",
    }
    assert "failed" not in text
    rows = report["parity"]["rows"]
    assert all(row.get("relative_rms", row.get("share_that_differs")) == 0 for row in rows)
    assert {row["stage"] for row in report["tiles"]["rows"]} == {"encode", "transformer", "decode"}
    assert "All parts are done." in text


def test_it_goes_on_where_it_stopped(run, tmp_path):
    report, text = run("--minutes", "-1")
    assert report == {}
    assert "Still to do: parity" in text
    (tmp_path / "parity.json").write_text(
        json.dumps({"rows": [{"what": "kept"}], "device": "", "torch": "", "size": ""})
    )
    report, text = run("--only", "parity")
    assert report["parity"]["rows"] == [{"what": "kept"}]


def test_a_part_that_failed_is_tried_again(run, monkeypatch):
    gpu = importlib.import_module("gpu")
    tries = []

    def fails(bench):
        tries.append(bench)
        raise RuntimeError("CUDA error: a passing one")

    monkeypatch.setitem(gpu.PARTS, "parity", fails)
    for count in (1, 2):
        report, text = run("--only", "parity")
        assert report == {}
        assert "parity failed: RuntimeError: CUDA error: a passing one" in text
        assert "Still to do: parity" in text
        assert len(tries) == count
