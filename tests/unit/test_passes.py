"""Other ways to run the one-step weights: agreement with the one pass, and differences from it."""

import pytest
import torch

from varestorer_core.evaluate import CachedSteps, CausalPass, Pass, RefedSteps, Timed
from varestorer_core.loaded import LoadedStages
from varestorer_core.models.bsq import bits_to_codes, pyramid_tokens, resize
from varestorer_core.models.masks import block_causal_mask
from varestorer_core.restorer import Restorer
from varestorer_core.schedule import get_schedule

SCHEDULE = get_schedule(1.0, "0.06M")


@pytest.fixture(params=[False, True], ids=["plain", "prior"])
def model(request, make_transformer):
    return make_transformer(depth=2, lq_prior=request.param)


@pytest.fixture
def bits():
    return torch.rand(2, SCHEDULE.num_tokens, 6) > 0.5


def call(one, bits):
    tokens = pyramid_tokens(bits, SCHEDULE, "long")
    with torch.no_grad():
        return one(tokens, one.encode_text(), SCHEDULE, lq_bits=bits)


def test_the_first_refed_scale_is_that_of_the_one_pass(model, bits):
    start, stop = SCHEDULE.spans[0]
    one, refed = call(Pass(model), bits), call(RefedSteps(model), bits)
    assert refed.shape == one.shape
    assert torch.equal(refed[:, start:stop], one[:, start:stop])
    assert not torch.equal(refed, one)


def test_refed_bits_replace_those_of_the_input(model, bits):
    logits = call(RefedSteps(model), bits)
    mixed = bits.clone()
    last = SCHEDULE.spans[-1][0]
    mixed[:, :last] = (logits[..., 1] > logits[..., 0])[:, :last]
    tokens = pyramid_tokens(mixed, SCHEDULE, "long")
    with torch.no_grad():
        expected = model(tokens, model.encode_text(), SCHEDULE, lq_bits=bits)
    torch.testing.assert_close(logits[:, last:], expected[:, last:])


def test_cached_steps_equal_a_plain_masked_pass_over_their_own_bits(model, bits):
    """The cache has no effect: one pass on the bits that the steps predicted returns the same logits."""
    logits = call(CachedSteps(model), bits)
    own = logits[..., 1] > logits[..., 0]
    tokens = torch.cat(
        [
            pyramid_tokens(own, SCHEDULE, "short"),
            pyramid_tokens(bits, SCHEDULE, "long")[:, SCHEDULE.num_tokens - 1 :],
        ],
        dim=1,
    )
    length, appended = SCHEDULE.num_tokens, SCHEDULE.sizes[-1]
    mask = torch.zeros(1, 1, length + appended, length + appended)
    mask[..., :length, :length] = block_causal_mask(SCHEDULE)
    mask[..., length:, :length] = float("-inf")  # the LQ block sees itself alone
    with torch.no_grad():
        expected = model(tokens, model.encode_text(), SCHEDULE, mask=mask, lq_bits=bits)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_each_cached_scale_reads_the_sum_of_the_earlier_ones(make_transformer, bits):
    model, seen = make_transformer(), []
    model.word_embed.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    logits = call(CachedSteps(model), bits)
    own = logits[..., 1] > logits[..., 0]
    first = bits_to_codes(own[:, :1]).transpose(1, 2).unflatten(2, (1, 1))
    expected = resize(resize(first, SCHEDULE.last_grid), SCHEDULE.grids[1])
    torch.testing.assert_close(seen[1], expected.flatten(2).transpose(1, 2))
    assert len(seen) == SCHEDULE.num_scales  # the LQ pyramid once, then every scale but the first


def test_the_causal_pass_ignores_finer_scales(model, bits):
    other = bits.clone()
    start = SCHEDULE.spans[-1][0]
    other[:, start:] = ~other[:, start:]
    one, two = call(CausalPass(model), bits), call(CausalPass(model), other)
    assert torch.equal(one[:, :start], two[:, :start])
    assert not torch.equal(call(Pass(model), bits)[:, :start], call(Pass(model), other)[:, :start])


def test_a_restorer_takes_them(make_transformer, make_tokenizer):
    model = make_transformer(codebook_dim=6)
    timed = Timed(CachedSteps(model))
    tokenizer = make_tokenizer()
    lq = torch.rand(3, 40, 70)
    restored = Restorer(LoadedStages(timed, tokenizer)).restore(lq, upscale=2.0, overlap=16)
    assert restored.shape == (3, 80, 140)
    assert timed.seconds_per_tile > 0
