"""The canvas and the command line give the same pixels for the same settings, on the CPU."""

import shutil
from pathlib import Path

import comfy_host
import numpy as np
import pytest

from varestorer_core.assets import TINY_TRANSFORMER, asset_path
from varestorer_core.checkpoint import convert

pytestmark = pytest.mark.host

PACK = Path(__file__).parents[2]
PHOTO = PACK.parent / "shared" / "images" / "official_input_dog.png"
"""A real degraded photograph, kept beside the checkout where this project is developed."""

SETTINGS = [
    {"upscale": 1.0, "overlap": 64, "seed": 0, "detail": 0.0, "color_match": "none"},
    {"upscale": 2.0, "overlap": 64, "seed": 0, "detail": 0.0, "color_match": "wavelet"},
    {"upscale": 1.5, "overlap": 32, "seed": 7, "detail": 0.6, "color_match": "lab"},
    {"upscale": 1.0, "overlap": 64, "detail": 0.0, "fidelity": 2.5, "color_match": "adain"},
]

# A small random SwinIR with the layout of general_swinir_v1.ckpt.
MAKE_CLEANER = """
import sys, torch
from spandrel.architectures.SwinIR import SwinIR
torch.manual_seed(0)
network = SwinIR(
    img_size=64, patch_size=1, in_chans=3, embed_dim=12, depths=[2], num_heads=[2], window_size=8,
    mlp_ratio=2, upscale=8, upsampler="nearest+conv", start_unshuffle=8,
)
weights = {k.replace("conv_first.", "conv_first.1."): v for k, v in network.state_dict().items()}
torch.save({"state_dict": weights}, sys.argv[1])
"""


def command_line(host, source: Path, target: Path, settings: dict) -> np.ndarray:
    """Restore with the command, run by the host's own Python, and return 8-bit pixels (H, W, 3)."""
    from PIL import Image

    options = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    host.command("restore", source, "-o", target, "--device=cpu", *options)
    with Image.open(target) as result:
        return np.asarray(result.convert("RGB"))


def canvas(host, source: Path, settings: dict, cleaner: str = "") -> np.ndarray:
    """Restore with the nodes, between Load Image and Save Image, and return 8-bit pixels."""
    shutil.copy(source, host.base / "input" / source.name)
    prompt = host.chain(image=["load", 0], **settings)
    prompt["load"] = {"class_type": "LoadImage", "inputs": {"image": source.name}}
    save = {"images": ["decode", 0], "filename_prefix": "pixels"}
    prompt["save"] = {"class_type": "SaveImage", "inputs": save}
    if cleaner:
        prompt["cleaner"] = {"class_type": "UpscaleModelLoader", "inputs": {"model_name": cleaner}}
        prompt["encode"]["inputs"]["cleaner"] = ["cleaner", 0]
    return np.asarray(host.picture(host.run(prompt), "save"))


@pytest.mark.parametrize(
    ("source", "settings"),
    [*((comfy_host.PHOTO, settings) for settings in SETTINGS), (PHOTO, SETTINGS[3])],
    ids=lambda value: value.stem if isinstance(value, Path) else value["color_match"],
)
def test_same_pixels_as_the_command_line(host, tmp_path, source, settings):
    if not source.is_file():
        pytest.skip(f"{source} is not here")
    expected = command_line(host, source, tmp_path / "result.png", settings)
    assert np.array_equal(canvas(host, source, settings), expected)


def test_same_pixels_with_a_bundled_adapter(host, tmp_path):
    settings = {**SETTINGS[0], "upscale": 1.0, "color_match": "none"}
    expected = command_line(
        host, comfy_host.PHOTO, tmp_path / "result.png", {**settings, "adapter": "low_light"}
    )
    prompt = host.whole(image=["load", 0], **settings)
    shutil.copy(comfy_host.PHOTO, host.base / "input" / comfy_host.PHOTO.name)
    prompt["load"] = {"class_type": "LoadImage", "inputs": {"image": comfy_host.PHOTO.name}}
    save = {"images": ["restore", 0], "filename_prefix": "pixels"}
    prompt["save"] = {"class_type": "SaveImage", "inputs": save}
    host.insert_adapters(prompt, [("varestorer-tiny low light (bundled)", 1.0)])
    assert np.array_equal(np.asarray(host.picture(host.run(prompt), "save")), expected)


def test_same_pixels_with_a_cleaner_from_the_native_loader(host, tmp_path):
    cleaner = host.model_file("upscale_models", "cleaner.ckpt")
    host.python_with_core(MAKE_CLEANER, cleaner)
    settings = SETTINGS[0]
    options = {**settings, "cleaner": cleaner}
    expected = command_line(host, comfy_host.PHOTO, tmp_path / "result.png", options)
    cleaned = canvas(host, comfy_host.PHOTO, settings, cleaner.name)
    assert np.array_equal(cleaned, expected)
    assert not np.array_equal(cleaned, canvas(host, comfy_host.PHOTO, settings)), (
        "the cleaner had no effect"
    )


def test_the_tile_that_a_file_names_is_that_of_the_node(host, tmp_path):
    """As the command's with --tile; the tile of the bundled tokenizer has 192 pixels at that class."""
    path = host.model_file("diffusion_models", "large_tiles.safetensors")
    convert(asset_path(TINY_TRANSFORMER), path, dtype="keep", pixel_class="0.60M")
    expected = command_line(
        host, comfy_host.PHOTO, tmp_path / "result.png", {**SETTINGS[1], "tile": 192}
    )
    shutil.copy(comfy_host.PHOTO, host.base / "input" / comfy_host.PHOTO.name)
    results = []
    for name in (path.name, None):
        prompt = host.whole(image=["load", 0], **SETTINGS[1])
        prompt["load"] = {"class_type": "LoadImage", "inputs": {"image": comfy_host.PHOTO.name}}
        save = {"images": ["restore", 0], "filename_prefix": "pixels"}
        prompt["save"] = {"class_type": "SaveImage", "inputs": save}
        if name is not None:
            prompt["model"]["inputs"]["model_name"] = name
        results.append(np.asarray(host.picture(host.run(prompt), "save")))
    path.unlink()
    assert np.array_equal(results[0], expected)
    assert not np.array_equal(results[1], expected)
