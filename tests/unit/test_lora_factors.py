"""Adapters: split, joined, merged at every strength, and the bias that they drop."""

from dataclasses import replace

import pytest
import small
import torch
import torch.nn.functional as F

from varestorer_core.checkpoint import load_transformer
from varestorer_core.checkpoint.check import expected_parameters
from varestorer_core.errors import CheckpointError
from varestorer_core.lora.factors import LowRank, join_adapter, merge_adapter, split_adapter
from varestorer_core.models.bsq import pyramid_tokens
from varestorer_core.schedule import get_schedule

CONFIG = replace(small.TRANSFORMER, pixel_class="0.06M")


def random_state(config=CONFIG, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.randn(like.shape, generator=generator).mul(0.2).to(dtype)
        for name, like in expected_parameters(config).items()
    }


def logits(model):
    """Return the one-step logits of random bits."""
    schedule = get_schedule(1.0, CONFIG.pixel_class)
    generator = torch.Generator().manual_seed(2)
    bits = torch.rand(1, schedule.num_tokens, CONFIG.codebook_dim, generator=generator) > 0.5
    with torch.no_grad():
        text = model.encode_text(None, None)
        return model(pyramid_tokens(bits, schedule, "long"), text, schedule)


def test_split_gives_the_plain_model():
    state = random_state()
    base, adapter = split_adapter(state)
    assert base.keys() == expected_parameters(replace(CONFIG, lora_rank=0)).keys()
    assert len(adapter) == 2 * 5 * CONFIG.depth
    assert base["blocks.0.ca.mat_kv.weight"] is state["blocks.0.ca.mat_kv.linear.weight"]


def test_join_undoes_split():
    state = random_state()
    joined = join_adapter(*split_adapter(state))
    assert joined.keys() == state.keys()
    assert all(joined[name] is state[name] for name in state)


def test_merged_equals_separate():
    state = random_state()
    assert state["blocks.0.ca.v_bias"].abs().max() > 0
    separate = load_transformer(state, merge=False)
    merged = load_transformer(state, merge=True)
    assert (separate.config.lora_rank, merged.config.lora_rank) == (3, 0)
    expected = logits(separate)
    torch.testing.assert_close(logits(merged), expected, rtol=0, atol=2e-5)
    # The adapters and the dropped bias have an effect, so the agreement above is meaningful.
    base = load_transformer(split_adapter(state)[0])
    assert (logits(base) - expected).abs().max() > 1e-2


def test_strengths():
    base, adapter = split_adapter(random_state())
    untouched = merge_adapter(base, adapter, 0.0)
    assert all(torch.equal(untouched[name], base[name]) for name in base)
    half, full = merge_adapter(base, adapter, 0.5), merge_adapter(base, adapter)
    name = "blocks.1.sa.mat_qkv"
    delta = adapter[f"{name}.lora_up.weight"] @ adapter[f"{name}.lora_down.weight"]
    torch.testing.assert_close(full[f"{name}.weight"], base[f"{name}.weight"] + delta)
    torch.testing.assert_close(half[f"{name}.weight"], base[f"{name}.weight"] + 0.5 * delta)
    bias = "blocks.1.ca.v_bias"
    torch.testing.assert_close(half[bias], 0.5 * base[bias])
    assert not full[bias].any()
    # The pooling of the text has no adapter and keeps its bias, and so does self-attention.
    for kept in ("text_proj_for_sos.ca.v_bias", "blocks.1.sa.v_bias", "blocks.1.ffn.fc1.weight"):
        assert full[kept] is base[kept]


def test_bias_stays_where_the_text_is_not_adapted():
    base, adapter = split_adapter(random_state())
    partial = {k: v for k, v in adapter.items() if not k.startswith("blocks.0.ca.mat_kv")}
    merged = merge_adapter(base, partial)
    assert merged["blocks.0.ca.v_bias"] is base["blocks.0.ca.v_bias"]
    assert not merged["blocks.1.ca.v_bias"].any()


def test_merging_computes_in_float32_and_keeps_the_type():
    state = random_state(dtype=torch.bfloat16)
    base, adapter = split_adapter(state)
    merged = merge_adapter(base, adapter)
    assert all(merged[name].dtype == base[name].dtype for name in base)
    name = "blocks.0.sa.proj"
    up, down = adapter[f"{name}.lora_up.weight"], adapter[f"{name}.lora_down.weight"]
    exact = (base[f"{name}.weight"].float() + up.float() @ down.float()).bfloat16()
    assert torch.equal(merged[f"{name}.weight"], exact)


@pytest.mark.parametrize("kernel", [1, 3])
def test_convolution(kernel):
    weight, down = torch.randn(6, 5, kernel, kernel), torch.randn(2, 5, kernel, kernel)
    up, x = torch.randn(6, 2, 1, 1), torch.randn(1, 5, 9, 9)
    pair = LowRank(down, up)
    assert pair.fits(weight)
    separate = F.conv2d(x, weight) + F.conv2d(F.conv2d(x, down), up)
    torch.testing.assert_close(F.conv2d(x, pair.merged(weight)), separate, rtol=1e-4, atol=1e-4)
    assert not LowRank(down, torch.randn(6, 3, 1, 1)).fits(weight)


def test_adapter_for_another_model():
    base, adapter = split_adapter(random_state())
    wide = {**adapter, "blocks.0.sa.proj.lora_down.weight": torch.ones(3, 33)}
    with pytest.raises(CheckpointError, match=r"another model.*blocks\.0\.sa\.proj"):
        merge_adapter(base, wide)
    extra = {f"blocks.9.sa.proj.lora_{part}.weight": torch.ones(3, 3) for part in ("up", "down")}
    with pytest.raises(CheckpointError, match="no such weight"):
        merge_adapter(base, extra)
    alone = {"blocks.0.sa.proj.lora_down.weight": torch.ones(3, 32)}
    with pytest.raises(CheckpointError, match="only one of the two factors"):
        join_adapter(base, alone)
