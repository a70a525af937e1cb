"""For all tiers of tests."""

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location(
    "varestorer_child", Path(__file__).with_name("child.py")
)
child = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(child)


def pytest_configure(config):
    child.end_on_sigterm()


def pytest_addoption(parser):
    """Add what the tests of tests/fuzz understand."""
    parser.addoption(
        "--long", action="store_true", help="fuzz with 20,000 inputs, not some hundred"
    )
    parser.addoption("--fuzz-seed", type=int, default=0, help="of the inputs of the fuzz tests")
