import pytest
import torch

from varestorer_core.models.bsq import (
    bits_to_codes,
    codes_to_bits,
    dequantize,
    pyramid_tokens,
    quantize,
    running_sums,
)
from varestorer_core.schedule import get_schedule

SCHEDULE = get_schedule(1.5, "0.06M")


def random_bits(batch=2, d=5):
    return torch.rand(batch, SCHEDULE.num_tokens, d) < 0.5


def test_all_bit_patterns_round_trip():
    bits = torch.cartesian_prod(*[torch.tensor([False, True])] * 6)
    codes = bits_to_codes(bits)
    assert torch.equal(codes_to_bits(codes), bits)
    assert torch.allclose(codes.norm(dim=-1), torch.ones(len(bits)))


def test_an_exact_zero_is_bit_zero():
    assert not codes_to_bits(torch.zeros(3)).any()


def test_quantising_and_dequantising_agree():
    features = torch.randn(2, 5, *SCHEDULE.last_grid)
    pyramid = quantize(features, SCHEDULE)
    assert torch.equal(dequantize(pyramid.bits, SCHEDULE), pyramid.summed_codes)


def test_more_scales_explain_more():
    features = torch.randn(1, 5, *SCHEDULE.last_grid)
    errors = [
        (features - summed).square().mean()
        for summed in running_sums(quantize(features, SCHEDULE).bits, SCHEDULE)
    ]
    assert errors[-1] < errors[0]


def test_long_tokens_are_short_tokens_and_the_last_of_same_scale():
    bits = random_bits()
    short, same, long = (pyramid_tokens(bits, SCHEDULE, v) for v in ("short", "same_scale", "long"))
    last = SCHEDULE.sizes[-1]
    assert short.shape[1] == SCHEDULE.num_tokens - 1
    assert same.shape[1] == SCHEDULE.num_tokens
    assert torch.equal(long, torch.cat([short, same[:, -last:]], dim=1))


def test_tokens_of_a_scale_know_nothing_of_later_scales():
    bits = random_bits()
    start, _ = SCHEDULE.spans[-1]
    changed = bits.clone()
    changed[:, start:] = ~changed[:, start:]
    before, after = (pyramid_tokens(b, SCHEDULE, "short") for b in (bits, changed))
    assert torch.equal(before, after)


def test_straight_through_gradient_is_the_identity_at_the_last_scale():
    features = torch.randn(1, 5, *SCHEDULE.last_grid, requires_grad=True)
    quantize(features, SCHEDULE, straight_through=True).summed_codes.sum().backward()
    assert features.grad is not None
    assert features.grad.abs().sum() > 0


def test_wrong_sizes_are_refused():
    with pytest.raises(ValueError, match="last grid"):
        quantize(torch.zeros(1, 5, 3, 3), SCHEDULE)
    with pytest.raises(ValueError, match="Bits must be"):
        dequantize(torch.zeros(1, 7, 5, dtype=torch.bool), SCHEDULE)
    with pytest.raises(ValueError, match="variant"):
        pyramid_tokens(random_bits(), SCHEDULE, "other")
