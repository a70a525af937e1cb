"""Cases that used to hang or end the host: it reports one sentence and restores the next picture."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.host

TRANSFORMER = (
    Path(__file__).parents[2] / "varestorer_core" / "assets" / "tiny_transformer.safetensors"
)
PICTURE = {"odd": {"class_type": "TestPicture", "inputs": {"kind": "gradient"}}}


def restore(host, **settings):
    """Return the pixels of a small picture, restored with the bundled model."""
    return host.arrays(host.run({**host.whole(image=["odd", 0], **settings), **PICTURE}))["keep"]


def load_model(host, name):
    """Load a model by its menu entry; return the sentences of the failure, if it fails."""
    prompt = {
        "load": {"class_type": "VARestorerLoadModel", "inputs": {"model_name": name}},
        "sink": {"class_type": "TestSink", "inputs": {"anything": ["load", 0]}},
    }
    try:
        host.run(prompt)
    except type(host).Error as error:
        return error.messages
    return []


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_contains_itself(host, zipped):
    loop: dict = {}
    loop["x"] = loop
    path = host.model_file("diffusion_models", f"loop {zipped}.pth")
    torch.save(loop, path, _use_new_zipfile_serialization=zipped)
    (message,) = load_model(host, path.name)
    assert "\n" not in message
    assert restore(host, upscale=1.0).shape[0] == 1


def test_a_model_file_that_is_cut_short_while_it_is_in_use(host):
    """Stored in the type that it is used in, so that nothing would have had to be copied."""
    path = host.model_file("diffusion_models", "cut.safetensors")
    state = {name: value.float() for name, value in load_file(TRANSFORMER).items()}
    with TRANSFORMER.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    save_file(state, path, header["__metadata__"])
    prompt = {**host.chain(image=["odd", 0], upscale=1.0), **PICTURE}
    for node in prompt.values():
        if node["class_type"] == "VARestorerLoadModel":
            node["inputs"] |= {"model_name": path.name, "weight_dtype": "fp32"}
    before = host.arrays(host.run(prompt))["keep"]
    os.truncate(path, 0)
    for node in prompt.values():
        if node["class_type"] == "VARestorerRestore":
            node["inputs"] |= {"seed": 77, "detail": 0.01}  # again, on the model in memory
    again = host.arrays(host.run(prompt))["keep"]
    assert again.shape == before.shape
    assert restore(host, upscale=1.0).shape == before.shape


def test_a_result_that_cannot_fit_is_refused_before_work(host):
    prompt = host.whole(image=["huge", 0], upscale=8.0)
    sides = {"width": 4096, "height": 4096, "batch_size": 1, "color": 0}
    prompt["huge"] = {"class_type": "EmptyImage", "inputs": sides}
    with pytest.raises(type(host).Error) as caught:
        host.run(prompt)
    (message,) = caught.value.messages
    assert "32768 x 32768" in message
    assert "smaller upscale" in message
    assert restore(host, upscale=1.0).shape[0] == 1


def test_a_file_is_opened_as_what_it_is(host):
    path = host.model_file("diffusion_models", "really safetensors.pth")
    shutil.copy(TRANSFORMER, path)
    assert load_model(host, path.name) == []
