"""One block with and without adapters, and its attention sub-modules, to 1e-4."""

import pytest

from varestorer_core.models.adaptive_norm import modulate

LIMIT = 1e-4


@pytest.mark.parametrize("adapters", ["lora", "nolora"])
def test_block(goldens, close, adapters):
    tensors = goldens.load("block")
    model = goldens.transformer(adapters=adapters == "lora")
    block = model.blocks[goldens.config["block_index"]]
    x, modulation, text = tensors["in.x"], tensors["in.cond_gss"], tensors["in.text_for_ca"][None]
    text_kv = block.ca.keys_values(text)
    rope = model.rope(goldens.small, 0, x.shape[1], x.device)
    out = block(x, modulation, text_kv, rope)
    close("out", out, tensors[f"out.{adapters}.out.fp32"], LIMIT)
    if adapters == "nolora":
        return
    gate1, _, scale1, _, shift1, _ = (modulation + block.ada_gss).unbind(2)
    attended = block.sa(modulate(x, scale1, shift1), rope, None, None)
    close("sa", attended, tensors["out.lora.sa"], LIMIT)
    x = x + attended * gate1
    close("ca", block.ca(block.ca_norm(x), text_kv, None), tensors["out.lora.ca"], LIMIT)
