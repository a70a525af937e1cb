"""The transformer on a CPU against the plain one."""

from dataclasses import replace

import pytest
import torch

from varestorer_core.cpu import accelerate
from varestorer_core.cpu.block import memory_shared
from varestorer_core.schedule import get_schedule

SCHEDULE = get_schedule(1.0, "0.06M")


def test_blocks_of_rows_in_bfloat16_are_the_whole_in_float32(make_transformer):
    models = [make_transformer(), make_transformer()]
    models[1].load_state_dict(models[0].state_dict())
    for block in models[1].blocks:
        block.compute_dtype = torch.bfloat16
        for part in (block.sa.mat_qkv, block.sa.proj, block.ca.mat_q, block.ca.proj, block.ffn):
            part.bfloat16()
    x, text, source = torch.randn(2, 700, 32), models[0].encode_text(), torch.randn(1, 5, 32)
    rope = torch.rand(700, 8).cos(), torch.rand(700, 8).sin()
    outs = []
    with torch.inference_mode():
        for model in models:
            dtype = model.blocks[0].compute_dtype
            block = model.blocks[0]
            context = block.context(text.modulation, source)
            kv = context.text.map(lambda t, dtype=dtype: t.to(dtype).expand(2, -1, -1, -1))
            context = replace(context, text=kv)
            outs.append(block(x, context, rope))
        block = accelerate(models[1].blocks[0])
        outs[1] = block(x, context, rope)
        own = x.clone()
        with memory_shared():
            for _ in range(2):  # the second time in the memory of the first
                again = block(own, context, rope)
                assert again.data_ptr() == own.data_ptr()
                assert torch.equal(again, outs[1])
                own.copy_(x)
    assert (outs[1] - outs[0]).norm() < 0.02 * (outs[0] - x).norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_pass_is_that_of_the_plain_network(make_transformer, dtype, monkeypatch):
    model = make_transformer()
    for block in model.blocks:
        block.compute_dtype = dtype
        for part in (
            block.sa.mat_qkv,
            block.sa.proj,
            block.ca.mat_q,
            block.ca.mat_kv,
            block.ca.proj,
            block.ffn,
        ):
            part.to(dtype)
    model.compute_dtype = dtype
    tokens = torch.randn(2, SCHEDULE.num_tokens_long - 1, 6)
    with torch.inference_mode():
        plain = model(tokens, model.encode_text(), SCHEDULE)
        fast = accelerate(model)(tokens, model.encode_text(), SCHEDULE)
        monkeypatch.setenv("VARESTORER_CPU_KERNELS", "off")
        off = model(tokens, model.encode_text(), SCHEDULE)
    assert torch.equal(off, plain)
    limit = 1e-5 if dtype == torch.float32 else 0.02
    assert (fast - plain).norm() < limit * plain.norm()


def test_a_prompt_encoded_for_inference_serves_training(make_transformer):
    model = accelerate(make_transformer()).requires_grad_(True)
    with torch.no_grad():
        text = model.encode_text()
    tokens = torch.randn(1, SCHEDULE.num_tokens - 1, 6)
    model(tokens, text, SCHEDULE).sum().backward()
    assert model.blocks[0].ca.mat_q.weight.grad is not None
