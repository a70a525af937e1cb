"""Adapters as the host's weight patches: the pixels of merged weights, at any strength, stacked."""

import shutil
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.host

ASSETS = Path(__file__).parents[2] / "varestorer_core" / "assets"
BUNDLED = "varestorer-tiny (bundled)"

# A base whose biases matter, two adapters for it, and merged files as the core makes them.
MAKE_FILES = """
import sys, torch
from dataclasses import replace
from pathlib import Path
from safetensors.torch import save_file
from varestorer_core.checkpoint import identify, read_checkpoint, save_safetensors
from varestorer_core.lora.factors import merge_adapter
source, models = Path(sys.argv[1]), Path(sys.argv[2])
state, metadata = read_checkpoint(source)
config = identify(state, metadata).config
generator = torch.Generator().manual_seed(0)

def noise(shape, scale):
    return torch.randn(shape, generator=generator) * scale

base = {name: tensor.float() for name, tensor in state.items()}
for name in base:
    if name.startswith("blocks.") and name.endswith("ca.v_bias"):
        base[name] = noise(base[name].shape, 2.0)

def adapter():
    made = {}
    for block in range(config.depth):
        for name in ("sa.mat_qkv", "sa.proj", "ca.mat_q", "ca.mat_kv", "ca.proj"):
            owner = f"blocks.{block}.{name}"
            out, into = base[owner + ".weight"].shape
            made[owner + ".lora_down.weight"] = noise((3, into), into ** -0.5)
            made[owner + ".lora_up.weight"] = noise((out, 3), 0.5)
    return made

def save(folder, name, tensors, kind, **options):
    save_safetensors(tensors, models / folder / f"{name}.safetensors", kind=kind, config=config, **options)

first, second = adapter(), adapter()
save("diffusion_models", "adapter base", base, "transformer", source_sha256="a" * 64)
save("diffusion_models", "merged half", merge_adapter(base, first, 0.5), "transformer")
save("diffusion_models", "merged full", merge_adapter(base, first), "transformer")
save("diffusion_models", "merged both", merge_adapter(merge_adapter(base, first, 0.5), second, 0.7), "transformer")
config = replace(config, lora_rank=3)
save("loras", "first", first, "adapter", base_sha256="a" * 64)
save("loras", "second", second, "adapter")
save("loras", "wrong hash", first, "adapter", base_sha256="b" * 64)
torch.save({"state_dict": first}, models / "loras" / "raw.pth")
peft = {}
for name, value in first.items():
    owner, side = name.removesuffix(".weight").rsplit(".lora_", 1)
    letter = {"down": "A", "up": "B"}[side]
    peft[f"base_model.model.{owner}.lora_{letter}.weight"] = value * (0.5 if side == "up" else 1)
(models / "loras" / "rain").mkdir()
save_file(peft, models / "loras" / "rain" / "adapter_model.safetensors")
config_text = '{"peft_type": "LORA", "r": 3, "lora_alpha": 6}'
(models / "loras" / "rain" / "adapter_config.json").write_text(config_text)
narrow = {k: v[:, :-2] if "down" in k else v for k, v in first.items()}
torch.save(narrow, models / "loras" / "narrow.pth")
config = replace(config, codebook_dim=config.codebook_dim + 2)
save("loras", "other codebook", first, "adapter")
"""


@pytest.fixture
def adapters(host):
    if not host.model_file("loras", "first.safetensors").exists():
        source = ASSETS / "tiny_transformer.safetensors"
        host.python_with_core(MAKE_FILES, source, host.base / "models")
        shutil.copy(source, host.model_file("loras", "transformer.safetensors"))
    return host


def prompt(host, model: str, *adapters: tuple[str, float], weights: str = "default") -> dict:
    """Return a restoration by a model with adapters on top, one after the other."""
    made = host.whole(upscale=1.0)
    made["model"]["inputs"].update(model_name=model, weight_dtype=weights)
    host.insert_adapters(made, adapters)
    return made


def pixels(host, model: str, *adapters: tuple[str, float], **settings) -> np.ndarray:
    return host.arrays(host.run(prompt(host, model, *adapters, **settings)))["keep"]


def offloaded(host, *adapters: tuple[str, float], **settings) -> np.ndarray:
    """Return the base's result with all weights off the device."""
    made = prompt(host, BASE, *adapters, **settings)
    inputs = {"model": made["restore"]["inputs"]["model"], "vae": ["vae", 0], "share": 0.0}
    made["offload"] = {"class_type": "TestOffload", "inputs": inputs}
    made["restore"]["inputs"].update(model=["offload", 0], vae=["offload", 1])
    return host.arrays(host.run(made))["keep"]


BASE = "adapter base.safetensors"
FIRST, SECOND = "first.safetensors", "second.safetensors"


def test_patched_is_merged_and_the_base_comes_back_unchanged(adapters):
    """One model in memory all the while: each strength is put in and taken out again."""
    before = pixels(adapters, BASE)
    runs = {
        "merged full.safetensors": [(FIRST, 1.0)],
        "merged half.safetensors": [(FIRST, 0.5)],
        "merged both.safetensors": [(FIRST, 0.5), (SECOND, 0.7)],
    }
    for merged, stack in runs.items():
        patched = pixels(adapters, BASE, *stack)
        assert np.abs(patched - pixels(adapters, merged)).mean() < 1e-4, merged
        assert np.abs(patched - before).mean() > 1e-3, "the adapter had no effect"
    assert np.array_equal(pixels(adapters, BASE, (FIRST, 0.0)), before)
    # Another widget value makes it run anew, on the same loaded model.
    again = prompt(adapters, BASE)
    again["restore"]["inputs"]["seed"] = 1
    assert np.array_equal(adapters.arrays(adapters.run(again))["keep"], before)


def test_unloading_takes_adapters_out(adapters):
    """By the host's own button, which works outside of any prompt."""
    before, adapted = pixels(adapters, BASE), pixels(adapters, BASE, (FIRST, 0.25))
    for _ in range(2):  # the host acts on it before or after the prompt that follows
        adapters.fetch("/free", {"unload_models": True, "free_memory": True})
        assert np.array_equal(pixels(adapters, BASE), before)
        assert np.array_equal(pixels(adapters, BASE, (FIRST, 0.25)), adapted)


def test_a_raw_state_dict_is_the_same_adapter(adapters):
    raw, described = (pixels(adapters, BASE, (name, 1.0)) for name in ("raw.pth", FIRST))
    assert np.array_equal(raw, described)


def test_a_folder_of_peft_in_the_menu_has_its_scale(adapters):
    peft = pixels(adapters, BASE, (str(Path("rain", "adapter_model.safetensors")), 1.0))
    assert np.array_equal(peft, pixels(adapters, BASE, (FIRST, 1.0)))


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("wrong hash.safetensors", "another base"),
        ("narrow.pth", "another model"),
        ("other codebook.safetensors", "codebook_dim"),
        ("transformer.safetensors", "a VARestorer transformer"),
        ("not there.safetensors", "models/loras"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(adapters, name, word):
    with pytest.raises(adapters.Error, match=word) as caught:
        adapters.run(prompt(adapters, BASE, (name, 0.0)))
    (message,) = caught.value.messages
    assert "\n" not in message
    assert name in message


def test_a_base_without_a_known_hash_takes_any_adapter_that_fits(adapters):
    assert pixels(adapters, BUNDLED, ("wrong hash.safetensors", 0.3)).shape[-1] == 3


def test_with_weights_off_the_device_an_adapter_does_the_same(adapters):
    """The host then adds it layer by layer, each time the layer runs, instead of once to the weights."""
    for several in ([(FIRST, 0.5)], [(FIRST, 0.5), (SECOND, 0.7)]):
        without = offloaded(adapters, *several)
        assert np.array_equal(without, pixels(adapters, BASE, *several))


def test_on_float8_weights_adapters_go_on_and_come_off(adapters):
    """The host rounds adapted weights to float8 again, by seeded chance, so close is all that they can be."""
    stack, narrow = [(FIRST, 0.5), (SECOND, 0.7)], {"weights": "fp8_e4m3fn"}
    before = pixels(adapters, BASE, **narrow)
    adapted = pixels(adapters, BASE, *stack, **narrow)
    expected = pixels(adapters, BASE, *stack)
    effect = np.abs(expected - pixels(adapters, BASE)).mean()
    assert np.abs(adapted - expected).mean() < 0.5 * effect
    assert np.abs(offloaded(adapters, *stack, **narrow) - expected).mean() < 0.5 * effect
    assert np.array_equal(pixels(adapters, BASE, (FIRST, 0.0), **narrow), before)
    adapters.fetch("/free", {"unload_models": True, "free_memory": True})
    assert np.array_equal(pixels(adapters, BASE, **narrow), before)
    assert np.array_equal(pixels(adapters, BASE, *stack, **narrow), adapted)
