"""The languages of the nodes: nothing missing, nothing superfluous, nothing that breaks a message."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LANGUAGES = sorted(folder.name for folder in (ROOT / "locales").iterdir())
SCHEMAS = json.loads((ROOT / "tests" / "host" / "schemas.json").read_text())


def read(language: str, name: str) -> dict:
    return json.loads((ROOT / "locales" / language / name).read_text(encoding="utf-8"))


def leaves(tree: dict, path: tuple = ()) -> dict:
    """Return the strings of a tree by their path."""
    found = {}
    for key, value in tree.items():
        below = leaves(value, (*path, key)) if isinstance(value, dict) else {(*path, key): value}
        found.update(below)
    return found


def test_english_and_chinese_are_there():
    assert {"en", "zh"} <= set(LANGUAGES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_node_input_and_output_has_words_and_nothing_is_left_over(language):
    expected = set()
    for node, schema in SCHEMAS.items():
        expected |= {(node, "display_name"), (node, "description")}
        places = [("inputs", entry["name"]) for entry in schema["inputs"]]
        places += [("outputs", str(index)) for index in range(len(schema["outputs"]))]
        expected |= {(node, *place, key) for place in places for key in ("name", "tooltip")}
    words = leaves(read(language, "nodeDefs.json"))
    assert set(words) == expected
    assert all(text.strip() == text and text for text in words.values())


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_category_has_words(language):
    own = {part for schema in SCHEMAS.values() for part in schema["category"].split("/")[1:]}
    assert set(read(language, "main.json")) == {"nodeCategories"}
    assert set(read(language, "main.json")["nodeCategories"]) == own


@pytest.mark.parametrize("language", [name for name in LANGUAGES if name != "en"])
def test_help_pages_call_things_as_the_node_does(language):
    for node, words in read(language, "nodeDefs.json").items():
        page = (ROOT / "web" / "docs" / node / f"{language}.md").read_text(encoding="utf-8")
        assert page.startswith(f"# {words['display_name']}\n")
        for name, shown in words["inputs"].items():
            assert f"| `{name}` {shown['name']} |" in page, (node, name)
        english = (ROOT / "web" / "docs" / f"{node}.md").read_text(encoding="utf-8")
        # Tables of choices, scores and files have as many rows.
        assert page.count("\n|") == english.count("\n|"), node


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_holds_what_the_front_end_takes_for_syntax(language):
    """Braces, at signs and bars are vue-i18n's: a message with one is not shown, or fails."""
    words = leaves(read(language, "nodeDefs.json")) | leaves(read(language, "main.json"))
    assert not {path: text for path, text in words.items() if re.search(r"[{}@|]", text)}


@pytest.mark.parametrize("language", LANGUAGES)
def test_translations_keep_the_numbers_and_the_names_of_files_and_choices(language):
    """A translation must keep every range, size and menu entry."""
    english, words = (leaves(read(name, "nodeDefs.json")) for name in ("en", language))
    choices = {
        (node, "inputs", entry["name"], "tooltip"): set(map(str, entry.get("options", ())))
        for node, schema in SCHEMAS.items()
        for entry in schema["inputs"]
    }
    for path, text in words.items():
        marks = r"\d+(?:\.\d+)?|[\w./-]+\.(?:pth|safetensors|co/\S+\w)|models/\w+"
        kept = set(re.findall(marks, english[path]))
        named = set(re.findall(r"\w+", english[path])) & choices.get(path, set())
        lost = [mark for mark in kept | named if mark not in text]
        assert not lost, (path, lost)
