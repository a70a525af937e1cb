"""Live previews of finished tiles: what arrives on the WebSocket, when none does, and at what price."""

import json
import struct
import uuid
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.host

PREVIEW_IMAGE = 1
JPEG = 1
MOST_PREVIEWS = 20
TILES = 16
"""Of 240 pixels and a ring of 8, in tiles of 64."""


def watch(host, prompt: dict, method: str) -> tuple[list[Image.Image], dict]:
    """Run a prompt as a front end with that preview setting; return the previews and the arrays."""
    client = uuid.uuid4().hex
    stream = host.events(client)
    previews = []
    try:
        prompt_id = host.queue(prompt, client, preview_method=method)
        for opcode, payload in stream.frames():
            if opcode == 2:
                event, kind = struct.unpack(">II", payload[:8])
                assert (event, kind) == (PREVIEW_IMAGE, JPEG)
                previews.append(Image.open(BytesIO(payload[8:])))
            elif opcode == 1:
                message = json.loads(payload)
                if message["type"] in ("execution_success", "execution_error"):
                    assert message["type"] == "execution_success", message
                    break
    finally:
        stream.close()
    return previews, host.arrays(host.history(prompt_id))


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=np.float32) / 255


@pytest.mark.parametrize("form", ["chain", "whole"])
def test_finished_tiles_are_shown_and_change_nothing(host, form):
    settings = {"upscale": 1.875, "overlap": 0, "tile_batch": 1}
    prompt = host.chain(**settings) if form == "chain" else host.whole(**settings)
    previews, shown = watch(host, prompt, "auto")
    assert len(previews) == TILES - 1
    assert all(preview.format == "JPEG" and preview.size == (240, 240) for preview in previews)
    result = shown["keep"][0]
    # The first tile is there and the last is not: that is still the source's.
    first, last = pixels(previews[0]), pixels(previews[-1])
    near = np.abs(last - result).mean(axis=-1)
    assert near[:48, :48].mean() < near[184:, 184:].mean()
    assert np.abs(first - last)[:48, :48].mean() < 0.02
    assert np.abs(first - last)[80:160, 80:160].mean() > 0.001

    for node in prompt.values():  # another seed, so that nothing comes from the cache
        if "seed" in node["inputs"]:
            node["inputs"]["seed"] = 1
    previews, unseen = watch(host, prompt, "none")
    assert not previews
    assert np.array_equal(unseen["keep"], shown["keep"])


def test_a_big_picture_is_shown_small_and_not_too_often(host):
    prompt = host.whole(upscale=5.0, overlap=0, seed=2, tile_batch=1)
    previews, arrays = watch(host, prompt, "latent2rgb")
    assert arrays["keep"].shape == (1, 640, 640, 3)
    assert len(previews) == MOST_PREVIEWS - 1  # the last is the result
    assert {preview.size for preview in previews} == {(512, 512)}


def test_outside_of_a_mask_the_preview_shows_the_source(host):
    prompt = host.whole(upscale=2.0, overlap=0, seed=3, feather=0, tile_batch=1)
    # Within the upper half: two rows of five tiles, which begin 8 pixels outside of the picture.
    prompt["mask"] = {
        "class_type": "TestMask",
        "inputs": {"top": 0, "bottom": 14, "left": 0, "right": 56},
    }
    prompt["restore"]["inputs"]["mask"] = ["mask", 0]
    previews, arrays = watch(host, prompt, "auto")
    assert len(previews) == 9
    source = arrays["keep"][0, 128:]
    assert np.abs(pixels(previews[-1])[128:] - source).mean() < 0.02
