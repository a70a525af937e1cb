"""What the host serves of locales/: English is the schemas' own words, every language is complete."""

import json
import os
from pathlib import Path

import pytest

pytestmark = pytest.mark.host

LOCALES = Path(__file__).parents[2] / "locales"
ENGLISH = LOCALES / "en" / "nodeDefs.json"


def texts(info: dict) -> dict:
    """Return the words of an object_info entry in the form of nodeDefs.json."""
    inputs = {
        name: {"name": name, "tooltip": options["tooltip"]}
        for group, names in info["input_order"].items()
        if group != "hidden"
        for name in names
        for _, options in [info["input"][group][name]]
    }
    outputs = {
        str(index): {"name": name, "tooltip": tooltip}
        for index, (name, tooltip) in enumerate(
            zip(info["output_name"], info["output_tooltips"], strict=True)
        )
    }
    return {
        "display_name": info["display_name"],
        "description": info["description"],
        "inputs": inputs,
        "outputs": outputs,
    }


def test_english_is_what_the_schemas_say(host):
    """Were it not, a front end in English would show other words than the schemas."""
    nodes = host.get("/object_info")
    ours = {name: texts(nodes[name]) for name in sorted(nodes) if name.startswith("VARestorer")}
    if "VARESTORER_UPDATE_SCHEMAS" in os.environ:
        ENGLISH.write_text(json.dumps(ours, indent=2, ensure_ascii=False) + "\n")
    assert json.loads(ENGLISH.read_text()) == ours, (
        "the words of a schema changed: run with VARESTORER_UPDATE_SCHEMAS=1, and change the other "
        "languages, too"
    )


def test_the_host_serves_every_language(host):
    served = host.get("/i18n")
    languages = {folder.name for folder in LOCALES.iterdir()}
    assert languages <= set(served)
    for language in languages:
        stored = json.loads((LOCALES / language / "nodeDefs.json").read_text(encoding="utf-8"))
        assert {name: served[language]["nodeDefs"][name] for name in stored} == stored
        stored = json.loads((LOCALES / language / "main.json").read_text(encoding="utf-8"))
        categories = served[language]["nodeCategories"]
        assert {name: categories[name] for name in stored["nodeCategories"]} == (
            stored["nodeCategories"]
        )
