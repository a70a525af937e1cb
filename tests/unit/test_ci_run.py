""".ci/run ends with the status of its steps. Stubs replace its commands; pytest's writes its arguments to a file."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("bash") is None,
    reason=".ci/run needs Linux and bash 4.4",
)

PYTEST = """#!/bin/bash
echo "$*" >>"$CALLS"
[ -z "${FAIL:-}" ] || [[ "$*" != *"$FAIL"* ]]
"""

# Stands for "python3 -m venv" and writes the commands that the script calls in the environment.
PYTHON = """#!/bin/bash
mkdir -p .venv/bin
cp "$STUBS/pytest" .venv/bin/pytest
printf '#!/bin/bash\\n' >.venv/bin/pip
printf '#!/bin/bash\\nmkdir demo; echo 1 >demo/picture.png\\n' >.venv/bin/varestorer
chmod +x .venv/bin/*
"""


@pytest.fixture
def run(tmp_path):
    """Return a function that runs a copy of .ci/run, and returns its status and the calls of pytest."""
    copy, stubs = tmp_path / "pack", tmp_path / "stubs"
    (copy / ".ci").mkdir(parents=True)
    stubs.mkdir()
    shutil.copy(ROOT / "README.md", copy)
    shutil.copy(ROOT / ".ci" / "run", copy / ".ci")
    scripts = {copy / ".ci" / name: "#!/bin/bash\n" for name in ("lint", "validate", "host-python")}
    for path, text in {stubs / "pytest": PYTEST, stubs / "python3": PYTHON, **scripts}.items():
        path.write_text(text)
        path.chmod(0o755)
    for host in ("first", "second"):
        (tmp_path / host).mkdir()
        (tmp_path / host / "main.py").touch()

    def call(hosts=("first", "second"), fail=""):
        calls = tmp_path / "calls"
        calls.unlink(missing_ok=True)
        environment = {
            **os.environ,
            "PATH": f"{stubs}{os.pathsep}{os.environ['PATH']}",
            "STUBS": str(stubs),
            "CALLS": str(calls),
            "FAIL": fail,
            "COMFYUI_PATH": os.pathsep.join(str(tmp_path / host) for host in hosts),
            "TMPDIR": str(tmp_path),
        }
        done = subprocess.run(
            ["bash", copy / ".ci" / "run"], env=environment, capture_output=True, text=True
        )
        assert not list(tmp_path.glob("tmp.*")), "the log of the tests in the background was left"
        return done.returncode, calls.read_text().splitlines(), done.stderr

    return call


@pytest.mark.parametrize("hosts", [("first", "second"), ("first",), ("missing",)])
def test_success_is_reported(run, hosts):
    status, calls, errors = run(hosts)
    assert status == 0, errors
    assert calls[-1] == ""  # the README's first command comes last
    assert sum("tests/host -n" in call for call in calls) == len(set(hosts) - {"missing"})


@pytest.mark.parametrize("fail", ["tests/host -n", "tests/browser", "not ray", "-m ray"])
def test_a_failed_step_is_reported(run, fail):
    status, calls, _ = run(fail=fail)
    assert any(fail in call for call in calls)
    assert status != 0


def test_failed_browser_tests_run_once_more(run):
    status, calls, _ = run(fail="tests/browser")
    assert status != 0
    assert calls[-1].endswith("--last-failed")
