"""The short form of `benchmarks/fuzz_pictures.py`: a mutated picture file is a picture or one clear sentence."""

import importlib
import signal
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.skipif(not hasattr(signal, "SIGPROF"), reason="no timers of processor time")
def test_mutated_pictures(tmp_path, monkeypatch, inputs, count):
    pytest.importorskip("tifffile")
    # Another process reads the files; it must look for modules where this one does.
    (tmp_path / "sitecustomize.py").write_text(f"open({str(tmp_path / 'found')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(BENCHMARKS)
    campaign = importlib.import_module("fuzz_pictures").campaign
    number, seed = inputs
    found = campaign(20_000 if number > 1000 else 130, seed)
    count("picture files").update(found["outcomes"])
    assert found["wrong"] == []
    assert (tmp_path / "found").exists()
    assert sum(found["outcomes"].values()) == found["files"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals end processes on Unix")
def test_a_crash_is_counted_and_does_not_end_the_run(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    fuzz = importlib.import_module("fuzz_pictures")
    lines = iter([[(0, "picture", 0.1, 0.0)], [(1, "crash: status -11", 0.0, 0.0)]])
    monkeypatch.setattr(fuzz, "_worker", lambda *_: next(lines))
    found = fuzz.campaign(2, 0)
    assert found["outcomes"] == {"picture": 1, "crash": 1}
    assert len(found["wrong"]) == 1
