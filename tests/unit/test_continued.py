"""The short form of `benchmarks/continued.py`: interrupted runs over a folder have the results of a single run."""

import importlib
import os
import signal
import subprocess
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="processes are killed on Unix")
def test_killed_and_continued_is_one_run(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    continued = importlib.import_module("continued")
    source, whole, torn = (tmp_path / name for name in ("in", "whole", "torn"))
    continued.fill(source, 60, 0)

    def run(target, left):
        """Run until a number of pictures are recorded and be killed then; 0 runs to the end."""
        command = [*continued.ENLARGE_ONLY[:-1], str(left)]
        command += continued.restore_arguments(source, target)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, capture_output=True, timeout=120, env=environment).returncode

    assert run(whole, 0) == 1  # a damaged file
    before = {}
    for left in (7, 20):
        assert run(torn, left) == -signal.SIGKILL
        now = continued.finished(torn)
        assert len(now) > len(before)
        assert all(now[path] == written for path, written in before.items())
        before = now
    assert run(torn, 0) == 1
    now = continued.finished(torn)
    assert all(now[path] == written for path, written in before.items())
    assert continued.results(torn) == continued.results(whole)
    assert len(continued.results(whole)) == 59
