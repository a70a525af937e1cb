"""Adapter files for a loaded network: paired, or rejected with one sentence."""

from dataclasses import replace

import pytest
import torch
from adapter_spellings import SPELLINGS, kohya, respelled
from adapters import BASE, NAMES, assert_same_pairs, factors, load, refusal

from varestorer_core.checkpoint import read_checkpoint, save_safetensors
from varestorer_core.checkpoint.check import expected_parameters
from varestorer_core.checkpoint.keys import chunk_blocks
from varestorer_core.errors import CheckpointError
from varestorer_core.lora.factors import join_adapter, pair_problems, text_biases


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
    assert "do not fit each other" in refusal(unequal)
    convolution = {name: tensor[..., None, None] for name, tensor in factors().items()}
    assert "of a convolution" in refusal(convolution)
    assert "of a convolution" in pair_problems(convolution)[0]


def test_what_is_no_adapter_is_called_what_it_is():
    assert "a VARestorer transformer" in refusal(
        {name: torch.zeros(like.shape) for name, like in expected_parameters(BASE).items()}
    )
    stranger = refusal({"lora_unet_x.lora_down.weight": torch.zeros(2, 2)})
    assert "a LoRA of a diffusion model" in stranger


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_spellings_of_other_programs_mean_the_same(spelling):
    state = factors()
    assert_same_pairs(load(respelled(state, spelling)), load(state))


def test_an_alpha_goes_into_the_factor():
    state = factors(rank=2)
    foreign = respelled(state, "kohya")
    foreign |= {f"{kohya(name.rsplit('.lora_', 1)[0])}.alpha": torch.tensor(1.0) for name in state}
    halved = {k: v * (0.5 if "lora_up" in k else 1.0) for k, v in state.items()}
    assert_same_pairs(load(foreign), load(halved))


def test_an_alpha_that_is_no_number_is_refused():
    foreign = respelled(factors(), "kohya")
    foreign[f"{kohya('blocks.0.sa.proj')}.alpha"] = torch.tensor(float("nan"))
    with pytest.raises(CheckpointError, match="not a single finite number"):
        load(foreign)


def test_a_lora_of_a_diffusion_model_is_called_one():
    foreign = {
        "lora_unet_down_blocks_0_attn.lora_down.weight": torch.ones(2, 4),
        "lora_unet_down_blocks_0_attn.lora_up.weight": torch.ones(4, 2),
    }
    with pytest.raises(CheckpointError, match="LoRA of a diffusion model"):
        load(foreign)


def test_the_adapter_of_a_whole_model_is_taken_out_of_it():
    """varestorer.pth is such a file: chunks of blocks, adapters beside the matrices."""
    state = factors()
    base = {key: torch.randn(like.shape) for key, like in expected_parameters(BASE).items()}
    whole = join_adapter(base, state)
    official = {chunk_blocks(name, 1): tensor for name, tensor in whole.items()}
    assert_same_pairs(load({"module": official}), load(state))
    with pytest.raises(CheckpointError, match="is a VARestorer transformer"):
        load(base)


def test_a_factor_that_is_there_twice_is_refused():
    foreign = respelled(factors(), "PEFT")
    foreign |= respelled(factors(), "PEFT, named")
    assert "twice" in refusal(foreign)


OWNER = "blocks.0.sa.proj"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({f"{kohya(OWNER)}.dora_scale": torch.ones(32, 1)}, "DoRA"),
        ({f"base_model.model.{OWNER}.lora_magnitude_vector": torch.ones(32)}, "DoRA"),
        ({f"{kohya(OWNER)}.lora_mid.weight": torch.ones(2, 2)}, "LoCon"),
        ({f"diffusion_model.{OWNER}.diff_b": torch.ones(32)}, "differences of whole weights"),
        ({f"base_model.model.{OWNER}.lora_B.bias": torch.ones(32)}, "biases of the factors"),
        ({"base_model.model.head.weight": torch.ones(8, 32)}, "base_model.model.head.weight"),
        (
            {
                f"lora_te_text_model_encoder.lora_{side}.weight": torch.ones(2, 2)
                for side in ("down", "up")
            },
            "no such weight",
        ),
    ],
)
def test_more_than_low_rank_factors_is_named(more, words):
    assert words in refusal({**respelled(factors(), "PEFT"), **more})


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"), "LoHa"),
        (("lokr_w1", "lokr_w2"), "LoKr"),
    ],
)
def test_other_kinds_of_adapters_of_our_network_are_named(names, words):
    foreign = {f"{kohya(OWNER)}.{name}": torch.ones(2, 2) for name in names}
    assert words in refusal(foreign)


def test_an_adapter_of_the_feed_forward_layers_alone(tmp_path):
    shapes = expected_parameters(BASE)
    out, into = shapes["blocks.1.ffn.fc1.weight"].shape
    down, up = torch.randn(2, into), torch.randn(out, 2)
    foreign = {
        "base_model.model.blocks.1.ffn.fc1.lora_A.weight": down,
        "base_model.model.blocks.1.ffn.fc1.lora_B.weight": up,
    }
    (pair,) = load(foreign).values()
    assert torch.equal(pair.up, up)


def test_an_adapter_of_a_language_model_is_not_called_one_of_diffusion():
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
    foreign = {name.format("A"): torch.ones(2, 4), name.format("B"): torch.ones(4, 2)}
    assert "a LoRA of another model" in refusal(foreign)


@pytest.mark.parametrize("shape", [(), (4,), (4, 0), (0, 4)])
def test_factors_of_other_dimensions_are_refused(shape):
    foreign = respelled(factors(), "kohya")
    foreign[f"{kohya(OWNER)}.lora_up.weight"] = torch.ones(shape)
    refusal(foreign)
