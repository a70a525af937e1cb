import pytest
import torch

from varestorer_core.models.sampling import gumbel, sample_bits
from varestorer_core.noise import tile_noise
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


def test_overlapping_tiles_share_the_finest_noise():
    start, stop = SCHEDULE.spans[-1]
    height, width = SCHEDULE.last_grid
    first = tile_noise(3, 0, 0, SCHEDULE, 4)
    second = tile_noise(3, 0, 1, SCHEDULE, 4, origin=(0, 5))
    fine, shifted = (n[start:stop].unflatten(0, (height, width)) for n in (first, second))
    assert torch.equal(fine[:, 5:], shifted[:, : width - 5])
    assert not torch.equal(first[:start], second[:start])


def test_noise_is_standard_gumbel():
    noise = tile_noise(0, 0, 0, SCHEDULE, 32)
    assert noise.mean() == pytest.approx(0.5772, abs=0.02)
    assert noise.var() == pytest.approx(torch.pi**2 / 6, abs=0.05)
    flat = noise.flatten(1)
    assert torch.corrcoef(flat.T).fill_diagonal_(0).abs().max() < 0.2
