"""Processes that end with the test run, however that ends."""

import ctypes
import signal
import subprocess
import sys

_PR_SET_PDEATHSIG = 1


def spawn(command, **options):
    """Start a process as `subprocess.Popen` does; on Linux it is terminated when this one dies, by SIGKILL too."""
    if sys.platform == "linux":
        # Looked up here: between fork and exec nothing should be loaded.
        prctl = ctypes.CDLL(None).prctl
        options["preexec_fn"] = lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    return subprocess.Popen(command, **options)


def end_on_sigterm():
    """Let SIGTERM end the run as Ctrl-C does, so that fixtures stop what they started."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
