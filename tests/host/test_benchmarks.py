"""The benchmark that measures in a host's own Python, at its small size."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.host

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "patched.py"


def test_adapters_are_patched_by_the_host_and_timed(host):
    done = subprocess.run(
        [sys.executable, SCRIPT, host.folder], capture_output=True, text=True, check=True
    )
    row = json.loads(done.stdout.splitlines()[-1])
    assert "failed" not in row, row
    assert row["host"] == host.folder.name
    assert row["patches"] == 10  # five matrices in each of two blocks
    for name in ("patching_seconds", "patched_seconds", "unpatched_seconds"):
        assert row[name] > 0
