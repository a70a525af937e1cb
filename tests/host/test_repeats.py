"""The same picture has bitwise the same result, regardless of the tile batch, the position in a batch, the order of
runs, and the weights that the host keeps on the device. On the CPU, where rounding is deterministic.
"""

import re

import numpy as np
import pytest

pytestmark = pytest.mark.host

WIDTH, HEIGHT = 56, 40
"""Of the helper's pictures; four tiles at `UPSCALE`."""
UPSCALE = 3.0
MODEL_INPUTS = {"encode": ("vae",), "restore": ("model", "vae"), "decode": ("vae",)}
"""Which nodes of a prompt take a model or a VAE."""


def prompt_of(host, form: str, kind: str = "gradient", **settings) -> dict:
    """Return a restoration of a test picture by the all-in-one node, or by its three stages."""
    settings = {"upscale": UPSCALE, "overlap": 32, "detail": 0.7, "seed": 5, **settings}
    prompt = (host.whole if form == "whole" else host.chain)(["test", 0], **settings)
    prompt["test"] = {"class_type": "TestPicture", "inputs": {"kind": kind}}
    return prompt


def pixels(host, prompt: dict) -> np.ndarray:
    return host.arrays(host.run(prompt))["keep"]


def pick(prompt: dict, owner: str, name: str, index: int) -> None:
    """Put the host's ImageFromBatch before an input."""
    inputs = {"image": prompt[owner]["inputs"][name], "batch_index": index, "length": 1}
    prompt["pick"] = {"class_type": "ImageFromBatch", "inputs": inputs}
    prompt[owner]["inputs"][name] = ["pick", 0]


def offload(prompt: dict, share: float, model: str = "model") -> dict:
    """Let all nodes of a prompt take a model and a VAE of which only a share may be on the device."""
    inputs = {"model": [model, 0], "vae": ["vae", 0], "share": share}
    prompt["offload"] = {"class_type": "TestOffload", "inputs": inputs}
    for name, sockets in MODEL_INPUTS.items():
        for number, socket in enumerate(("model", "vae")):
            if name in prompt and socket in sockets and socket in prompt[name]["inputs"]:
                prompt[name]["inputs"][socket] = ["offload", number]
    return prompt


def layers_left_behind(host, share: float) -> dict[str, tuple[int, int]]:
    """Return by class of model how many layers the host last kept off the device, and of how many."""
    found = re.findall(rf"TestOffload: (\w+), share {share}: (\d+) of (\d+) stay", host.log)
    return {name: (int(behind), int(layers)) for name, behind, layers in found}


@pytest.mark.parametrize("form", ["whole", "chain"])
@pytest.mark.parametrize("tile_batch", [3, 9])
def test_the_tile_batch_does_not_matter(host, form, tile_batch):
    one = pixels(host, prompt_of(host, form, tile_batch=1))
    assert np.array_equal(pixels(host, prompt_of(host, form, tile_batch=tile_batch)), one)


@pytest.mark.parametrize("index", [0, 2])
def test_the_place_in_a_batch_does_not_matter(host, index):
    among = prompt_of(host, "whole", "batch")
    pick(among, "keep", "image", index)
    alone = prompt_of(host, "whole", "batch")
    pick(alone, "restore", "image", index)
    assert np.array_equal(pixels(host, among), pixels(host, alone))


def test_what_ran_before_does_not_matter(host):
    # At detail 0 the seed is without effect, but keeps the host from taking the result from its cache.
    first = pixels(host, prompt_of(host, "whole", detail=0.0, seed=101))
    pixels(host, prompt_of(host, "whole", "batch", upscale=2.0, detail=1.0, seed=102))
    pixels(host, prompt_of(host, "chain", "strip", upscale=4.0, fidelity=3.0, seed=103))
    assert np.array_equal(pixels(host, prompt_of(host, "whole", detail=0.0, seed=104)), first)


@pytest.mark.parametrize("form", ["whole", "chain"])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_weights_off_the_device_do_not_matter(host, form, share):
    expected = pixels(host, prompt_of(host, form))
    assert np.array_equal(pixels(host, offload(prompt_of(host, form), share)), expected)
    for behind, layers in layers_left_behind(host, share).values():
        assert behind == layers if share == 0 else 0 < behind < layers
    assert len(layers_left_behind(host, share)) == 2  # the transformer and the tokenizer
    # And all of them back again.
    again = prompt_of(host, form, "batch")
    pick(again, "keep", "image", 0)
    assert np.array_equal(pixels(host, again), expected)
