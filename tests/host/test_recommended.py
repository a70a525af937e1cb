"""Automatic settings: an adapter's recommendation, otherwise the model's, on the canvas as in the command."""

import importlib.util
from pathlib import Path

import comfy_host
import numpy as np
import pytest
from PIL import Image

from varestorer_core.assets import TINY_TRANSFORMER, asset_path

pytestmark = pytest.mark.host

BUNDLED = "varestorer-tiny (bundled)"
AUTOMATIC = {"detail": -1.0, "fidelity": -1.0, "color_match": "auto"}
USUAL = {"detail": 0.0, "fidelity": 0.0, "color_match": "wavelet"}
OFFICIAL = "official size.pth"

# Adapters of the bundled model: two that recommend settings, and one of a student without sight of finer scales, which
# is also written as the merged model that it makes.
MAKE_ADAPTERS = """
import sys, torch
from dataclasses import replace
from pathlib import Path
from varestorer_core.checkpoint import identify, read_checkpoint, save_safetensors
from varestorer_core.lora.factors import merge_adapter
from varestorer_core.lora.recommended import RECOMMENDED, Recommended
source, models = Path(sys.argv[1]), Path(sys.argv[2])
base, metadata = read_checkpoint(source)
config = replace(identify(base, metadata).config, lora_rank=2)
generator = torch.Generator().manual_seed(0)
factors = {}
for block in range(config.depth):
    owner = f"blocks.{block}.sa.proj"
    out, into = base[owner + ".weight"].shape
    factors[owner + ".lora_down.weight"] = torch.randn(2, into, generator=generator) * into**-0.5
    factors[owner + ".lora_up.weight"] = torch.randn(out, 2, generator=generator) * 0.3

def save(name, config, **more):
    save_safetensors(factors, models / "loras" / name, kind="adapter", config=config, more=more)

dark = Recommended("low light", {"color_match": "none", "detail": 0.4, "fidelity": 1.5})
save("dark.safetensors", config, **{RECOMMENDED: dark.as_metadata()})
vivid = Recommended("vivid", {"color_match": "lab"})
save("vivid.safetensors", config, **{RECOMMENDED: vivid.as_metadata()})
save("damaged.safetensors", config, **{RECOMMENDED: "{"})
blind = replace(config, cross_scale=False)
save("blind.safetensors", blind)
merged = merge_adapter(dict(base), factors)
save_safetensors(
    merged, models / "diffusion_models" / "blind merged.safetensors", kind="transformer",
    config=replace(blind, lora_rank=0),
)
"""
# The width by which the official model is known, one block of it, and the bundled VAE's bits; a flat pickle of float32
# by official names, as infinity_2b_reg.pth is.
MAKE_OFFICIAL = """
import sys, torch
from varestorer_core.checkpoint.keys import chunk_blocks
from varestorer_core.config import TransformerConfig
from varestorer_core.models.transformer import VARTransformer
config = TransformerConfig(
    embed_dim=2048, depth=1, num_heads=16, codebook_dim=96, text_channels=16, ffn_dim=64, text_rows=4,
)
torch.manual_seed(0)
model = VARTransformer(config)
for parameter in model.parameters():
    torch.nn.init.normal_(parameter, std=0.02)
torch.save({chunk_blocks(name, 1): tensor for name, tensor in model.state_dict().items()}, sys.argv[1])
"""

_file = Path(__file__).with_name("test_pixels.py")
_spec = importlib.util.spec_from_file_location("varestorer_test_pixels", _file)
command = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(command)


@pytest.fixture
def adapters(host):
    if not host.model_file("loras", "dark.safetensors").exists():
        host.python_with_core(MAKE_ADAPTERS, asset_path(TINY_TRANSFORMER), host.base / "models")
    return host


@pytest.fixture
def official(host):
    """The host with a model of the official width under a name of its own."""
    path = host.model_file("diffusion_models", OFFICIAL)
    host.python_with_core(MAKE_OFFICIAL, path)
    yield host
    path.unlink()


def prompt(host, form: str, stack, model: str = BUNDLED, **settings) -> dict:
    """Return a restoration, whole or in stages, by a model with adapters (name, strength) on top."""
    made = (host.whole if form == "whole" else host.chain)(upscale=1.0, seed=4, **settings)
    made["model"]["inputs"]["model_name"] = model
    # Its file names no tiles, and the VAE's those of the bundled model.
    if model == OFFICIAL and form == "chain":
        made["encode"]["inputs"]["tile_size"] = "128"
    host.insert_adapters(made, stack)
    return made


def pixels(host, *given, **settings) -> np.ndarray:
    return host.arrays(host.run(prompt(host, *given, **settings)))["keep"]


DARK = {"detail": 0.4, "fidelity": 1.5, "color_match": "none"}


@pytest.mark.parametrize("form", ["whole", "chain"])
@pytest.mark.parametrize(
    ("stack", "meant"),
    [
        ([("dark.safetensors", 1.0)], DARK),
        ([("dark.safetensors", 0.5), ("vivid.safetensors", 1.0)], {**DARK, "color_match": "lab"}),
        ([("vivid.safetensors", 1.0), ("dark.safetensors", 0.0)], {**USUAL, "color_match": "lab"}),
        ([], USUAL),
    ],
    ids=["one", "the last of two", "one without strength", "none"],
)
def test_what_adapters_recommend_is_used_where_nothing_else_is_set(adapters, form, stack, meant):
    automatic = pixels(adapters, form, stack, **AUTOMATIC)
    assert np.array_equal(automatic, pixels(adapters, form, stack, **meant))
    if stack:  # and what is set on the widgets comes first
        own = pixels(adapters, form, stack, **USUAL)
        assert np.abs(own - automatic).max() > 1e-3


def test_the_node_says_what_its_adapter_recommends(adapters):
    made = prompt(adapters, "whole", [("dark.safetensors", 1.0)], **AUTOMATIC)
    said = adapters.run(made)["outputs"]["adapter0"]["varestorer_remark"]
    assert said == ["Automatic settings: color_match none, detail 0.4, fidelity 1.5"]
    silent = prompt(adapters, "whole", [("dark.safetensors", 0.0)], **AUTOMATIC)
    assert "adapter0" not in adapters.run(silent)["outputs"]


def test_a_damaged_recommendation_is_refused_in_one_sentence(adapters):
    with pytest.raises(adapters.Error, match=r"damaged\.safetensors recommends settings that"):
        adapters.run(prompt(adapters, "whole", [("damaged.safetensors", 1.0)], **USUAL))


def test_a_student_without_cross_scale_attention_restores_so(adapters):
    """The adapter alone says it; without strength it changes nothing."""
    blind = [("blind.safetensors", 1.0)]
    adapted = pixels(adapters, "whole", blind, **USUAL)
    merged = pixels(adapters, "whole", [], "blind merged.safetensors", **USUAL)
    assert np.abs(adapted - merged).mean() < 1e-4
    seeing = pixels(adapters, "whole", [("vivid.safetensors", 1.0)], **USUAL)  # the same factors
    assert np.abs(adapted - seeing).max() > 1e-3
    plain = pixels(adapters, "whole", [], **USUAL)
    assert np.array_equal(pixels(adapters, "whole", [("blind.safetensors", 0.0)], **USUAL), plain)
    with pytest.raises(adapters.Error, match="cross-scale"):
        adapters.run(prompt(adapters, "whole", [*blind, ("vivid.safetensors", 1.0)], **USUAL))


@pytest.mark.parametrize("form", ["whole", "chain"])
def test_the_bundled_model_recommends_no_noise_and_the_official_one_all(official, form):
    settings = {"fidelity": 0.0, "color_match": "none"}
    for model, detail in ((BUNDLED, 0.0), (OFFICIAL, 1.0)):
        automatic = pixels(official, form, [], model, detail=-1.0, **settings)
        assert np.array_equal(
            automatic, pixels(official, form, [], model, detail=detail, **settings)
        )
        other = pixels(official, form, [], model, detail=1.0 - detail, **settings)
        assert not np.array_equal(automatic, other)


def test_the_command_takes_the_same_detail(official, tmp_path):
    source = comfy_host.PHOTO
    common = {"upscale": 1.0, "overlap": 64, "seed": 4, "color_match": "none"}
    for model in (BUNDLED, OFFICIAL):
        files = {}
        if model == OFFICIAL:
            files["model"] = official.model_file("diffusion_models", model)
        found = command.command_line(official, source, tmp_path / "out.png", {**common, **files})
        made = prompt(official, "whole", [], model, **{**AUTOMATIC, "color_match": "none"})
        made["save"] = {
            "class_type": "SaveImage",
            "inputs": {"images": ["restore", 0], "filename_prefix": "automatic"},
        }
        picture: Image.Image = official.picture(official.run(made), "save")
        assert np.array_equal(found, np.asarray(picture))
