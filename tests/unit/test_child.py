"""A test run that is ended by a signal leaves no ComfyUI server running."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

CHILD = Path(__file__).parents[1] / "support" / "child.py"
RUN = """
import importlib.util, signal, sys, time
# A background job of a script ignores this signal, and so would this process.
signal.signal(signal.SIGINT, signal.default_int_handler)
spec = importlib.util.spec_from_file_location("child", sys.argv[1])
child = importlib.util.module_from_spec(spec)
spec.loader.exec_module(child)
child.end_on_sigterm()
server = child.spawn([sys.executable, "-c", "import time; time.sleep(600)"])
print(server.pid, flush=True)
try:
    time.sleep(600)
finally:
    server.terminate()
"""


def is_running(pid):
    try:
        # A zombie has ended but was not reaped yet.
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


@pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux tells a process that its parent died"
)
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_no_process_is_left(how):
    with subprocess.Popen(
        [sys.executable, "-c", RUN, str(CHILD)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as run:
        pid = int(run.stdout.readline())
        assert is_running(pid)
        os.kill(run.pid, how)
        run.wait(60)
    deadline = time.monotonic() + 60
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_running(pid)
