import pytest
import torch

from varestorer_core.models.sampling import gumbel, sample_bits, tile_noise
from varestorer_core.schedule import get_schedule

SCHEDULE = get_schedule(1.0, "0.06M")


def test_argmax_without_noise_and_a_tie_is_zero():
    logits = torch.tensor([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0]])
    assert sample_bits(logits).tolist() == [True, False, False]
    noise = torch.randn(3, 2) * 9
    assert torch.equal(sample_bits(logits, noise, 0.0), sample_bits(logits))


def test_sampling_follows_the_logits():
    gap = 0.9
    logits = torch.tensor([0.0, gap]).expand(20000, 2)
    drawn = sample_bits(logits, gumbel(torch.rand(20000, 2))).float().mean()
    assert drawn == pytest.approx(torch.sigmoid(torch.tensor(gap)).item(), abs=0.015)


def test_noise_depends_on_seed_picture_and_tile_alone():
    noise = tile_noise(7, 1, 2, SCHEDULE, 4)
    assert noise.shape == (SCHEDULE.num_tokens, 4, 2)
    torch.rand(3)  # the global generator has no part in it
    assert torch.equal(noise, tile_noise(7, 1, 2, SCHEDULE, 4))
    for other in ((8, 1, 2), (7, 2, 2), (7, 1, 3), (7, 2, 1)):
        assert not torch.equal(noise, tile_noise(*other, SCHEDULE, 4))


@pytest.mark.parametrize("seed", [0, -1, 2**63, 2**64 - 1, 10**30])
def test_any_integer_is_a_seed(seed):
    assert torch.isfinite(tile_noise(seed, 0, 0, SCHEDULE, 2)).all()
