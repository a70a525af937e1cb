"""Installed as ComfyUI-Manager does: a clone in custom_nodes, and what requirements.txt asks for, which is nothing."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.host

PACK = Path(__file__).parents[2]
FOLDERS = ("varestorer", "2nd try, (café) v1.5")
"""The registry's name, and an awkward one that a user might give."""


@pytest.fixture(params=FOLDERS)
def clone(request, tmp_path):
    """A fresh clone of the last commit, in the custom_nodes of a folder for a host."""
    target = tmp_path / "base" / "custom_nodes" / request.param
    target.parent.mkdir(parents=True)
    command = ["git", "clone", "--quiet", "--no-hardlinks", str(PACK), str(target)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"not a git checkout: {error}")
    return target


def test_requirements_bring_no_package(host):
    """As the host's own pip answers, which would have to look for any package without an index."""
    command = [host.python, "-m", "pip", "install", "--dry-run", "--no-index", "--quiet"]
    command += ["--report", "-", "-r", str(PACK / "requirements.txt")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["install"] == []


def test_nothing_else_runs_at_installation():
    """The manager would run an install.py."""
    assert not list(PACK.glob("install.*"))


def test_a_plain_clone_registers_and_restores_under_any_name(host, clone):
    ours = {name for name in host.get("/object_info") if name.startswith("VARestorer")}
    prompt = host.whole()
    expected = host.arrays(host.run(prompt))["keep"]
    other = type(host)(host.folder, clone.parents[1])
    try:
        assert {n for n in other.get("/object_info") if n.startswith("VARestorer")} == ours
        assert np.array_equal(other.arrays(other.run(prompt))["keep"], expected)
        assert set(other.get("/api/workflow_templates")[clone.name]) == {
            path.stem for path in (PACK / "workflows").glob("*.json")
        }
        if clone.name == FOLDERS[0]:  # hosts serve no files from folders with a space or an é
            for file in ("docs/VARestorerCompare.md", "js/compare.js"):
                assert other.fetch(f"/extensions/{clone.name}/{file}")
    finally:
        other.stop()
