"""Loading of networks from state dicts: layouts, dtypes, strictness, memory."""

import gc
import json
import weakref
from dataclasses import replace

import pytest
import small
import torch
from small import TOKENIZER, random_state
from torch import nn

from varestorer_core.checkpoint import CastLayers, load_tokenizer, load_transformer
from varestorer_core.checkpoint.keys import TOKENIZER_TO_OFFICIAL, apply_renames, chunk_blocks
from varestorer_core.config import to_dict
from varestorer_core.errors import CheckpointError, SettingError
from varestorer_core.models.bsq import pyramid_tokens
from varestorer_core.schedule import get_schedule

TRANSFORMER = replace(small.TRANSFORMER, depth=4)


def official_transformer(config=TRANSFORMER):
    state = {chunk_blocks(name, 2): t for name, t in random_state(config).items()}
    for name in [name for name in state if name.endswith("a.v_bias")]:
        state[name.replace("v_bias", "zero_k_bias")] = torch.zeros_like(state[name])
    return state


def official_tokenizer():
    state = {
        apply_renames(name, TOKENIZER_TO_OFFICIAL): tensor
        for name, tensor in random_state(TOKENIZER).items()
    }
    return state | {"quantizer.lfq.mask": torch.tensor([8, 4, 2, 1])}


def test_official_transformer_with_separate_adapters():
    model = load_transformer(official_transformer(), merge=False)
    expected = random_state(TRANSFORMER)
    assert model.config == TRANSFORMER
    assert not model.training
    state = model.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in expected)


def test_teacher_layout():
    config = replace(TRANSFORMER, lora_rank=0)
    model = load_transformer({"module." + k: v for k, v in official_transformer(config).items()})
    assert model.config == config
    # Without adapters, separate or merged, the bias is used.
    assert torch.equal(model.blocks[1].ca.v_bias.data, random_state(config)["blocks.1.ca.v_bias"])


def test_nested_with_bookkeeping():
    nested = {"infinity": official_transformer(), "vae": official_tokenizer(), "epoch": 3}
    assert load_transformer(nested).config.depth == TRANSFORMER.depth
    assert load_tokenizer(nested).config == TOKENIZER


@pytest.mark.parametrize("spelling", ["module", "flat", "nested"])
def test_tokenizer_spellings_give_equal_tensors(spelling):
    expected = random_state(TOKENIZER)
    state = {"module": official_tokenizer(), "flat": expected, "nested": {"vae": expected}}
    found = load_tokenizer(state[spelling]).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_tokenizer_with_adapters_in_the_encoder():
    """The names are those of an injected wrapper: an additional `.conv`, with the factors beside it."""
    plain = official_tokenizer()
    state = dict(plain)
    owners = ["encoder.conv_in.conv", "encoder.down.0.downsample.conv.conv"]
    for owner in owners:
        weight = state.pop(f"{owner}.weight")
        state[f"{owner}.conv.weight"] = weight
        state[f"{owner}.conv.bias"] = state.pop(f"{owner}.bias")
        state[f"{owner}.lora_down.weight"] = torch.randn(2, *weight.shape[1:])
        state[f"{owner}.lora_up.weight"] = torch.randn(weight.shape[0], 2, 1, 1)
    found = load_tokenizer(state).state_dict()
    for owner in owners:
        up, down = state[f"{owner}.lora_up.weight"], state[f"{owner}.lora_down.weight"]
        weight = plain[f"{owner}.weight"]
        merged = weight + (up.flatten(1) @ down.flatten(1)).view_as(weight)
        torch.testing.assert_close(found[f"{owner.removesuffix('.conv')}.weight"], merged)
    assert torch.equal(found["encoder.conv_out.weight"], plain["encoder.conv_out.conv.weight"])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, None])
def test_types(dtype):
    model = load_transformer(official_transformer(), dtype=dtype)
    matrix = dtype or torch.float32
    for name, parameter in model.named_parameters():
        inside = name.startswith("blocks.") and parameter.ndim == 2
        inside |= name.startswith("blocks.") and ".ca_norm." not in name and name.endswith(".bias")
        assert parameter.dtype == (matrix if inside else torch.float32), name
        assert not parameter.is_meta
    assert model.compute_dtype == matrix
    # Parameters that stay in float32 are not rounded, regardless of the file's dtype.
    half = {name: tensor.bfloat16() for name, tensor in official_transformer().items()}
    assert load_transformer(half).head.weight.dtype == torch.float32


def test_tokenizer_type_and_device():
    model = load_tokenizer(official_tokenizer(), dtype=torch.bfloat16, device="cpu")
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


def test_operations_and_attention_are_passed_on():
    class HostLinear(nn.Linear):
        """Stands for a host's layer."""

    class Operations:
        """A host's namespace of layers."""

        Linear = HostLinear
        LayerNorm = nn.LayerNorm
        Embedding = nn.Embedding

    def attention(q, k, v, mask=None):
        raise NotImplementedError

    model = load_transformer(official_transformer(), operations=Operations, attention=attention)
    assert isinstance(model.blocks[0].sa.proj, HostLinear)
    assert model.blocks[0].sa.attention is attention


def test_layers_that_create_their_weights_on_loading():
    """Newer ComfyUI versions create weights only when the state dict is loaded."""

    class LazyLinear(nn.Linear):
        def __init__(self, in_features, out_features, bias=True, device=None, dtype=None):
            super().__init__(in_features, out_features, bias, device="meta", dtype=dtype)
            self.weight = None

        def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
            for leaf in ("weight", "bias"):
                if prefix + leaf in state_dict:
                    setattr(self, leaf, nn.Parameter(state_dict[prefix + leaf]))

    class Operations:
        Linear = LazyLinear
        LayerNorm = nn.LayerNorm
        Embedding = nn.Embedding

    model = load_transformer(official_transformer(), operations=Operations)
    assert torch.equal(model.head.weight.data, random_state(TRANSFORMER)["head.weight"])


def test_own_metadata_reach_the_configuration():
    config = replace(TRANSFORMER, pixel_class="0.06M", lora_rank=0, lq_prior=True)
    metadata = {"varestorer.config": json.dumps(to_dict(config))}
    assert load_transformer(random_state(config), metadata).config == config


@pytest.mark.parametrize("rows", [3, 700])
def test_unconditional_rows_stay_as_in_the_file(rows):
    state = official_transformer() | {"cfg_uncond": torch.randn(rows, 128)}
    model = load_transformer(state)
    assert model.config.text_rows == rows
    assert torch.equal(model.cfg_uncond.data, state["cfg_uncond"])


def test_strictness():
    state = official_transformer()
    name = "block_chunks.1.module.0.ffn.fc2.weight"
    for change, words in (
        ({name: None}, r"1 parameter missing \(blocks\.2\.ffn\.fc2\.weight\)"),
        ({name: torch.ones(2, 2)}, r"is \(2, 2\), expected \(32, 48\)"),
        ({name: torch.full((32, 48), float("nan"))}, r"infinite.*first: blocks\.2\.ffn"),
        ({"block_chunks.0.module.0.sa.zero_k_bias": torch.ones(32)}, "must be all zero"),
    ):
        changed = {k: v for k, v in (state | change).items() if v is not None}
        with pytest.raises(CheckpointError, match=words) as caught:
            load_transformer(changed, name="varestorer.pth")
        assert "varestorer.pth" in str(caught.value)


def test_what_fits_nothing_is_named_in_the_log(caplog):
    """The file is complete, so it is used."""
    state = official_tokenizer() | {"encoder.mid.extra.weight": torch.ones(1)}
    with caplog.at_level("WARNING"):
        model = load_tokenizer(state, name="vae.pth")
    assert model.state_dict().keys() == random_state(TOKENIZER).keys()
    assert "vae.pth: 1 tensor is not part of the model" in caplog.text
    assert "encoder.mid.extra.weight" in caplog.text


def test_what_a_tokenizer_was_trained_against_is_left_out():
    names = ("image_discriminator.0.weight", "perceptual_model.lin0.weight", "lpips.net.bias")
    model = load_tokenizer(official_tokenizer() | {name: torch.ones(2) for name in names})
    assert model.state_dict().keys() == random_state(TOKENIZER).keys()


def test_beyond_the_range_of_float16():
    state = official_transformer()
    state["block_chunks.0.module.0.ffn.fc1.weight"][0, 0] = 1e6
    with pytest.raises(CheckpointError, match="use bfloat16"):
        load_transformer(state, dtype=torch.float16)
    load_transformer(state, dtype=torch.bfloat16)


def test_wrong_kind_says_what_it_is_and_where_the_right_one_is():
    with pytest.raises(CheckpointError, match=r"x is a visual tokenizer.*varestorer\.pth"):
        load_transformer(official_tokenizer(), name="x")
    with pytest.raises(CheckpointError, match=r"x is a VARestorer transformer.*infinity_vae"):
        load_tokenizer(official_transformer(), name="x")
    lora = {k: v for k, v in official_transformer().items() if ".lora_" in k}
    with pytest.raises(CheckpointError, match="x is a VARestorer adapter, expected"):
        load_transformer(lora, name="x")


@pytest.mark.parametrize("consume", [True, False])
def test_sources_are_let_go_on_request(consume):
    state = official_transformer()
    name = "block_chunks.0.module.0.ffn.fc1.weight"  # is cast
    watched = weakref.ref(state[name])
    model = load_transformer(state, dtype=torch.bfloat16, consume=consume)
    gc.collect()
    assert bool(state) != consume
    assert (watched() is None) == consume
    assert model.blocks[0].ffn.fc1.weight.dtype == torch.bfloat16


def test_loading_leaves_the_state_dict_as_it_was():
    state = official_transformer()
    before = {name: tensor.clone() for name, tensor in state.items()}
    load_transformer(state)
    assert state.keys() == before.keys()
    assert all(torch.equal(state[name], before[name]) for name in before)


FLOAT8 = [torch.float8_e4m3fn, torch.float8_e5m2]


@pytest.mark.parametrize("dtype", FLOAT8)
def test_in_float8_the_matrices_of_the_blocks_are_stored_and_nothing_else(dtype):
    model = load_transformer(
        official_transformer(), dtype=dtype, compute_dtype=torch.bfloat16, operations=CastLayers
    )
    exact = load_transformer(official_transformer()).state_dict()
    for name, tensor in model.state_dict().items():
        matrix = name.startswith("blocks.") and tensor.ndim == 2
        assert tensor.dtype == (dtype if matrix else torch.float32), name
        assert torch.equal(tensor.float(), exact[name].to(tensor.dtype).float()), name
    assert model.compute_dtype == torch.bfloat16


@pytest.mark.parametrize("compute_dtype", [torch.float32, torch.bfloat16])
def test_float8_multiplies_in_the_wider_type(compute_dtype):
    """Equals the network whose weights were rounded to float8 and stored in the wider dtype."""
    stored = load_transformer(
        official_transformer(),
        dtype=torch.float8_e4m3fn,
        compute_dtype=compute_dtype,
        operations=CastLayers,
    )
    state = {name: tensor.float() for name, tensor in stored.state_dict().items()}
    widened = load_transformer(state, dtype=compute_dtype, operations=CastLayers)
    schedule = get_schedule(1.0, "0.06M")
    bits = torch.rand(1, schedule.num_tokens, TRANSFORMER.codebook_dim) < 0.5
    with torch.inference_mode():
        first, second = (
            model(pyramid_tokens(bits, schedule), model.encode_text(), schedule)
            for model in (stored, widened)
        )
    # Biases beside the matrices are rounded to the type in which they are added, at the latest there.
    assert torch.equal(first, second)


@pytest.mark.parametrize("compute_dtype", [None, torch.float8_e5m2])
def test_float8_needs_a_type_to_multiply_in(compute_dtype):
    with pytest.raises(SettingError, match="wider"):
        load_transformer(
            official_transformer(), dtype=torch.float8_e4m3fn, compute_dtype=compute_dtype
        )


@pytest.mark.parametrize("value", [449.0, -1000.0, float("inf"), float("nan")])
def test_what_float8_cannot_hold_is_refused(value):
    state = official_transformer()
    name = next(n for n in state if n.endswith("ffn.fc1.weight"))
    state[name][0, 0] = value
    with pytest.raises(CheckpointError, match="beyond the range"):
        load_transformer(
            state, dtype=torch.float8_e4m3fn, compute_dtype=torch.bfloat16, operations=CastLayers
        )
