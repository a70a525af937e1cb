"""A host that restores one picture after another does not grow."""

import importlib
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.host, pytest.mark.slow]

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
RUNS = 20


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("host_memory")


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_twenty_runs_take_no_more_memory_than_three(host, benchmark):
    # A host of its own: what other tests left behind would be given back or used up in these runs.
    # 384 x 384 pixels in nine tiles: a picture kept per run would add 30 MB, the limit is some 20.
    resident = benchmark.measure(host.folder, RUNS, upscale=3.0, overlap=0)["resident_bytes"]
    # The allocator gives back in steps, now or a run later; what is kept stays in all of the last.
    last = min(resident[-3:])
    assert last <= benchmark.LIMIT * resident[benchmark.SETTLED - 1], resident
