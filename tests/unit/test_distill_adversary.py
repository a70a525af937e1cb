"""The patch discriminator: its training, gradients and training state."""

import copy

import pytest
import torch

from varestorer_core.distill.adversary import Adversary, PatchDiscriminator


def pictures(seed, count=4, side=32):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture
def adversary():
    return Adversary(seed=0, learning_rate=2e-3)


def test_it_judges_every_patch_of_8_pixels():
    assert PatchDiscriminator()(pictures(0), pictures(1)).shape == (4, 1, 4, 4)


def test_it_learns_to_tell_sharp_pictures_from_soft_ones(adversary):
    lq = torch.zeros(4, 3, 32, 32)
    losses = []
    for step in range(40):
        sharp = pictures(step)
        soft = torch.nn.functional.avg_pool2d(sharp, 5, stride=1, padding=2)
        losses.append(float(adversary.learn(sharp, soft, lq)))
    assert losses[-1] < 0.5 * losses[0]
    sharp = pictures(99)
    soft = torch.nn.functional.avg_pool2d(sharp, 5, stride=1, padding=2)
    assert adversary.judge(sharp, lq) < adversary.judge(soft, lq)


def test_spectral_norms_are_one(adversary):
    for step in range(5):
        adversary.learn(pictures(step), pictures(step + 50), pictures(step + 90))
    for _ in range(100):  # each pass is one power iteration
        adversary.judge(pictures(0), pictures(1))
    adversary.eval()
    for layer in adversary.discriminator.layers:
        if isinstance(layer, torch.nn.Conv2d):
            norm = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
            assert float(norm) == pytest.approx(1, abs=0.02)


def test_what_is_judged_gets_gradients_and_the_discriminator_none(adversary):
    output = pictures(0).requires_grad_()
    adversary.judge(output, pictures(1)).backward()
    assert output.grad is not None
    assert output.grad.abs().sum() > 0
    assert not any(p.requires_grad or p.grad is not None for p in adversary.parameters())


def test_learning_leaves_what_is_judged_alone(adversary):
    output = pictures(0).requires_grad_()
    adversary.learn(pictures(1), output, pictures(2))
    assert output.grad is None
    assert not any(p.requires_grad for p in adversary.parameters())


def test_a_continued_adversary_equals_one_that_never_stopped(adversary, tmp_path):
    for step in range(3):
        adversary.learn(pictures(step), pictures(step + 50), pictures(step + 90))
    torch.save(adversary.state_dict(), tmp_path / "state.pt")
    again = Adversary(seed=1, learning_rate=2e-3)
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for one in (adversary, again):
        one.learn(pictures(7), pictures(8), pictures(9))
    for name, value in adversary.discriminator.state_dict().items():
        assert torch.equal(value, again.discriminator.state_dict()[name]), name


def test_the_seed_decides_its_start_and_nothing_else_is_random():
    before = torch.random.get_rng_state()
    first, same, other = Adversary(3), Adversary(3), Adversary(4)
    assert torch.equal(before, torch.random.get_rng_state())
    weight = [copy.deepcopy(a.discriminator.layers[0].weight) for a in (first, same, other)]
    assert torch.equal(weight[0], weight[1])
    assert not torch.equal(weight[0], weight[2])
