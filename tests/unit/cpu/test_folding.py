import dataclasses

import pytest
import torch
from torch import nn

from varestorer_core.config import TransformerConfig
from varestorer_core.cpu import accelerate, onednn
from varestorer_core.cpu.folding import FoldedText
from varestorer_core.cpu.fused import linear_weights
from varestorer_core.lora.layer import LoRALinear
from varestorer_core.models.attention import attention
from varestorer_core.models.block import CrossAttention
from varestorer_core.schedule import get_schedule

SCHEDULE = get_schedule(1.0, "0.06M")
CONFIG = TransformerConfig(
    embed_dim=128, depth=1, num_heads=4, codebook_dim=8, text_channels=32, ffn_dim=64
)

pytestmark = pytest.mark.skipif(
    not onednn.multiplies(torch.float32), reason="this PyTorch has no products to fold for"
)


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.inference_mode():
        yield


def layer(*, attend=attention, rank=0, dtype=torch.float32):
    torch.manual_seed(0)
    config = dataclasses.replace(CONFIG, lora_rank=rank)
    module = accelerate(CrossAttention(config, nn, attend, dtype=dtype))
    nn.init.normal_(module.v_bias)
    return module


def plain_attention(q, k, v, mask=None):
    return attention(q, k, v, mask)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_folded_prompt_gives_the_same_in_float32(masked, batch):
    module, text, x = layer(), torch.randn(1, 9, 128), torch.randn(batch, 700, 128)
    mask = torch.zeros(1, 1, 1, 9) if masked else None
    if mask is not None:
        mask[..., 6:] = float("-inf")
    folded = module.keys_values(text).map(lambda t: t.expand(batch, -1, -1, -1))
    expected = module(x, folded, mask)  # by the keys and values, as plain layers do
    assert torch.allclose(
        folded.folded(module.mat_q, module.proj).attend(x, mask), expected, atol=2e-6
    )


def test_a_folded_prompt_is_as_close_in_bfloat16():
    exact, half = layer(), layer(dtype=torch.bfloat16)
    half.load_state_dict(exact.state_dict())
    exact.load_state_dict(half.state_dict())  # the same rounded weights
    text, x = torch.randn(1, 20, 128).bfloat16(), torch.randn(1, 600, 128).bfloat16()
    expected = exact(x.float(), exact.keys_values(text.float()), None)
    kv = half.keys_values(text)
    folded = kv.folded(half.mat_q, half.proj)
    if folded is not None:
        plain, folded = half(x, kv, None), folded.attend(x, None)
        errors = [(out.float() - expected).norm() for out in (plain, folded)]
        assert errors[1] < 1.2 * errors[0]


@pytest.mark.parametrize("case", ["long", "two prompts", "adapter", "own attention", "gradient"])
def test_keys_and_values_stay_apart_where_folding_would_not_do(case):
    module, text = layer(), torch.randn(1, 9, 128)
    if case == "long":
        text = torch.randn(1, 30, 128)
    if case == "two prompts":
        text = torch.randn(2, 9, 128)
    if case == "adapter":
        module = layer(rank=2)
    if case == "own attention":
        module = layer(attend=plain_attention)
    with torch.inference_mode(case != "gradient"), torch.set_grad_enabled(case == "gradient"):
        kv = module.keys_values(text)
        assert not isinstance(kv, FoldedText) or kv.folded(module.mat_q, module.proj) is None


def test_weights_are_those_that_a_layer_multiplies_with():
    class Host(nn.Linear):
        def forward(self, x):
            return nn.functional.linear(x, self.weight * 2, None)

    module = Host(4, 3)
    weight, bias = linear_weights(module, torch.zeros(1, 4))
    assert torch.equal(weight, module.weight * 2)
    assert bias is None
    assert linear_weights(LoRALinear(4, 3, True, 2), torch.zeros(1, 4)) is None


def test_a_whole_model_folds_its_prompt_once(make_transformer):
    model = accelerate(make_transformer())
    text = model.encode_text()
    tokens = torch.randn(3, SCHEDULE.num_tokens - 1, 6)
    model(tokens, text, SCHEDULE)
    first = [
        of.text.folded(block.ca.mat_q, block.ca.proj)
        for of, block in zip(text.blocks, model.blocks, strict=True)
    ]
    model(tokens, text.expand(3), SCHEDULE)
    assert all(of.text._made == [folded] for of, folded in zip(text.blocks, first, strict=True))
    assert None not in first
