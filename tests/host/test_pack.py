"""The pack when the host starts: no warnings, frozen schemas, help pages, templates."""

import ast
import copy
import json
import os
import re
from pathlib import Path
from urllib.parse import quote

import pytest

pytestmark = pytest.mark.host

HERE = Path(__file__).parent
PACK = HERE.parents[1]
PACK_FOLDER = "Any-folder_name.v2"
SNAPSHOT = HERE / "schemas.json"
EXPERT = {"dtype", "tile_batch", "tile_size", "weight_dtype", "pixels", "top_k", "compile"}
KEPT = ("default", "min", "max", "step", "round", "options", "control_after_generate")
"""Fields of an input by which a saved workflow could come out differently."""
FILE_MENUS = {"model_name", "vae_name", "clip_name", "adapter_name", "file"}


@pytest.fixture
def our_nodes(host):
    """object_info of our nodes, by id."""
    nodes = host.get("/object_info")
    ours = {name: info for name, info in nodes.items() if name.startswith("VARestorer")}
    for info in ours.values():  # what the host fills in by itself for nodes that show something
        info["input"].pop("hidden", None)
        info["input_order"].pop("hidden", None)
    return ours


def test_start_logs_no_warning_of_ours(host):
    lines = host.start_log.splitlines()
    ours = [
        line
        for line in lines
        if re.search(f"varestorer|{re.escape(PACK_FOLDER)}", line, re.IGNORECASE)
    ]
    bad = [
        line
        for line in ours
        if re.search("warn|error|fail|cannot|traceback|skip", line, re.IGNORECASE)
    ]
    assert ours, "the host does not mention the pack at all"
    assert not bad, bad


def test_schemas_equal_the_stored_snapshot(our_nodes):
    """Node ids, inputs and outputs are frozen: saved workflows hold them by name and by position."""
    schemas = {name: schema(info) for name, info in sorted(our_nodes.items())}
    if "VARESTORER_UPDATE_SCHEMAS" in os.environ:
        SNAPSHOT.write_text(json.dumps(schemas, indent=2) + "\n")
    stored = json.loads(SNAPSHOT.read_text())
    assert schemas == stored, (
        "a schema changed. If that is meant (new nodes; new optional inputs after the existing ones), "
        "run with VARESTORER_UPDATE_SCHEMAS=1 and say so in CHANGELOG.md"
    )


def schema(info: dict) -> dict:
    """Reduce an object_info entry to what workflows depend on."""
    inputs = []
    for group, names in info["input_order"].items():
        for name in names:
            kind, options = info["input"][group][name]
            entry = {"name": name, "type": kind, "group": group}
            for key in KEPT:
                if key == "control_after_generate" and key in options:
                    # "fixed" where the host can say so: what a new node has, not what a saved one means.
                    entry[key] = bool(options[key])
                elif key in options and not (key == "options" and name in FILE_MENUS):
                    entry[key] = options[key]
            inputs.append(entry)
    outputs = [list(pair) for pair in zip(info["output_name"], info["output"], strict=True)]
    made = {"inputs": inputs, "outputs": outputs, "category": info["category"]}
    if info["output_node"]:
        made["output_node"] = True
    if any(info["output_is_list"]):
        made["output_is_list"] = info["output_is_list"]
    return made


def rename_input(info: dict) -> None:
    group, names = next((g, names) for g, names in info["input_order"].items() if names)
    info["input"][group]["other"] = info["input"][group].pop(names[0])
    names[0] = "other"


def option(**changes):
    """Return a change of the options of the last input that has them all."""

    def change(info: dict) -> None:
        fields = [f for group in info["input"].values() for _, f in group.values()]
        [f for f in fields if changes.keys() <= f.keys()][-1].update(changes)

    return change


@pytest.mark.parametrize(
    "change",
    [
        rename_input,
        lambda info: info["input_order"]["required"].reverse(),
        lambda info: info["input_order"]["required"].pop(),
        lambda info: info["input"]["required"]["image"].__setitem__(0, "MASK"),
        lambda info: info["output"].__setitem__(0, "MASK"),
        lambda info: info["output_name"].__setitem__(0, "other"),
        lambda info: info["output_is_list"].__setitem__(0, True),
        lambda info: info.update(category="image"),
        lambda info: info.update(output_node=True),
        option(default=7, min=0),
        option(min=-1),
        option(max=9999),
        option(step=7),
        option(round=0.5),
        option(options=["wavelet"]),
        option(control_after_generate=False),
    ],
)
def test_no_change_of_a_schema_goes_unnoticed(our_nodes, change):
    info = our_nodes["VARestorerRestoreImage"]
    before = schema(info)
    changed = copy.deepcopy(info)
    change(changed)
    assert schema(changed) != before


def test_every_input_and_output_has_a_tooltip(our_nodes):
    """A sentence each; of numbers with the range, of menus with what every entry does."""
    for name, info in our_nodes.items():
        tooltips = [info["description"], *info["output_tooltips"]]
        for group in info["input"].values():
            for input_name, (kind, options) in group.items():
                place, tooltip = f"{name}.{input_name}", options.get("tooltip", "")
                tooltips.append(tooltip)
                if kind in ("INT", "FLOAT"):
                    # Nobody reads the upper end of a seed's 64 bits.
                    ends = (options["min"], options["max"])
                    named = [f"{end:g}" for end in ends if end < 2**32]
                    assert all(
                        re.search(rf"(?<![\w-]){re.escape(end)}\b", tooltip) for end in named
                    ), place
                if kind == "COMBO" and input_name not in FILE_MENUS:
                    # Of menus of numbers (1:1, 512) the tooltip says the unit.
                    words = [o for o in options["options"] if not re.fullmatch(r"[\d:]+", o)]
                    assert all(word in tooltip for word in words), place
        for tooltip in tooltips:
            assert tooltip, name
            assert len(tooltip.split()) > 2, (name, tooltip)
            assert tooltip.endswith("."), (name, tooltip)


def test_experts_inputs_are_marked_advanced(our_nodes):
    """Hosts before 0.10 have no such field; their front end reads the flag all the same."""
    advanced = {
        (name, input_name)
        for name, info in our_nodes.items()
        for group in info["input"].values()
        for input_name, (_, options) in group.items()
        if options.get("advanced")
    }
    assert {input_name for _, input_name in advanced} == EXPERT
    for name, info in our_nodes.items():
        names = {input_name for group in info["input"].values() for input_name in group}
        assert {(name, input_name) for input_name in names & EXPERT} <= advanced


def test_nodes_are_found_under_other_names(host, our_nodes):
    """Where the host knows search aliases (from 0.11 on)."""
    known = "search_aliases" in next(iter(host.get("/object_info").values()))
    for name, info in our_nodes.items():
        assert len(info.get("search_aliases", [])) > 2 or not known, name


def test_every_node_has_a_help_page_that_names_its_inputs(host, our_nodes):
    for name, info in our_nodes.items():
        # Where the front end looks: in the user's language first.
        for page in (f"{name}.md", f"{name}/zh.md"):
            text = host.fetch(f"/extensions/{quote(PACK_FOLDER)}/docs/{page}").decode()
            for group in info["input"].values():
                for input_name in group:
                    assert f"`{input_name}`" in text, f"{page}: {input_name}"


def test_templates_are_offered_with_thumbnails(host):
    listed = host.get("/api/workflow_templates")[PACK_FOLDER]
    assert set(listed) == {path.stem for path in (PACK / "workflows").glob("*.json")}
    for name in listed:
        address = f"/api/workflow_templates/{quote(PACK_FOLDER)}/{quote(name)}"
        assert host.get(address + ".json")["nodes"]
        assert host.fetch(address + ".jpg").startswith(b"\xff\xd8")


def test_registries_find_every_node_by_reading_the_source(our_nodes):
    """ComfyUI-Manager looks for `Schema(node_id="...")` in subclasses of ComfyNode."""
    found = set()
    for path in (PACK / "nodes").glob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "Schema":
                found |= {k.value.value for k in call.keywords if k.arg == "node_id"}
    assert found == set(our_nodes)
