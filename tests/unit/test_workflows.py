"""Workflow files, as far as they can be judged without a host: whole links, known nodes, thumbnails."""

import ast
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from varestorer_core.assets import ADAPTERS
from varestorer_core.official_files import official_file

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))

SCHEMAS = json.loads((ROOT / "tests" / "host" / "schemas.json").read_text())
WIDGETS = [
    name
    for entry in SCHEMAS["VARestorerRestoreImage"]["inputs"]
    if entry["type"] in ("INT", "FLOAT", "COMBO")
    for name in (entry["name"], *(["after"] if entry.get("control_after_generate") else []))
]
"""Of the all-in-one node, in the order of a saved workflow; "after" is what the front end adds to a seed."""

BUNDLED_ADAPTERS = {
    f"varestorer-tiny {name.replace('_', ' ')} (bundled)": name for name in ADAPTERS
}
"""By their menu entries."""


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.stem)
def workflow(request):
    return json.loads(request.param.read_text())


def our_node_ids() -> set[str]:
    calls = (
        call
        for path in (ROOT / "nodes").glob("*.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "Schema"
    )
    return {k.value.value for call in calls for k in call.keywords if k.arg == "node_id"}


def test_there_are_workflows_and_each_has_a_thumbnail():
    assert WORKFLOWS
    for path in WORKFLOWS:
        assert path.with_suffix(".jpg").read_bytes().startswith(b"\xff\xd8"), path.stem


def test_groups_hold_whole_nodes_that_lie_beside_each_other(workflow):
    """By the sizes in the file; what the canvas makes of them, the browser tests see."""
    title = 30
    boxes = []
    for node in workflow["nodes"]:
        (left, top), (width, height) = node["pos"], node["size"]
        boxes.append((left, top - title, left + width, top + height))
    for a, b in itertools.combinations(boxes, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
    for node, box in zip(workflow["nodes"], boxes, strict=True):
        holding = [
            group["title"]
            for group in workflow["groups"]
            for x, y, width, height in [group["bounding"]]
            if x <= box[0] and y <= box[1] and box[2] <= x + width and box[3] <= y + height
        ]
        assert len(holding) == (node["type"] != "MarkdownNote"), node["type"]


def test_links_agree_with_both_of_their_ends(workflow):
    nodes = {node["id"]: node for node in workflow["nodes"]}
    assert len(nodes) == len(workflow["nodes"])
    listed = set()
    for number, source, slot, target, socket, kind in workflow["links"]:
        output, wanted = nodes[source]["outputs"][slot], nodes[target]["inputs"][socket]
        assert number in output["links"]
        assert wanted["link"] == number
        assert output["type"] == kind
        assert wanted["type"] in (kind, "*")
        listed.add(number)
    slots = [slot for node in nodes.values() for slot in node["inputs"]]
    assert {slot["link"] for slot in slots} - {None} == listed
    assert max(listed) == workflow["last_link_id"]
    assert max(nodes) == workflow["last_node_id"]


def test_nodes_say_which_pack_they_are_from(workflow):
    ours = [node for node in workflow["nodes"] if node["type"].startswith("VARestorer")]
    assert {node["type"] for node in ours} <= our_node_ids()
    assert {node["properties"]["cnr_id"] for node in ours} == {"varestorer"}


LOADERS = {
    "VARestorerLoadModel": {"varestorer.pth", "infinity_2b_reg.pth"},
    "VARestorerLoadVAE": {"infinity_vae_d32reg.pth"},
    "VARestorerLoadAdapter": {"varestorer.pth"},
    "VARestorerLoadTextEncoder": {
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    },
}


def test_our_loaders_say_where_the_official_files_can_be_had(workflow):
    """The list of missing models in ComfyUI offers to download by this what is chosen and not there."""
    for node in workflow["nodes"]:
        if node["type"] not in LOADERS:
            continue
        models = {model["name"]: model for model in node["properties"]["models"]}
        assert set(models) == LOADERS[node["type"]]
        for name, model in models.items():
            assert model["url"].startswith("https://huggingface.co/")
            assert model["url"].endswith(f"/{name}")
            known = official_file(name)
            assert known is None or (model["url"], model["directory"]) == (known.url, known.folder)
        chosen = node["widgets_values"][0]
        assert chosen in models or chosen in {"varestorer-tiny (bundled)", *BUNDLED_ADAPTERS}


def test_a_workflow_is_narrow_and_begins_with_its_note(workflow):
    """At most 1,500 units wide and right of the side bar, so that it can be read when it opens."""
    notes = [node for node in workflow["nodes"] if node["type"] == "MarkdownNote"]
    left = min(node["pos"][0] for node in workflow["nodes"])
    right = max(node["pos"][0] + node["size"][0] for node in workflow["nodes"])
    right = max(
        [right, *(x + width for x, _, width, _ in (g["bounding"] for g in workflow["groups"]))]
    )
    assert right - left <= 1500
    assert [note["pos"][0] for note in notes] == [left]
    view = workflow["extra"]["ds"]
    assert view["scale"] >= 0.85
    assert (left + view["offset"][0]) * view["scale"] >= 70


def test_native_loaders_say_where_their_files_can_be_had(workflow):
    """The host offers to download what it misses, by this."""
    for node in workflow["nodes"]:
        if node["type"] in ("UpscaleModelLoader", "CheckpointLoaderSimple"):
            (model,) = node["properties"]["models"]
            assert model["name"] == node["widgets_values"][0]
            assert model["url"].startswith("https://huggingface.co/")
            assert model["url"].endswith(model["name"])


def test_a_note_says_what_the_official_files_are_and_where_they_go(workflow):
    notes = [node["widgets_values"][0] for node in workflow["nodes"] if "Note" in node["type"]]
    text = "\n".join(notes)
    for folder in ("diffusion_models", "vae", "upscale_models", "text_encoders"):
        assert f"models/{folder}" in text
    assert "https://huggingface.co/" in text
    # Nodes 2.0 draws code on a note blue on olive, which cannot be read.
    assert "`" not in text


def test_every_file_that_a_note_calls_needed_has_its_loader(workflow):
    (note,) = (n["widgets_values"][0] for n in workflow["nodes"] if n["type"] == "MarkdownNote")
    needed = note.partition("**Needs these files:**\n\n")[2].partition("\n\n")[0]
    chosen = {str(value) for n in workflow["nodes"] for value in n.get("widgets_values") or []}
    for name in re.findall(r"\*\*(\S+\.\w+)\*\*", needed):
        assert name in chosen


def test_a_split_model_is_listed_with_all_parts(workflow):
    """ComfyUI 0.8 offers to download the chosen part, and what the workflow itself lists."""
    chosen = {str(value) for n in workflow["nodes"] for value in n.get("widgets_values") or []}
    if "model-00001-of-00002.safetensors" in chosen:
        (second,) = workflow["models"]
        assert second["name"] == "model-00002-of-00002.safetensors"
        assert second["directory"] == "text_encoders"
        assert second["url"].endswith(f"google/flan-t5-xl/resolve/main/{second['name']}")


def test_names_are_in_words_and_the_beginners_is_first():
    """ComfyUI lists templates of packs by file name alone."""
    names = [path.stem for path in WORKFLOWS]
    assert names[0] == "01 Restore a photo"
    for number, name in enumerate(names, 1):
        assert re.fullmatch(rf"{number:02d} [A-Z][a-z ,]+", name)


def test_a_note_is_short_and_in_chinese_too(workflow):
    (note,) = (n["widgets_values"][0] for n in workflow["nodes"] if n["type"] == "MarkdownNote")
    english, chinese = re.sub(r"\]\(\S+\)", "]", note).split("\n---\n")  # without addresses
    assert len(english.split()) < 150
    assert len(re.findall("[\u4e00-\u9fff]", chinese)) > 15


def test_no_two_thumbnails_look_alike():
    """As small as the list of templates shows them."""
    small = {}
    for path in WORKFLOWS:
        with Image.open(path.with_suffix(".jpg")) as picture:
            small[path.stem] = np.asarray(picture.convert("L").resize((64, 64)), np.float32)
    for one, other in itertools.combinations(small, 2):
        assert np.abs(small[one] - small[other]).mean() > 2, (one, other)


def test_the_official_template_has_the_released_settings_ours_and_a_switch():
    (path,) = (path for path in WORKFLOWS if "official" in path.stem)
    nodes = json.loads(path.read_text())["nodes"]
    released, ours = (n for n in nodes if n["type"] == "VARestorerRestoreImage")
    settings = [dict(zip(WIDGETS, n["widgets_values"], strict=True)) for n in (released, ours)]
    assert settings[0] | {"detail": 1.0, "overlap": 128, "color_match": "none"} == settings[0]
    assert settings[1] | {"detail": -1.0, "overlap": 64, "color_match": "auto"} == settings[1]
    (switch,) = (n for n in nodes if n["type"] == "ComfySwitchNode")
    sources = {slot["name"]: slot["link"] for slot in switch["inputs"]}
    for slot, node in (("on_false", released), ("on_true", ours)):
        assert sources[slot] in node["outputs"][0]["links"]


def test_the_adapter_of_a_damage_is_the_one_that_was_trained_on_it():
    """The size stays, and what is on auto follows the adapter."""
    (path,) = (path for path in WORKFLOWS if "noisy" in path.stem)
    nodes = {node["type"]: node for node in json.loads(path.read_text())["nodes"]}
    preset = nodes["VARestorerDegrade"]["widgets_values"][0]
    assert BUNDLED_ADAPTERS[nodes["VARestorerLoadAdapter"]["widgets_values"][0]] == preset
    assert nodes["VARestorerExampleImage"]["widgets_values"] == ["original"]
    settings = dict(zip(WIDGETS, nodes["VARestorerRestoreImage"]["widgets_values"], strict=True))
    assert settings | {"upscale": 1.0, "detail": -1.0, "color_match": "auto"} == settings
