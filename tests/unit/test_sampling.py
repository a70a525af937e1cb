import pytest
import torch

from varestorer_core.models.sampling import gumbel, sample_bits
from varestorer_core.schedule import get_schedule
from varestorer_core.tiles.noise import tile_noise

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


def test_noise_depends_on_seed_and_place_alone():
    noise = tile_noise(7, SCHEDULE, 4, (1.0, 2.0))
    assert noise.shape == (SCHEDULE.num_tokens, 4, 2)
    torch.rand(3)  # the global generator has no effect
    assert torch.equal(noise, tile_noise(7, SCHEDULE, 4, (1.0, 2.0)))
    for seed, origin in ((8, (1.0, 2.0)), (7, (2.0, 1.0)), (7, (0.0, 2.0)), (7, (1.0, 3.0))):
        other = tile_noise(seed, SCHEDULE, 4, origin)
        assert not any(torch.equal(noise[a:b], other[a:b]) for a, b in SCHEDULE.spans)


@pytest.mark.parametrize("seed", [0, -1, 2**63, 2**64 - 1, 10**30])
def test_any_integer_is_a_seed(seed):
    assert torch.isfinite(tile_noise(seed, SCHEDULE, 2)).all()


@pytest.mark.parametrize("columns", [0.5, 5 / 16, 54 / 128])
def test_overlapping_tiles_share_the_noise_of_every_scale(columns):
    first, second = tile_noise(3, SCHEDULE, 4), tile_noise(3, SCHEDULE, 4, (0.0, columns))
    for (height, width), (start, stop) in zip(SCHEDULE.grids, SCHEDULE.spans, strict=True):
        here, there = (n[start:stop].unflatten(0, (height, width)) for n in (first, second))
        shift = round(columns * width)  # to the nearest cell
        assert torch.equal(here[:, shift:], there[:, : width - shift])


def test_noise_is_standard_gumbel():
    noise = tile_noise(0, SCHEDULE, 32)
    assert noise.mean() == pytest.approx(0.5772, abs=0.02)
    assert noise.var() == pytest.approx(torch.pi**2 / 6, abs=0.05)
    flat = noise.flatten(1)
    assert torch.corrcoef(flat.T).fill_diagonal_(0).abs().max() < 0.2
