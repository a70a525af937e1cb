"""The workflow files run as they are, are cached, and can be cancelled."""

import json
import time
import uuid
from pathlib import Path

import pytest

pytestmark = pytest.mark.host

WORKFLOWS = sorted((Path(__file__).parents[2] / "workflows").glob("*.json"))
LQ = Path(__file__).parents[2] / "varestorer_core" / "assets" / "demo_lq.png"
UI_ONLY = {"Note", "MarkdownNote", "Reroute", "PrimitiveNode"}


def to_prompt(host, workflow: dict) -> dict:
    """Turn a workflow file into API form: widget values are positional, links become pairs."""
    links = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] in UI_ONLY:
            continue
        info = host.get(f"/object_info/{node['type']}")[node["type"]]
        values = list(node.get("widgets_values", []))
        inputs = {}
        for name in host.input_names(node["type"]):
            fields = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
            if name not in fields:  # hidden ones are filled in by the host
                continue
            kind, *options = fields[name]
            if isinstance(kind, list) or kind in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"):
                inputs[name] = values.pop(0)
                if options and options[0].get("control_after_generate"):
                    assert values.pop(0) in ("fixed", "increment", "decrement", "randomize")
        assert not values, f"{node['type']} has widget values that fit no input: {values}"
        for slot in node["inputs"]:
            if slot["link"] is not None:
                inputs[slot["name"]] = links[slot["link"]]
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_runs_as_it_is_and_a_second_run_is_cached(host, path):
    from PIL import Image

    prompt = to_prompt(host, json.loads(path.read_text()))
    record = host.run(prompt)
    types = {node: data["class_type"] for node, data in prompt.items()}
    (saver,) = (node for node, kind in types.items() if kind == "SaveImage")
    saved = host.pictures(record, saver)
    assert len(saved) == (2 if path.stem == "batch" else 1)
    for picture in saved:
        low, high = picture.convert("L").getextrema()
        assert high - low > 32, "the saved picture is flat"
        if "VARestorerExampleImage" in types.values():
            (upscale,) = (
                n["inputs"]["upscale"] for n in prompt.values() if "upscale" in n["inputs"]
            )
            with Image.open(LQ) as lq:
                assert picture.size == tuple(round(side * upscale) for side in lq.size)

    messages = host.run(prompt)["status"]["messages"]
    (cached,) = (data["nodes"] for kind, data in messages if kind == "execution_cached")
    assert set(cached) == set(prompt)


@pytest.mark.parametrize("stage", ["encode", "restore", "decode"])
def test_cancel_ends_within_one_tile(host, stage):
    client = uuid.uuid4().hex
    stream = host.events(client)
    # A seed of its own, so that no earlier run's result is taken from the cache.
    prompt = host.chain(upscale=4.0, overlap=32, seed=time.time_ns() % 2**32, detail=0.5)
    prompt_id = host.queue(prompt, client)
    after = 0
    cancelled = False
    for kind, data in stream:
        if data.get("prompt_id") != prompt_id:
            continue
        if kind == "progress" and data["node"] == stage:
            assert data["max"] > 20, "too few tiles to tell"
            if cancelled:
                after += 1
            elif data["value"] >= 2:
                host.fetch("/interrupt", {})
                cancelled = True
        if kind in ("execution_interrupted", "execution_success", "execution_error"):
            break
    stream.close()
    assert kind == "execution_interrupted"
    # The tile in work when the cancel arrived may still be reported, and one event may be on its way.
    assert after <= 2
    assert host.history(prompt_id)["status"]["status_str"] == "error"
