"""Options of all tests."""

import child


def pytest_configure(config):
    child.end_on_sigterm()


def pytest_addoption(parser):
    """Add the options of tests/fuzz."""
    parser.addoption(
        "--long", action="store_true", help="fuzz with 20,000 inputs instead of some hundred"
    )
    parser.addoption("--fuzz-seed", type=int, default=0, help="seed of the fuzz tests' inputs")
