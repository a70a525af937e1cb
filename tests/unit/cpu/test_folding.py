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

CONFIG = TransformerConfig(
    embed_dim=128, depth=1, num_heads=4, codebook_dim=8, text_channels=32, ffn_dim=64
)

pytestmark = pytest.mark.skipif(
    not onednn._is_sound(torch.float32), reason="this PyTorch has no products to fold for"
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
    assert isinstance(folded, FoldedText)
    expected = module(x, folded, mask)  # by the keys and values, as plain layers do
    assert torch.allclose(folded.folded.attend(x, mask), expected, atol=2e-6)


def test_a_folded_prompt_is_as_close_in_bfloat16():
    exact, half = layer(), layer(dtype=torch.bfloat16)
    half.load_state_dict(exact.state_dict())
    exact.load_state_dict(half.state_dict())  # the same rounded weights
    text, x = torch.randn(1, 20, 128).bfloat16(), torch.randn(1, 600, 128).bfloat16()
    expected = exact(x.float(), exact.keys_values(text.float()), None)
    kv = half.keys_values(text)
    if isinstance(kv, FoldedText):
        plain, folded = half(x, kv, None), kv.folded.attend(x, None)
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
        assert not isinstance(module.keys_values(text), FoldedText)


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
    text = accelerate(make_transformer()).encode_text()
    assert all(isinstance(block.text, FoldedText) for block in text.blocks)
    expanded = text.expand(3).blocks
    assert all(a.text.folded is b.text.folded for a, b in zip(expanded, text.blocks, strict=True))
