"""The paper's figures: the tables in the docs are those of the data file."""

import csv
from pathlib import Path

from varestorer_core.assets import PAPER_COMPARISON, asset_path


def test_the_tables_of_the_paper_in_the_docs_are_those_of_the_data():
    text = (Path(__file__).parents[2] / "docs" / "comparing.md").read_text(encoding="utf-8")
    with asset_path(PAPER_COMPARISON).open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 24
    for line in lines:
        values = [value for name, value in line.items() if name != "dataset"]
        assert f"| {' | '.join(values)} |" in text
