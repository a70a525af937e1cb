"""Identification of checkpoints by keys and shapes: every kind, every naming convention, common other files."""

import json

import pytest
import torch

from varestorer_core.checkpoint import identify
from varestorer_core.checkpoint.check import expected_parameters, is_finite, key_problems
from varestorer_core.checkpoint.keys import (
    TOKENIZER_TO_OFFICIAL,
    apply_renames,
    chunk_blocks,
    our_names,
    rename_tensors,
)
from varestorer_core.config import TokenizerConfig, TransformerConfig, to_dict
from varestorer_core.errors import CheckpointError

TRANSFORMER = TransformerConfig(
    embed_dim=16, depth=4, num_heads=2, codebook_dim=4, text_channels=128, ffn_dim=24, text_rows=6
)
TOKENIZER = TokenizerConfig(codebook_dim=4, base_channels=32, channel_multipliers=(1, 2, 2))


def shaped(names_to_shapes):
    """Return a state dict without memory."""
    return {name: torch.empty(shape, device="meta") for name, shape in names_to_shapes.items()}


def official(config, lora_rank=0):
    """Return a transformer in the official layout, constant buffers included."""
    config = TransformerConfig(**{**to_dict(config), "lora_rank": lora_rank})
    tensors = {chunk_blocks(name, 2): t for name, t in expected_parameters(config).items()}
    for name in [name for name in tensors if name.endswith("a.v_bias")]:
        tensors[name.replace("v_bias", "zero_k_bias")] = tensors[name]
    return tensors


def module_names(tensors):
    """Return a tokenizer with the official names, including constants."""
    renamed = {apply_renames(name, TOKENIZER_TO_OFFICIAL): t for name, t in tensors.items()}
    mask = torch.empty(4, dtype=torch.int64, device="meta")
    return renamed | {"quantizer.lfq.mask": mask, "quantize.lfq.mask": mask}


@pytest.mark.parametrize("lora_rank", [0, 3])
def test_official_transformer(lora_rank):
    info = identify(official(TRANSFORMER, lora_rank))
    assert info.kind == "transformer"
    assert info.layout == ("chunked+lora" if lora_rank else "chunked")
    assert info.config == TransformerConfig(**{**to_dict(TRANSFORMER), "lora_rank": lora_rank})
    assert info.problems == ()
    model = expected_parameters(info.config)
    assert info.counts.parameters == sum(t.numel() for t in model.values())
    assert info.counts.lora == sum(t.numel() for n, t in model.items() if ".lora_" in n)


def test_our_transformer_with_prior():
    config = TransformerConfig(**{**to_dict(TRANSFORMER), "lq_prior": True, "pixel_class": "0.06M"})
    metadata = {"varestorer.format": "1", "varestorer.config": json.dumps(to_dict(config))}
    info = identify(expected_parameters(config), metadata)
    assert (info.kind, info.layout, info.config) == ("transformer", "flat", config)


def test_one_chunk_and_many():
    names = [f"blocks.{i}.ffn.fc1.weight" for i in range(6)]
    for per_chunk in (1, 2, 3, 6):
        official_names = [chunk_blocks(name, per_chunk) for name in names]
        assert list(our_names(official_names, "transformer").values()) == names


def test_a_missing_block_is_not_papered_over():
    tensors = {k: v for k, v in official(TRANSFORMER).items() if ".0.module.1." not in k}
    info = identify(tensors)
    assert info.config == TRANSFORMER
    problems = key_problems(
        rename_tensors(tensors, "transformer"), expected_parameters(TRANSFORMER)
    )
    assert "blocks.1." in problems[0]


@pytest.mark.parametrize("spelling", ["module", "flat"])
def test_tokenizer(spelling):
    tensors = expected_parameters(TOKENIZER)
    info = identify(module_names(tensors) if spelling == "module" else tensors)
    assert (info.kind, info.layout, info.config) == ("tokenizer", spelling, TOKENIZER)
    assert info.counts.parameters == sum(t.numel() for t in tensors.values())


def test_norm_groups_come_from_the_metadata():
    config = TokenizerConfig(4, 16, (1, 2), num_res_blocks=1, norm_groups=2)
    tensors = expected_parameters(config)
    metadata = {"varestorer.config": json.dumps(to_dict(config))}
    assert identify(tensors, metadata).config == config
    info = identify(tensors)
    assert info.config is None
    assert "norm groups" in info.problems[0]


def inject_convolutions(tensors, extra):
    """Return names with adapters in the encoder's convolutions, which add one inner `.conv`."""
    result = {}
    for name, tensor in tensors.items():
        owner, _, leaf = name.rpartition(".")
        if not name.startswith("encoder.") or "norm" in name:
            result[name] = tensor
            continue
        result[f"{owner}.conv.{leaf}"] = tensor
        if leaf == "weight":
            out, inside, *kernel = tensor.shape
            result[f"{owner}.lora_down.weight"] = torch.empty(extra, inside, *kernel, device="meta")
            result[f"{owner}.lora_up.weight"] = torch.empty(out, extra, 1, 1, device="meta")
    return result


@pytest.mark.parametrize("spelling", ["module", "flat"])
def test_tokenizer_with_adapters(spelling):
    ours = expected_parameters(TOKENIZER)
    plain = module_names(ours) if spelling == "module" else dict(ours)
    tensors = inject_convolutions(plain, 2)
    info = identify(tensors)
    assert (info.kind, info.layout) == ("tokenizer", f"{spelling}+lora")
    assert info.config == TOKENIZER
    renamed = rename_tensors(tensors, "tokenizer")
    base = {name: tensor for name, tensor in renamed.items() if ".lora_" not in name}
    assert {n: t.shape for n, t in base.items()} == {n: t.shape for n, t in ours.items()}
    assert "encoder.down.0.downsample.conv.lora_up.weight" in renamed
    assert info.counts.lora == sum(t.numel() for n, t in renamed.items() if ".lora_" in n)


def test_adapter():
    lora = {k: v for k, v in official(TRANSFORMER, 3).items() if ".lora_" in k}
    info = identify(lora)
    assert info.kind == "adapter"
    assert info.config is None
    assert info.details["rank"] == 3
    assert info.details["modules"] == 5 * TRANSFORMER.depth
    assert info.counts.lora == info.counts.parameters


def test_adapter_with_another_rule_is_refused():
    lora = {k: v for k, v in official(TRANSFORMER, 3).items() if ".lora_" in k}
    info = identify(lora, {"varestorer.v_bias": "keep"})
    assert "newer version" in info.problems[0]


def test_text_encoder():
    names = {
        "shared.weight": (9, 8),
        **{f"encoder.block.{i}.layer.0.SelfAttention.q.weight": (6, 8) for i in range(3)},
    }
    info = identify(shaped(names))
    assert (info.kind, info.layout) == ("text_encoder", "encoder")
    assert info.details == {"layers": 3, "width": 8}
    decoder = {"decoder.block.0.layer.0.SelfAttention.q.weight": (6, 8)}
    assert identify(shaped(names | decoder)).layout == "encoder+decoder"


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["model.diffusion_model.input_blocks.0.0.weight"], "diffusion model"),
        (["double_blocks.0.img_attn.qkv.weight"], "Flux"),
        (
            [
                "encoder.down.0.block.0.conv1.weight",
                "decoder.up.0.block.0.conv1.weight",
                "encoder.mid.attn_1.q.weight",
            ],
            "VAE of a diffusion model",
        ),
        (["lora_unet_down_blocks_0.lora_down.weight"], "LoRA of a diffusion model"),
        (["text_model.encoder.layers.0.mlp.fc1.weight"], "CLIP"),
        (["body.0.rdb1.conv1.weight"], "ESRGAN"),
        (["model.layers.0.self_attn.q_proj.weight"], "language model"),
        (["foo.bar", "baz"], "unknown kind of checkpoint (first keys: foo.bar, baz)"),
    ],
)
def test_strangers_are_described(names, words):
    info = identify(shaped(dict.fromkeys(names, (2, 2))))
    assert info.kind == "unknown"
    assert words in info.description
    assert "cannot use" in info.problems[0]


@pytest.mark.parametrize(
    "missing", ["word_embed.weight", "cfg_uncond", "block_chunks.0.module.0.sa.scale_mul_1H11"]
)
def test_damaged_transformer_is_still_one(missing):
    tensors = official(TRANSFORMER)
    del tensors[missing]
    info = identify(tensors)
    assert info.kind == "transformer"
    assert info.config is None
    assert "is missing" in info.problems[0]


def test_hostile_shapes_and_counts_are_problems_not_crashes():
    tensors = official(TRANSFORMER)
    name = "block_chunks.0.module.0.sa.scale_mul_1H11"
    for shape in ((0,), (1, 0, 1, 1), (1, 3, 1, 1), ()):
        assert identify(tensors | shaped({name: shape})).problems
    huge = tensors | shaped({"block_chunks.99999999.module.0.ada_gss": (1, 1, 6, 16)})
    assert "has only" in identify(huge).problems[0]


def test_metadata_that_disagree_or_are_newer():
    tensors = official(TRANSFORMER)
    deeper = {**to_dict(TRANSFORMER), "depth": 5}
    for metadata, words in (
        ({"varestorer.config": json.dumps(deeper)}, "its weights have"),
        ({"varestorer.format": "2"}, "newer"),
        ({"varestorer.config": "{"}, "damaged"),
        ({"varestorer.config": "[1]"}, "damaged"),
        ({"varestorer.config": '{"new_field": 1}'}, "newer version"),
    ):
        assert words in identify(tensors, metadata).problems[0]


def test_one_parameter_twice():
    tensors = expected_parameters(TOKENIZER)
    double = tensors | {"encoder.conv_in.conv.weight": tensors["encoder.conv_in.weight"]}
    assert "twice" in identify(double).problems[0]


def test_key_bias_must_be_zero():
    name = "block_chunks.0.module.0.sa.zero_k_bias"
    assert rename_tensors({name: torch.zeros(3)}, "transformer") == {}
    with pytest.raises(CheckpointError, match="must be all zero"):
        rename_tensors({name: torch.tensor([0.0, 1e-8, 0.0])}, "transformer")


def test_key_problems_name_the_first():
    expected = shaped({f"p{i}": (2,) for i in range(5)})
    found = shaped({"p0": (3,), "q": (1,)})
    missing, unexpected, shape = key_problems(found, expected)
    assert missing == "4 parameters missing (p1, p2, p3, ...)."
    assert unexpected == "1 parameter unexpected (q)."
    assert shape == "1 parameter of the wrong shape (p0 is (3,), expected (2,))."
    assert key_problems(expected, expected) == []


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn]
)
def test_is_finite(dtype):
    tensor = torch.ones(7).to(dtype)
    assert is_finite(tensor)
    values = torch.ones(7)
    values[3] = float("nan")
    assert not is_finite(values.to(dtype))
    if dtype != torch.float8_e4m3fn:  # has no infinity
        values[3] = float("-inf")
        assert not is_finite(values.to(dtype))


def test_is_finite_of_what_cannot_be_infinite():
    assert is_finite(torch.tensor([1, 2]))
    assert is_finite(torch.empty(0))
    assert is_finite(torch.empty(3, device="meta"))
