"""Adapters of a small transformer, loaded or refused."""

from dataclasses import replace

import pytest
import small
import torch

from varestorer_core.checkpoint.check import expected_parameters
from varestorer_core.errors import CheckpointError
from varestorer_core.lora.file import load_adapter

BASE = replace(small.TRANSFORMER, lora_rank=0, pixel_class="0.06M")
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


def refusal(state, metadata=None, **options):
    with pytest.raises(CheckpointError) as caught:
        load(state, metadata, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert "a.safetensors" in message
    return message


def assert_same_pairs(found, wanted):
    assert found.keys() == wanted.keys()
    for owner, pair in wanted.items():
        assert torch.equal(found[owner].down, pair.down)
        assert torch.allclose(found[owner].up, pair.up)
