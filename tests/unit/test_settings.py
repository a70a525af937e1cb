"""One home for settings: options, tables and README follow `varestorer_core/settings.py`.

`VARESTORER_UPDATE_DOCS=1` writes the table of docs/command-line.md anew.
"""

import os
import re
from pathlib import Path

import pytest

from varestorer_core.settings import SETTINGS, default_of, described_default

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "command-line.md"
BEGIN, END = (
    "<!-- settings: written by tests/unit/test_settings.py -->\n",
    "<!-- end of settings -->",
)
ON_THE_COMMAND_LINE = [name for name in SETTINGS if name != "feather"]


def table():
    """Return the rows of all settings that are options of the command."""
    rows = ["| option | meaning | range | default |", "| --- | --- | --- | --- |"]
    for name in ON_THE_COMMAND_LINE:
        setting, default = SETTINGS[name], described_default(name)
        allowed = ", ".join(f"`{c}`" for c in setting.choices) or setting.range
        rows.append(f"| `--{name.replace('_', '-')}` | {setting.text} | {allowed} | {default} |")
    return "\n".join(rows) + "\n"


def test_the_table_of_the_documentation():
    page = PAGE.read_text(encoding="utf-8")
    head, rest = page.split(BEGIN)
    _, tail = rest.split(END)
    wanted = head + BEGIN + table() + END + tail
    if os.environ.get("VARESTORER_UPDATE_DOCS"):
        PAGE.write_text(wanted, encoding="utf-8")
    assert page == wanted, "run once with VARESTORER_UPDATE_DOCS=1"


def test_every_setting_has_a_text_and_a_default_within_its_range():
    for name, setting in SETTINGS.items():
        setting.check(name, default_of(name))
        assert setting.text.endswith(".")
        assert setting.choices or setting.low < setting.high


def test_the_example_of_the_readme(tmp_path, monkeypatch):
    pytest.importorskip("PIL")
    from PIL import Image

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.S)
    assert code.count("\n") <= 15
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (24, 16), "teal").save("photo.jpg")
    exec(code, {})  # noqa: S102 - the README's own lines
    assert Image.open("restored.png").size == (96, 64)
