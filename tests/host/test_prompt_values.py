"""Any values sent to /prompt result in a picture, a rejection before any work, or one sentence of ours.

`pytest tests/host/test_prompt_values.py --long` sends 2,500 prompts instead of 60.
"""

import importlib.util
import json
import random
import urllib.error
from collections import Counter
from pathlib import Path

import pytest

pytestmark = pytest.mark.host

_file = Path(__file__).parents[1] / "fuzz" / "damage.py"
_spec = importlib.util.spec_from_file_location("varestorer_damage", _file)
damage = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(damage)

OURS = ("VARestorerError", "CheckpointError", "ImageError", "SettingError")
PICTURE = {"odd": {"class_type": "TestPicture", "inputs": {"kind": "gradient"}}}


def prompts(host):
    """Return prompts that work, with every node that has values a script can set."""
    whole = {**host.whole(image=["odd", 0]), **PICTURE}
    chain = {**host.chain(image=["odd", 0], upscale=1.0), **PICTURE}
    others = {**PICTURE, "model": whole["model"]}
    loaders = {
        "VARestorerLoadTextEncoder": {"clip_name": "missing.safetensors"},
        "VARestorerLoadAdapter": {"model": ["model", 0], "adapter_name": "missing.safetensors"},
        "VARestorerConvertModel": {"file": "missing.pth"},
        "VARestorerDegrade": {"image": ["odd", 0]},
        "VARestorerColorMatch": {"image": ["odd", 0], "source": ["odd", 0]},
        "VARestorerGenerate": {"model": ["model", 0]},
        "VARestorerExampleImage": {},
    }
    for name, inputs in loaders.items():
        try:
            described = host.get(f"/object_info/{name}")[name]["input"]
        except (KeyError, urllib.error.HTTPError):
            continue
        usual = {
            key: value[1]["default"]
            for key, value in {**described["required"], **described.get("optional", {})}.items()
            if len(value) > 1 and "default" in value[1]
        }
        others[name] = {"class_type": name, "inputs": {**usual, **inputs}}
        missing = described["required"].keys() - usual.keys() - inputs.keys()
        assert not missing, f"{name} would never run: {missing}"
        sink = "TestKeep" if "image" in inputs else "TestSink"
        socket = "image" if sink == "TestKeep" else "anything"
        others[f"{name} out"] = {"class_type": sink, "inputs": {socket: [name, 0]}}
    return [whole, chain, others]


def damaged_prompt(prompt, chance):
    """Return a prompt in which one to three values of our nodes are strange, missing or new."""
    prompt = json.loads(json.dumps(prompt))
    ours = [node for node in prompt.values() if node["class_type"].startswith("VARestorer")]
    changed = []
    for _ in range(chance.choice((1, 1, 2, 3))):
        node = chance.choice(ours)
        values = [key for key, value in node["inputs"].items() if not isinstance(value, list)]
        if not values:
            continue
        key = chance.choice(values)
        if chance.random() < 0.1:
            node["inputs"].pop(key)
        else:
            node["inputs"][key] = chance.choice(damage.STRANGE)
        changed.append((node["class_type"], key, repr(node["inputs"].get(key, "absent"))[:40]))
    return prompt, changed


def outcome(host, prompt):
    """Return the outcome of a prompt: "picture", "refused" or "sentence"; anything else is an error."""
    try:
        record = host.history(host.queue(prompt))
    except type(host).Error:
        return "refused"
    for kind, data in record["status"]["messages"]:
        if kind == "execution_error":
            assert data["exception_type"].rpartition(".")[2] in OURS, data["exception_type"]
            assert data["exception_message"].strip().isprintable()
            return "sentence"
    return "picture"


def test_strange_values(host, request):
    number = 2500 if request.config.getoption("--long") else 60
    seed = request.config.getoption("--fuzz-seed")
    chance, counts, wrong = random.Random(f"{seed} prompt"), Counter(), []
    given = prompts(host)
    for index in range(number):
        prompt, changed = damaged_prompt(chance.choice(given), chance)
        try:
            counts[outcome(host, prompt)] += 1
        except Exception as error:
            wrong.append(f"{index} of seed {seed}, {changed}: {type(error).__name__} {error}"[:400])
    request.config.get_terminal_writer().line(f"/prompt: {dict(counts)}")
    assert not wrong, "\n".join(wrong)
    assert "Traceback" not in "".join(
        line for line in host.log.splitlines(keepends=True) if "varestorer_core" in line
    )
    assert outcome(host, given[0]) == "picture"


@pytest.mark.parametrize("value", [None, False, 5, {}])
@pytest.mark.parametrize(
    ("node", "name"), [("VARestorerLoadModel", "model_name"), ("VARestorerLoadVAE", "vae_name")]
)
def test_names_that_are_no_names_get_a_sentence(host, node, name, value):
    prompt = {**host.whole(image=["odd", 0]), **PICTURE}
    for entry in prompt.values():
        if entry["class_type"] == node:
            entry["inputs"][name] = value
    with pytest.raises(type(host).Error) as caught:
        host.run(prompt)
    message = " ".join(caught.value.messages)
    assert "No file is chosen" in message or "The name of a file of models/" in message
