"""A model of another pixel class: nodes restore in the tiles that its file asks for, as the command does."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import comfy_host
import numpy as np
import pytest

from varestorer_core.assets import TINY_TRANSFORMER, asset_path
from varestorer_core.checkpoint import identify, read_checkpoint, save_safetensors

pytestmark = pytest.mark.host

CLASSES = {"0.60M": 192, "1M": 256}
"""Sides of the tiles at the 4 pixels per token of the bundled VAE; 768 and 1024 at the 16 of the official one."""
SETTINGS = {"upscale": 2.0, "overlap": 64, "seed": 3, "detail": 0.5, "color_match": "none"}

_file = Path(__file__).with_name("test_pixels.py")
_spec = importlib.util.spec_from_file_location("varestorer_test_pixels", _file)
pixels = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(pixels)


@pytest.fixture
def model(host, request):
    """The bundled weights in a file that records another pixel class."""
    path = host.model_file("diffusion_models", f"{request.param}.safetensors")
    state, metadata = read_checkpoint(asset_path(TINY_TRANSFORMER))
    config = replace(identify(state, metadata).config, pixel_class=request.param)
    save_safetensors(state, path, kind="transformer", config=config)
    yield path
    path.unlink()


def restored(host, prompt: dict, model: Path) -> np.ndarray:
    """Return 8-bit pixels (H, W, 3) of a prompt with another model."""
    prompt["model"]["inputs"]["model_name"] = model.name
    return (host.arrays(host.run(prompt))["keep"][0] * 255).astype(np.uint8)


@pytest.mark.parametrize("model", CLASSES, indirect=True)
def test_nodes_restore_in_the_tiles_of_the_files_class(host, tmp_path, model):
    options = {**SETTINGS, "model": model}
    source = comfy_host.PHOTO
    expected = pixels.command_line(host, source, tmp_path / "out.png", options)
    assert np.array_equal(restored(host, host.whole(**SETTINGS), model), expected)
    side = CLASSES[model.stem]
    staged = host.chain(**SETTINGS, tile_size=str(side))
    assert np.array_equal(restored(host, staged, model), expected)
    # Another side is another result, so the class was more than read.
    usual = (host.arrays(host.run(host.whole(**SETTINGS)))["keep"][0] * 255).astype(np.uint8)
    assert not np.array_equal(usual, expected)
    with pytest.raises(type(host).Error, match=f"restores tiles of {side} pixels with this VAE"):
        restored(host, host.chain(**SETTINGS, tile_size="auto"), model)
