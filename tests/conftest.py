"""Options of all tests, and the worker processes that share the quick ones."""

import os
import re
from pathlib import Path

import child
import pytest

# Before torch is imported: two processes with a thread for every core each slow each other down many times over.
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if WORKERS > 1:
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // WORKERS))


def pytest_configure(config):
    child.end_on_sigterm()


def pytest_addoption(parser):
    """Add the options of tests/fuzz."""
    parser.addoption(
        "--long", action="store_true", help="fuzz with 20,000 inputs instead of some hundred"
    )
    parser.addoption("--fuzz-seed", type=int, default=0, help="seed of the fuzz tests' inputs")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """Share whole folders of tests among a worker for each core, where pytest-xdist is installed.

    Single files run in this process, and so do host and browser tests: each worker would start a ComfyUI of its own.
    `-n` overrides this.
    """
    option = config.option
    if (
        WORKERS == 1
        and "PYTEST_XDIST_WORKER" not in os.environ  # a worker runs this hook, too
        and getattr(option, "numprocesses", 0) is None
        and not option.usepdb
        and not option.collectonly
        and not re.search(r"(?<!not )\b(host|browser)\b", option.markexpr)
        and all(Path(str(argument).split("::")[0]).is_dir() for argument in config.args)
    ):
        option.numprocesses = min(os.cpu_count() or 1, 8)
        option.dist = "loadfile"
