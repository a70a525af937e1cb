"""The number of inputs, and the counts of outcomes at the end."""

import sys
from collections import Counter
from pathlib import Path

import pytest

from varestorer_core.config import TokenizerConfig, TransformerConfig
from varestorer_core.models.tokenizer import VisualTokenizer
from varestorer_core.models.transformer import VARTransformer

sys.path.insert(0, str(Path(__file__).parent))  # damage.py, beside the tests

COUNTS: dict[str, Counter] = {}


@pytest.fixture
def inputs(request):
    """Return the number of inputs for each target, and the seed."""
    config = request.config
    return (2500 if config.getoption("--long") else 40), config.getoption("--fuzz-seed")


@pytest.fixture
def count():
    """Return the counter of a target's outcomes, by its name."""
    return lambda target: COUNTS.setdefault(target, Counter())


def pytest_terminal_summary(terminalreporter):
    if COUNTS:
        terminalreporter.section("outcomes of damaged inputs")
        for target, counts in COUNTS.items():
            shown = ", ".join(f"{number} {what}" for what, number in sorted(counts.items()))
            terminalreporter.line(f"{target}: {shown}")


@pytest.fixture(scope="session")
def transformer():
    """Return a small transformer."""
    return VARTransformer(
        TransformerConfig(32, 2, 2, 6, 16, 64, text_rows=8, pixel_class="0.06M")
    ).eval()


@pytest.fixture(scope="session")
def tokenizer():
    """Return a small tokenizer."""
    return VisualTokenizer(TokenizerConfig(6, 8, (1, 1, 2, 2), 1, 2)).eval()
