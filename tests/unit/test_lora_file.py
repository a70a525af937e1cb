"""Adapter files for a loaded network: paired, or refused in one sentence."""

from dataclasses import replace

import pytest
import torch

from varestorer_core.checkpoint import read_checkpoint, save_safetensors
from varestorer_core.checkpoint.check import expected_parameters
from varestorer_core.config import TransformerConfig
from varestorer_core.errors import CheckpointError
from varestorer_core.lora.factors import text_biases
from varestorer_core.lora.file import load_adapter

BASE = TransformerConfig(
    embed_dim=32,
    depth=2,
    num_heads=2,
    codebook_dim=4,
    text_channels=128,
    ffn_dim=48,
    text_rows=6,
    pixel_class="0.06M",
)
NAMES = ("sa.mat_qkv", "sa.proj", "ca.mat_q", "ca.mat_kv", "ca.proj")


def factors(config=BASE, rank=2):
    shapes = expected_parameters(config)
    made = {}
    for block in range(config.depth):
        for name in NAMES:
            owner = f"blocks.{block}.{name}"
            out, into = shapes[f"{owner}.weight"].shape
            made[f"{owner}.lora_down.weight"] = torch.randn(rank, into)
            made[f"{owner}.lora_up.weight"] = torch.randn(out, rank)
    return made


def load(state, metadata=None, **options):
    return load_adapter(
        state, metadata, expected_parameters(BASE), BASE, name="a.safetensors", **options
    )


def saved(tmp_path, state, config, **options):
    path = tmp_path / "a.safetensors"
    save_safetensors(state, path, kind="adapter", config=config, **options)
    return read_checkpoint(path)


def test_bare_nested_and_official_names_mean_the_same():
    state = factors()
    official = {
        key.replace("blocks.0.", "block_chunks.0.module.0.").replace(
            "blocks.1.", "block_chunks.0.module.1."
        ): value
        for key, value in state.items()
    }
    for given in (state, {"state_dict": state}, official):
        owners = load(given)
        assert set(owners) == {f"blocks.{b}.{n}" for b in range(BASE.depth) for n in NAMES}
        down = owners["blocks.1.ca.proj"].down
        assert torch.equal(down, state["blocks.1.ca.proj.lora_down.weight"])


def test_the_biases_that_fade_are_those_of_adapted_cross_attention():
    owners = load(factors())
    assert sorted(text_biases(owners)) == ["blocks.0.ca.v_bias", "blocks.1.ca.v_bias"]
    del owners["blocks.0.ca.mat_kv"]
    assert text_biases(owners) == ["blocks.1.ca.v_bias"]


def test_a_file_with_configuration_and_hash_loads_on_its_base(tmp_path):
    config = replace(BASE, lora_rank=2, lq_prior=True, text_rows=9)  # which a base may not have
    state, metadata = saved(tmp_path, factors(), config, base_sha256="ab" * 32)
    for known in ("", "ab" * 32):
        assert len(load(state, metadata, base_sha256=known)) == BASE.depth * len(NAMES)


def refusal(state, metadata=None, **options):
    with pytest.raises(CheckpointError) as caught:
        load(state, metadata, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert "a.safetensors" in message
    return message


def test_another_base_is_refused_by_its_hash(tmp_path):
    state, metadata = saved(tmp_path, factors(), BASE, base_sha256="ab" * 32)
    message = refusal(state, metadata, base_sha256="cd" * 32)
    assert "abab" in message
    assert "cdcd" in message


def test_another_architecture_is_refused(tmp_path):
    other = replace(BASE, codebook_dim=6)
    assert "codebook_dim 6" in refusal(*saved(tmp_path, factors(other), other))
    assert "another model" in refusal(factors(replace(BASE, embed_dim=64)))
    assert "another model" in refusal(factors(replace(BASE, depth=3)))


def test_damage_is_refused():
    broken = factors()
    broken["blocks.0.sa.proj.lora_up.weight"][0, 0] = float("nan")
    assert "NaN" in refusal(broken)
    alone = factors()
    del alone["blocks.0.sa.proj.lora_up.weight"]
    assert "only one" in refusal(alone)
    unequal = factors()
    unequal["blocks.0.sa.proj.lora_down.weight"] = torch.zeros(3, 32)
    assert "another model" in refusal(unequal)


def test_what_is_no_adapter_is_called_what_it_is():
    assert "a VARestorer transformer" in refusal(
        {name: torch.zeros(like.shape) for name, like in expected_parameters(BASE).items()}
    )
    stranger = refusal({"lora_unet_x.lora_down.weight": torch.zeros(2, 2)})
    assert "a LoRA of a diffusion model" in stranger
