"""The workflow files run as they are, are cached, and can be cancelled."""

import time
import uuid

import comfy_host
import pytest
import workflow_files

pytestmark = pytest.mark.host

EXAMPLE = "VARestorerExampleImage"
WITH_THE_WHOLE_EXAMPLE = "01"
"""Start of the name of the workflow that runs as it is."""


@pytest.fixture
def stand_ins(host):
    """Small files in the place of the weights that some workflows need, in a host's folders."""
    files = workflow_files.StandIns(host)
    files.put()
    yield
    files.take()


def not_chosen(prompt: dict) -> set:
    """Return the nodes that only feed the branch which a switch does not take: the host leaves them out."""
    idle = set()
    for node in prompt.values():
        if node["class_type"] == "ComfySwitchNode":
            other = "on_false" if node["inputs"]["switch"] else "on_true"
            idle.add(node["inputs"][other][0])
    return idle


def run(host, prompt: dict) -> list:
    """Run a prompt, check that a second run takes all from the cache, and return what was saved."""
    record = host.run(prompt)
    (saver,) = (name for name, node in prompt.items() if node["class_type"] == "SaveImage")
    messages = host.run(prompt)["status"]["messages"]
    (cached,) = (data["nodes"] for kind, data in messages if kind == "execution_cached")
    assert set(cached) == set(prompt) - not_chosen(prompt)
    return host.pictures(record, saver)


def check(prompt: dict, saved: list) -> None:
    """Check that pictures are not flat, and as large as the workflow's enlargement says."""
    from PIL import Image

    from varestorer_core.assets import DEMO_LQ, asset_path

    for picture in saved:
        low, high = picture.convert("L").getextrema()
        assert high - low > 32, "the saved picture is flat"
        types = [node["class_type"] for node in prompt.values()]
        source = asset_path(DEMO_LQ) if EXAMPLE in types else comfy_host.PHOTO
        if EXAMPLE in types or comfy_host.PHOTO.name in loaded(prompt):
            (times,) = {n["inputs"]["upscale"] for n in prompt.values() if "upscale" in n["inputs"]}
            if "ImageUpscaleWithModel" in types:
                times *= 4
            with Image.open(source) as lq:
                assert picture.size == tuple(round(side * times) for side in lq.size)


def loaded(prompt: dict) -> set:
    return {n["inputs"]["image"] for n in prompt.values() if n["class_type"] == "LoadImage"}


def with_photo(prompt: dict) -> dict:
    """Put a small picture in the place of the example, which takes long on a CPU."""
    for node in prompt.values():
        if node["class_type"] == EXAMPLE:
            node |= comfy_host.node("LoadImage", image=comfy_host.PHOTO.name)
    return prompt


@pytest.mark.parametrize("name", sorted(set(workflow_files.names()) - set(workflow_files.NEEDED)))
def test_runs_as_it_is_and_a_second_run_is_cached(host, name):
    prompt = workflow_files.to_prompt(host, workflow_files.read(name))
    if not name.startswith(WITH_THE_WHOLE_EXAMPLE):
        with_photo(prompt)
    saved = run(host, prompt)
    assert len(saved) == (2 if "many" in name else 1)
    check(prompt, saved)


@pytest.mark.parametrize("name", workflow_files.NEEDED)
def test_says_which_files_are_missing(host, name):
    """Ours and the host's own loaders alike, before anything runs."""
    # A text that is shown is an output of its own, for which the host accepts a part of the prompt and raises nothing.
    prompt = workflow_files.to_prompt(host, workflow_files.read(name))
    prompt = {k: node for k, node in prompt.items() if node["class_type"] != "PreviewAny"}
    with pytest.raises(host.Error) as caught:
        host.run(prompt)
    for file in workflow_files.NEEDED[name]:
        assert file in str(caught.value)


@pytest.mark.parametrize(
    "name", sorted(set(workflow_files.NEEDED) - workflow_files.WITHOUT_STAND_IN)
)
def test_runs_with_the_files_that_it_needs(host, stand_ins, name):
    prompt = workflow_files.take_bundled(workflow_files.to_prompt(host, workflow_files.read(name)))
    check(prompt, run(host, with_photo(prompt)))


SAVED = sorted(path.stem for path in workflow_files.SAVED.glob("*.json"))


@pytest.mark.parametrize("name", [n for n in SAVED if n != "checkpoint_then_restore"])
def test_a_workflow_of_an_earlier_version_runs(host, stand_ins, name):
    prompt = workflow_files.take_bundled(
        with_photo(workflow_files.to_prompt(host, workflow_files.read_saved(name)))
    )
    for entry in prompt.values():  # large pictures take long, and show no more of an old file
        if entry["inputs"].get("upscale", 0) > 2:
            entry["inputs"]["upscale"] = 2.0
    (saver,) = (key for key, node in prompt.items() if node["class_type"] == "SaveImage")
    check(prompt, host.pictures(host.run(prompt), saver))


def test_an_upscale_model_enlarges_what_was_restored(host, stand_ins):
    """The stand-in interpolates linearly, so its result, made small again, is what was restored."""
    import numpy as np

    prompt = workflow_files.take_bundled(
        with_photo(workflow_files.to_prompt(host, workflow_files.read(workflow_files.UPSCALE)))
    )
    (upscale,) = (n for n in prompt.values() if n["class_type"] == "ImageUpscaleWithModel")
    (saver,) = (n for n in prompt.values() if n["class_type"] == "SaveImage")
    prompt["small"] = {"class_type": "TestKeep", "inputs": {"image": upscale["inputs"]["image"]}}
    prompt["large"] = {"class_type": "TestKeep", "inputs": {"image": saver["inputs"]["images"]}}
    arrays = host.arrays(host.run(prompt))
    small, large = arrays["small"][0], arrays["large"][0]
    height, width, _ = small.shape
    mean = large.reshape(height, 4, width, 4, 3).mean((1, 3))
    assert np.abs(mean - small).mean() < 0.02


def test_restores_what_a_checkpoint_drew(host):
    """The half behind the sampler, on the example picture in the place of the decoded one."""
    prompt = workflow_files.to_prompt(host, workflow_files.read(workflow_files.CHECKPOINT))
    decode = next(k for k, node in prompt.items() if node["class_type"] == "VAEDecode")
    native = {"CheckpointLoaderSimple", "CLIPTextEncode", "EmptyLatentImage", "KSampler"}
    prompt = {k: node for k, node in prompt.items() if node["class_type"] not in native}
    prompt[decode] = comfy_host.node("LoadImage", image=comfy_host.PHOTO.name)
    check(prompt, run(host, prompt))


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
