import pytest
import torch

from varestorer_core.errors import VARestorerError
from varestorer_core.models.bsq import pyramid_tokens
from varestorer_core.models.generation import generate
from varestorer_core.models.masks import block_causal_mask
from varestorer_core.schedule import get_schedule

SCHEDULE = get_schedule(1.333, "0.06M")


def test_cached_generation_equals_the_teacher_forced_pass(make_transformer):
    model = make_transformer()
    handed = []
    bits = generate(
        model, SCHEDULE, cfg=1.0, top_k=1, on_scale=lambda k, logits, bits: handed.append(logits)
    )
    tokens = pyramid_tokens(bits, SCHEDULE, "short")
    forced = model(tokens, model.encode_text(), SCHEDULE, mask=block_causal_mask(SCHEDULE))
    assert torch.allclose(torch.cat(handed, dim=1), forced, atol=2e-4)


def test_guidance_of_one_is_no_guidance(make_transformer):
    model, text = make_transformer(), torch.randn(1, 4, 16)
    plain = generate(model, SCHEDULE, text=text, cfg=1.0, top_k=1)
    mixed = [1.0] * (SCHEDULE.num_scales - 1) + [1.0000001]
    assert (plain == generate(model, SCHEDULE, text=text, cfg=mixed, top_k=1)).float().mean() > 0.99


def test_same_generator_same_bits(make_transformer):
    model = make_transformer()
    first, second = (
        generate(model, SCHEDULE, batch=2, top_p=0.9, generator=torch.Generator().manual_seed(3))
        for _ in range(2)
    )
    assert first.shape == (2, SCHEDULE.num_tokens, 6)
    assert torch.equal(first, second)


def test_raising_in_on_scale_cancels(make_transformer):
    seen = []

    def stop(scale_idx, logits, bits):
        seen.append(scale_idx)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(make_transformer(), SCHEDULE, on_scale=stop)
    assert seen == [0]


def test_one_value_per_scale_or_one_for_all(make_transformer):
    with pytest.raises(ValueError, match="one per scale"):
        generate(make_transformer(), SCHEDULE, cfg=[1.0, 2.0])


def test_numbers_that_are_none_never_become_bits(make_transformer):
    model = make_transformer()
    model.head.bias.fill_(float("nan"))
    with pytest.raises(VARestorerError, match="bf16 or fp32"):
        generate(model, SCHEDULE)
