"""Text to picture: the core's values, every ratio, seeds, prompts, progress and cancelling."""

import json
import struct
import uuid
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.host

ASSETS = Path(__file__).parents[2] / "varestorer_core" / "assets"
BUNDLED = "varestorer-tiny (bundled)"


def text_channels() -> int:
    with (ASSETS / "tiny_transformer.safetensors").open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        metadata = json.loads(file.read(length))["__metadata__"]
    return json.loads(metadata["varestorer.config"])["text_channels"]


def prompt(text: int | None = None, negative: int | None = None, **settings) -> dict:
    """Return a generation; the prompts are numbers, which stand for random features."""
    inputs = {"ratio": "1:1", "seed": 0, "cfg": 3.0, "tau": 0.5, "top_p": 0.97, "batch_size": 1}
    made = {
        "model": {"class_type": "VARestorerLoadModel", "inputs": {"model_name": BUNDLED}},
        "vae": {"class_type": "VARestorerLoadVAE", "inputs": {"vae_name": BUNDLED}},
        "generate": {
            "class_type": "VARestorerGenerate",
            "inputs": {"model": ["model", 0], **inputs, **settings},
        },
        "decode": {
            "class_type": "VAEDecode",
            "inputs": {"samples": ["generate", 0], "vae": ["vae", 0]},
        },
        "keep": {"class_type": "TestKeep", "inputs": {"image": ["decode", 0]}},
    }
    for name, seed in (("conditioning", text), ("negative", negative)):
        if seed is not None:
            inputs = {"channels": text_channels(), "seed": seed}
            made[name] = {"class_type": "TestText", "inputs": inputs}
            made["generate"]["inputs"][name] = [name, 0]
    return made


def run(host, *texts, **settings) -> np.ndarray:
    return host.arrays(host.run(prompt(*texts, **settings)))["keep"]


CORE = """
import sys, numpy, torch
from varestorer_core.checkpoint import load_tokenizer, load_transformer, read_checkpoint
from varestorer_core.models.bsq import dequantize
from varestorer_core.models.generation import generate
from varestorer_core.schedule import get_schedule
assets, target, channels = sys.argv[1:]
transformer = load_transformer(*read_checkpoint(assets + "/tiny_transformer.safetensors"), dtype=torch.float32)
tokenizer = load_tokenizer(*read_checkpoint(assets + "/tiny_tokenizer.safetensors"), dtype=torch.float32)
schedule = get_schedule(0.666, transformer.config.pixel_class)

def text(seed):
    return torch.randn(1, 5, int(channels), generator=torch.Generator().manual_seed(seed))[:, :4]

with torch.inference_mode():
    bits = generate(
        transformer, schedule, text=text(1), negative=text(2), cfg=2.5, tau=0.8, top_p=0.9,
        generator=torch.Generator().manual_seed(7),
    )
    images = tokenizer.decode(dequantize(bits, schedule))
numpy.save(target, ((images + 1) / 2).clamp(0, 1).movedim(1, -1).numpy())
"""


def test_the_picture_is_the_cores(host, tmp_path):
    host.python_with_core(CORE, ASSETS, tmp_path / "expected.npy", text_channels())
    image = run(host, 1, 2, ratio="3:2", seed=7, cfg=2.5, tau=0.8, top_p=0.9)
    expected = np.load(tmp_path / "expected.npy")
    assert image.shape == expected.shape
    assert image.shape[2] > image.shape[1], "3:2 is wider than high"
    assert np.abs(image - expected).mean() < 1e-3


@pytest.mark.parametrize("ratio", ["1:3", "4:5", "7:4", "3:1"])
def test_ratios_are_width_to_height(host, ratio):
    _, height, width, _ = run(host, ratio=ratio, cfg=1.0).shape
    across, down = map(int, ratio.split(":"))
    assert width / height == pytest.approx(across / down, rel=0.2)


def test_larger_pictures(host):
    assert run(host, pixels="0.60M").shape == (1, 192, 192, 3)


def test_a_picture_does_not_depend_on_its_batch(host):
    batch = run(host, seed=4, batch_size=3)
    assert batch.shape[0] == 3
    # The native decoder takes all of a batch at once, and rounds differently.
    assert np.abs(batch[2:] - run(host, seed=6)).max() < 1e-4
    assert not np.array_equal(batch[:1], batch[1:2])


def test_prompts_and_guidance_matter(host):
    plain = run(host)
    assert np.array_equal(plain, run(host, cfg=9.0)), "without prompts there is nothing to guide"
    prompted = run(host, 1)
    assert not np.array_equal(prompted, plain)
    assert not np.array_equal(prompted, run(host, 1, 2))
    assert not np.array_equal(prompted, run(host, 1, cfg=6.0))


def test_the_likelier_values_need_no_seed(host):
    assert np.array_equal(run(host, seed=1, top_k=1), run(host, seed=2, top_k=1))


def test_progress_counts_scales_and_cancel_ends_at_the_next(host):
    client = uuid.uuid4().hex
    stream = host.events(client)
    seed = uuid.uuid4().int % 2**32  # so that nothing comes from the cache
    prompt_id = host.queue(prompt(seed=seed, batch_size=32, pixels="0.25M"), client)
    seen = []
    for kind, data in stream:
        if data.get("prompt_id") != prompt_id:
            continue
        if kind == "progress" and data["node"] == "generate":
            assert data["max"] == 32 * 10
            seen.append(data["value"])
            if len(seen) == 3:
                host.fetch("/interrupt", {})
        if kind in ("execution_interrupted", "execution_success", "execution_error"):
            break
    stream.close()
    assert kind == "execution_interrupted"
    assert seen == sorted(seen)
    assert seen[-1] < 32 * 10 / 2  # newer ComfyUI versions leave reports out, but it was cut short


def test_text_of_another_width_is_refused(host):
    made = prompt(1)
    made["conditioning"]["inputs"]["channels"] = text_channels() + 1
    with pytest.raises(host.Error, match="channels"):
        host.run(made)
