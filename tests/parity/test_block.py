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
    context = block.context(modulation, text)
    rope = model.rope(goldens.small, 0, x.shape[1], x.device)
    out = block(x, context, rope)
    close("out", out, tensors[f"out.{adapters}.out.fp32"], LIMIT)
    if adapters == "nolora":
        return
    gate1, _, scale1, _, shift1, _ = context.modulation.unbind(2)
    attended = block.sa(modulate(x, scale1, shift1), context.heads, rope)
    close("sa", attended, tensors["out.lora.sa"], LIMIT)
    x = x + attended * gate1
    close("ca", block.ca(block.ca_norm(x), context.text, None), tensors["out.lora.ca"], LIMIT)
